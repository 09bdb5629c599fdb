"""Read any CSV or Parquet file, told which column is which."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from recsys.data.sources.canonical import (
    EVENT_NAMES,
    ROW_COLUMN,
    Reason,
    SourceFormat,
    canonical,
    event_type_expression,
    event_type_of,
    filled,
    key_reasons,
    time_reasons,
)
from recsys.data.sources.files import (
    EXTRA_COLUMN,
    file_kind,
    head_lines,
    header_of,
    reading,
    require_columns,
    scan_parquet_rows,
    scan_rows,
)
from recsys.data.sources.times import UNITS_PER_S, numeric_times, parse_text_times, require_time_format, unit_of
from recsys.errors import ConfigError, SourceError

_EXPECTED = "an event log as CSV with a header, or Parquet"
_DELIMITERS = ",\t;|"
SAMPLE_ROWS = 10_000
"""Rows that units and kinds of ids are judged by."""
_TIME_UNITS = ("auto", *UNITS_PER_S, "iso")
ID_KINDS = ("auto", "integer", "text")


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnsOptions:
    """Which column is which."""

    user: str = "user"
    """Column of the user."""
    item: str = "item"
    """Column of the item."""
    category: str | None = None
    """Column of the item's category; None: every item's category is unknown."""
    time: str = "time"
    """Column of the time."""
    time_unit: str = "auto"
    """"s", "ms", "us" or "ns" since the Unix epoch, "iso" for dates, "auto" to judge by the first 10,000 rows:
    numbers that are between 1990 and 2100 in no unit are refused."""
    time_format: str | None = None
    """strftime pattern of the dates, where they are not ISO 8601."""
    type: str | None = None
    """Column of what the user did; None: every event is `default_type`."""
    type_values: Mapping[str, str] = field(default_factory=dict)
    """What the type column's values mean, as "view" → "click"; common names are known without it."""
    default_type: str = "click"
    """Type of every event where there is no type column."""
    delimiter: str | None = None
    """One character between columns of a CSV; None judges by the header: comma, tab, semicolon or bar."""
    quote: bool = True
    """Whether a CSV puts fields that hold the delimiter between double quotes."""
    ids: str = "auto"
    """"integer": items and categories are whole numbers, 007 is 7; "text": keys; "auto" judges by the first 10,000
    rows, and takes no 007 for 7."""

    def __post_init__(self) -> None:
        if self.time_unit not in _TIME_UNITS:
            raise ConfigError(f"time_unit must be one of {', '.join(_TIME_UNITS)}, got {self.time_unit!r}")
        if self.ids not in ID_KINDS:
            raise ConfigError(f"ids must be one of {', '.join(ID_KINDS)}, got {self.ids!r}")
        if self.delimiter is not None and len(self.delimiter.encode()) != 1:
            raise ConfigError(f"delimiter must be one ASCII character, got {self.delimiter!r}")
        if self.time_format is not None and self.time_unit not in ("auto", "iso"):
            raise ConfigError(f"time_format is for dates; leave time_unit {self.time_unit!r} out")
        if self.time_format is not None:
            require_time_format(self.time_format)
        for name in [self.default_type, *self.type_values.values()]:
            event_type_of(name)


def open_columns(path: Path, options: ColumnsOptions) -> pl.LazyFrame:
    """The log in canonical columns; SourceError names a column that is not in the file."""
    frame, broken = _scan(path, options)
    schema = frame.collect_schema()
    wanted = [options.user, options.item, options.time]
    wanted += [column for column in (options.category, options.type) if column is not None]
    found = [name for name in schema.names() if name not in (ROW_COLUMN, EXTRA_COLUMN)]
    require_columns(
        path, _EXPECTED, found, wanted, "say which column is which: --user, --item, --category, --time, --type"
    )
    for name in wanted:
        if schema[name].is_nested() or schema[name] in (pl.Binary, pl.Duration):
            raise SourceError(f"{path}: column {name!r} holds {schema[name]}; expected text, numbers or times")
    if schema[options.time] == pl.Time:
        raise SourceError(f"{path}: column {options.time!r} holds times of day; expected times with their date")
    with reading(path, COLUMNS.name, quoted=has_quotes(path, options)):
        sample = frame.select(list(dict.fromkeys(wanted))).head(SAMPLE_ROWS).collect(engine="streaming")
    user = text_of(options.user, schema[options.user])
    raw_item, item, item_is_int = id_of(options.item, schema, sample, options.ids)
    reasons = [*broken, ("missing user", user.is_null())]
    judged = options.ids == "auto"
    reasons += _id_reasons("item", raw_item, item, integers=item_is_int, required=True, judged=judged)
    category = pl.lit(None, dtype=pl.Int64)
    if options.category is not None:
        raw_category, category, is_int = id_of(options.category, schema, sample, options.ids)
        reasons += _id_reasons("category", raw_category, category, integers=is_int, required=False, judged=judged)
    time_ms = _time(path, options, schema[options.time], sample[options.time])
    reasons += time_reasons(time_ms)
    event_type = pl.lit(int(event_type_of(options.default_type)), dtype=pl.UInt8)
    if options.type is not None:
        meaning = EVENT_NAMES | {key.lower(): event_type_of(value) for key, value in options.type_values.items()}
        told = text_of(options.type, schema[options.type]).str.to_lowercase()
        event_type = event_type_expression(told, meaning)
        reasons.append(("unknown event type", event_type.is_null()))
    return canonical(
        frame, user=user, item=item, category=category, time_ms=time_ms, event_type=event_type, reasons=reasons
    )


