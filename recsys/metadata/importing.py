"""Read what a shop tells of its items from a file of its own; rows that cannot be used are told one by one."""

import codecs
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recsys.data.catalogue import keys_to_ids
from recsys.data.sources.canonical import ROW_COLUMN
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
from recsys.errors import ConfigError, SourceError
from recsys.metadata.fields import (
    ID_KINDS,
    UTF8_REMEDY,
    Checked,
    can_be_named,
    check_fields,
    is_told,
    own_column,
)
from recsys.metadata.items import STANDARD, CatalogueFacts, ItemMetadata
from recsys.metadata.online_retail import online_retail_items

EXPECTED = "a catalogue as CSV with a header, or Parquet, a row an item"
NAMES: dict[str, tuple[str, ...]] = {
    "item": ("item_id", "item", "id", "sku"),
    "name": ("name", "title"),
    "category": ("category", "categories", "product_type"),
    "image": ("image", "image_url", "image_link"),
    "price": ("price",),
    "currency": ("currency",),
    "availability": ("availability", "in_stock"),
}
"""What is read of a file, and the columns that it is looked for in unless told."""
_PART_BYTES = 1 << 20
BAD_COLUMNS = {"row": pl.Int64(), "field": pl.String(), "value": pl.String(), "remedy": pl.String()}
"""Of the table of rows that cannot be used: number from 1, a header not counted; what is wrong, and what helps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportOptions:
    """How a file is read."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """Field of NAMES → column, where it is called otherwise."""
    currency: str | None = None
    """Of prices that tell none, three letters of ISO 4217."""
    separator: str | None = None
    """Between the categories of one cell; None: a cell is one category."""
    ids: str = "auto"
    """"integer": items are whole numbers; "text": keys; "auto" judges by the first 10,000 rows, as event logs do."""
    image_base: str = ""
    """Put before paths of images that are neither absolute nor URLs."""
    only_in_stock: bool | None = None
    """Whether requests that do not say otherwise want only what is in stock; None: where availability is told."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.columns) - set(NAMES))
        if unknown:
            raise ConfigError(f"columns has no field {unknown[0]!r}; it has {', '.join(NAMES)}")
        if self.ids not in ID_KINDS:
            raise ConfigError(f"ids must be one of {', '.join(ID_KINDS)}, got {self.ids!r}")
        code = self.currency
        if code is not None and not (len(code) == 3 and code.isascii() and code.isalpha() and code.isupper()):
            raise ConfigError(f"currency must be three capital letters such as EUR, got {code!r}")
        if self.separator == "":
            raise ConfigError("separator must not be empty; leave it out where a cell is one category")


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportedCatalogue:
    """What was read, and what was not."""

    metadata: ItemMetadata
    rows: int
    """Rows of the file."""
    bad: pl.DataFrame
    """Rows that were left out, with the columns of BAD_COLUMNS, ascending."""
    left_out: tuple[str, ...]
    """Columns that were left out, each with the reason."""


def import_catalogue(path: Path, options: ImportOptions, *, format: str = "columns") -> ImportedCatalogue:
    """Read the catalogue at `path`, in one of FORMATS; good rows are kept whatever the others are.

    SourceError: the file is not one, or holds no row that can be used. ConfigError: options that do not fit it.
    """
    if format not in FORMATS:
        raise ConfigError(f"unknown format {format!r}; use one of {', '.join(FORMATS)}")
    raw, options = FORMATS[format](path, options)
    found = [name for name in raw.columns if name not in (ROW_COLUMN, EXTRA_COLUMN)]
    mapped = _mapped(path, found, options)
    _require_told(path, raw.schema, mapped)
    own, left_out = _own_columns(raw, [name for name in found if name not in mapped.values()])
    if "price" in mapped and options.currency is None and "currency" not in mapped:
        _require_currencies(path, raw[mapped["price"]])
    checked = check_fields(
        raw,
        mapped,
        currency=options.currency,
        separator=options.separator,
        ids=options.ids,
        image=options.image_base,
        inexact=_inexact(path, raw.schema, mapped | {name: name for name in own}) if format == "columns" else {},
    )
    kept, bad = _without_repeats(checked)
    if kept.height == 0:
        shown = "; ".join(f"row {row}, {name} {value!r}: {remedy}" for row, name, value, remedy in bad.head(3).rows())
        raise SourceError(f"{path}: none of its {raw.height:,} rows can be used: {shown or 'there are none'}")
    frame = _numbered(kept, integers=checked.integer_ids)
    frame = frame.join(raw.select(pl.col(ROW_COLUMN).cast(pl.Int64).alias("row"), *own.values()), on="row", how="left")
    frame = frame.drop("row").sort("item_id")
    told = frame["availability"].null_count() < frame.height
    only_in_stock = told if options.only_in_stock is None else options.only_in_stock
    if only_in_stock and not told:
        raise ConfigError(
            f"{path}: only what is in stock cannot be wanted, since it tells of no item whether it is; "
            "name the column with --column availability=COLUMN, or leave --only-in-stock out"
        )
    source: dict[str, Any] = {"format": format, "path": str(path), "rows": raw.height, "bad_rows": bad.height}
    facts = CatalogueFacts.of(frame, only_in_stock=only_in_stock, source=source)
    metadata = ItemMetadata(frame.select([*STANDARD, *facts.columns]), facts)
    return ImportedCatalogue(metadata=metadata, rows=raw.height, bad=bad, left_out=tuple(left_out))