def has_quotes(path: Path, options: ColumnsOptions) -> bool:
    """Whether fields of the log at `path` may stand between double quotes."""
    return options.quote and file_kind(path, _EXPECTED) == "text"


def _scan(path: Path, options: ColumnsOptions) -> tuple[pl.LazyFrame, list[Reason]]:
    if file_kind(path, _EXPECTED) == "parquet":
        return scan_parquet_rows(path, _EXPECTED), []
    quote = '"' if options.quote else None
    line = next(iter(head_lines(path, 1)), "")
    delimiter = options.delimiter or max(_DELIMITERS, key=line.count)
    names = header_of(path, _EXPECTED, delimiter=delimiter, quote=quote)
    frame = scan_rows(path, names, delimiter=delimiter, quote=quote, header=True)
    empty = pl.all_horizontal(pl.col(names).is_null())
    return frame, [("empty line", empty), ("wrong number of columns", pl.col(EXTRA_COLUMN).is_not_null())]


def text_of(name: str, dtype: pl.DataType) -> pl.Expr:
    """A column as text; 17.0, a whole number that once shared its column with a missing one, is "17"."""
    if dtype.is_float():
        column = pl.col(name)
        whole = pl.when(column == column.floor()).then(column.cast(pl.Int64, strict=False).cast(pl.String))
        return pl.coalesce(whole, pl.when(column.is_finite()).then(column.cast(pl.String)))
    if dtype == pl.String:
        return filled(name)
    return pl.col(name).cast(pl.String)


def id_of(name: str, schema: pl.Schema, sample: pl.DataFrame, ids: str) -> tuple[pl.Expr, pl.Expr, bool]:
    """Raw expression, parsed expression (Int64 or String) and whether ids are integers.

    "auto" takes 007 and +7 for texts, since they are not the item that 7 is: one in the sample makes all ids texts, one
    further down has no number. Who says "integer" means 7 by all of them.
    """
    raw = text_of(name, schema[name])
    number = raw.cast(pl.Int64, strict=False)
    if ids != "auto":
        return raw, number if ids == "integer" else raw, ids == "integer"
    number = pl.when(~_padded(raw)).then(number)
    values = sample.select(raw.alias("raw"), number.alias("number"), _padded(raw).alias("padded")).drop_nulls("raw")
    if len(values) == 0:
        integers = schema[name].is_integer()
    else:
        integers = not values["padded"].any() and values["number"].count() >= 0.99 * len(values)
    return raw, number if integers else raw, integers


def _padded(raw: pl.Expr) -> pl.Expr:
    """Whether a text is a whole number that is written otherwise: 007, +7, -0."""
    return raw.str.contains(r"^(\+[0-9]+|-?0[0-9]+|-0)$")


def _id_reasons(
    name: str, raw: pl.Expr, parsed: pl.Expr, *, integers: bool, required: bool, judged: bool
) -> list[Reason]:
    """What can be wrong with an item or category; `judged`: nobody said whether they are numbers."""
    spelling = [(f"{name} has a plus or leading zeros", _padded(raw))] if judged and integers else []
    return [*spelling, *key_reasons(name, raw, parsed, integers=integers, required=required)]


def _time(path: Path, options: ColumnsOptions, dtype: pl.DataType, sample: pl.Series) -> pl.Expr:
    unit, column = options.time_unit, pl.col(options.time)
    if dtype.is_temporal():
        return parse_text_times(column, dtype)
    if options.time_format is not None or unit == "iso":
        formats = [options.time_format] if options.time_format else []
        return parse_text_times(text_of(options.time, dtype), dtype, formats)
    if not dtype.is_numeric():
        column, dtype = text_of(options.time, dtype), pl.String()
        sample = sample.cast(pl.String).str.strip_chars()
    numbers = sample.cast(pl.Float64, strict=False).drop_nulls()
    if unit == "auto":
        if 2 * len(numbers) < len(sample.drop_nulls()):
            return parse_text_times(column, dtype)
        unit = _judged_unit(path, options.time, numbers)
    return numeric_times(column, dtype, unit)


def _judged_unit(path: Path, name: str, numbers: pl.Series) -> str:
    unit = unit_of(numbers)
    if unit is None:
        first = numbers.drop_nans()[0]
        raise SourceError(
            f"{path}: expected times in column {name!r}, found numbers as {first:.15g}, most of which no unit brings "
            "between 1990 and 2100; say how dates are written, as `--time-format %Y%m%d`, or of what counts since 1970 "
            "the `--time-unit`: s, ms, us or ns; days of a spreadsheet must be written as dates"
        )
    return unit


COLUMNS = SourceFormat(
    name="columns",
    summary="any CSV with a header, or Parquet: you say which column is which",
    columns=(
        ("--user", "user, any text"),
        ("--item", "item, whole numbers or any text"),
        ("--category", "category, whole numbers or any text; may be left out"),
        ("--time", "unix s/ms/us/ns from 1990 on, ISO 8601, or a datetime column; else --time-unit or --time-format"),
        ("--type", "what the user did; may be left out"),
    ),
    example="recollect data import log.parquet --format columns --user uid --item sku --category dept --time ts",
    options=ColumnsOptions,
    open=open_columns,
)