def _open_columns(path: Path, options: ImportOptions) -> tuple[pl.DataFrame, ImportOptions]:
    """Any CSV with a header, as texts, or Parquet, as it is."""
    if file_kind(path, EXPECTED) == "parquet":
        frame = scan_parquet_rows(path, EXPECTED)
    else:
        line = next(iter(head_lines(path, 1)), "")
        delimiter = max(",\t;|", key=line.count)
        names = header_of(path, EXPECTED, delimiter=delimiter, quote='"')
        frame = scan_rows(path, names, delimiter=delimiter, quote='"', header=True)
    with reading(path, EXPECTED):
        return frame.collect(), options


def _open_online_retail(path: Path, options: ImportOptions) -> tuple[pl.DataFrame, ImportOptions]:
    """UCI Online Retail, whose keys are texts and whose prices are pounds."""
    if options != ImportOptions(only_in_stock=options.only_in_stock):
        raise ConfigError("format online-retail has no options; leave columns, currency, separator, ids and images out")
    return online_retail_items(path), ImportOptions(currency="GBP", ids="text", only_in_stock=options.only_in_stock)


FORMATS: dict[str, Callable[[Path, ImportOptions], tuple[pl.DataFrame, ImportOptions]]] = {
    "columns": _open_columns,
    "online-retail": _open_online_retail,
}
"""What `--format` may be: a file → its rows, with ROW_COLUMN, and how to read them."""


def _mapped(path: Path, found: list[str], options: ImportOptions) -> dict[str, str]:
    """Field → column."""
    remedy = "say which column is which: --column item=COLUMN, and likewise " + ", ".join(list(NAMES)[1:])
    require_columns(path, EXPECTED, found, list(options.columns.values()), remedy)
    taken = set(options.columns.values())
    mapped = dict(options.columns)
    for name, spellings in NAMES.items():
        there = [spelling for spelling in spellings if spelling in found and spelling not in taken]
        if name not in mapped and there:
            mapped[name] = there[0]
    if "item" not in mapped:
        require_columns(path, EXPECTED, found, [NAMES["item"][0]], remedy)
    return mapped


def _require_told(path: Path, schema: pl.Schema, mapped: Mapping[str, str]) -> None:
    """SourceError names a column that is of no type that its field could be read of."""
    for name, column in mapped.items():
        remedy = f"or name another one with --column {name}=COLUMN"
        if not can_be_named(column):
            raise SourceError(f"{path}: column {column!r} is called like a pattern; rename it, {remedy}")
        if not is_told(name, schema[column]):
            expected = "text or a list of texts" if name == "category" else "text or numbers"
            raise SourceError(
                f"{path}: column {column!r}, read as {name}, holds {schema[column]}; expected {expected}: cast it, "
                f"{remedy}"
            )


def _is_utf8(path: Path) -> bool:
    """Whether every byte of a text is; a Parquet file knows its own texts."""
    if file_kind(path, EXPECTED) == "parquet":
        return True
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with path.open("rb") as file:
            while part := file.read(_PART_BYTES):
                decoder.decode(part)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _inexact(path: Path, schema: pl.Schema, columns: Mapping[str, str]) -> dict[str, str]:
    """Those of `columns` that are texts, where the file is not all UTF-8; SourceError where its header is not."""
    if _is_utf8(path):
        return {}
    broken = [name for name in schema.names() if "\ufffd" in name]
    if broken:
        raise SourceError(f"{path}: the column {broken[0]!r} of its header is not UTF-8; {UTF8_REMEDY}")
    return {name: column for name, column in columns.items() if schema[column] == pl.String}


def _require_currencies(path: Path, prices: pl.Series) -> None:
    """ConfigError where no price says in what it is."""
    if prices.dtype.is_numeric() or not prices.cast(pl.String).str.contains(r"[A-Za-z]{3}").any():
        raise ConfigError(
            f"{path}: its prices tell no currency; say --currency EUR, or name the column with --column currency=COLUMN"
        )


def _without_repeats(checked: Checked) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Good rows, the first of each item, and all others with what is wrong."""
    good = checked.good.with_columns(pl.col("row").min().over("item").alias("first"))
    repeated = good.filter(pl.col("row") != pl.col("first"))
    told = repeated.select(
        "row",
        pl.lit("item").alias("field"),
        pl.col("item").cast(pl.String).alias("value"),
        pl.format("row {} has this item already and is kept; keep one row an item", "first").alias("remedy"),
    )
    kept = good.filter(pl.col("row") == pl.col("first")).drop("first")
    return kept, pl.concat([checked.bad, told.cast(BAD_COLUMNS)]).sort("row")  # type: ignore[arg-type]


def _numbered(kept: pl.DataFrame, *, integers: bool) -> pl.DataFrame:
    """With item_id, and item_key where items have keys, instead of item."""
    if integers:
        keys = pl.Series("item_key", [None], dtype=pl.String).new_from_index(0, kept.height)
        return kept.with_columns(pl.col("item").alias("item_id"), keys).drop("item")
    ids = pl.Series("item_id", keys_to_ids(kept["item"]) if kept.height else np.empty(0), dtype=pl.Int64)
    return kept.with_columns(ids, pl.col("item").alias("item_key")).drop("item")


def _own_columns(raw: pl.DataFrame, names: list[str]) -> tuple[dict[str, pl.Expr], list[str]]:
    """The shop's own columns, as they are kept, and why others are not."""
    kept, left_out = {}, []
    for name in names:
        column = own_column(name, raw.schema[name])
        if not can_be_named(name):
            left_out.append(f"{name}: is called like a pattern; rename it")
        elif name in STANDARD or name == "row":
            left_out.append(f"{name}: another column was named for it, or it is a name of our own; rename it")
        elif column is None:
            left_out.append(f"{name}: holds {raw.schema[name]}; cast it to text, a number or a list of these")
        else:
            kept[name] = column
    return kept, left_out
