"""What the fields of a catalogue's row mean, and what can be wrong with each."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from recsys.data.sources.canonical import ROW_COLUMN
from recsys.data.sources.columns import ID_KINDS, SAMPLE_ROWS, id_of, text_of
from recsys.data.sources.files import EXTRA_COLUMN
from recsys.metadata.items import Availability

__all__ = ["ID_KINDS", "UTF8_REMEDY", "Checked", "can_be_named", "check_fields", "is_told", "own_column"]

MAX_TEXT = 4_000
"""Most characters of a name, a category or a path; they travel with every answer."""
MAX_PRICE = 1e9
_DECIMALS = 4
_SHOWN = 60
"""Characters of a wrong value that are repeated."""
_PRICE = r"^(?:([A-Za-z]{3})\s*)?(\d+(?:\.\d+)?)\s*([A-Za-z]{3})?$"
_CURRENCY = r"^[A-Z]{3}$"
_URL_OR_ABSOLUTE = r"^(?:[A-Za-z][A-Za-z0-9+.-]*:|/)"
_WORDS: dict[str, Availability] = {
    "instock": Availability.IN_STOCK,
    "available": Availability.IN_STOCK,
    "true": Availability.IN_STOCK,
    "yes": Availability.IN_STOCK,
    "outofstock": Availability.OUT_OF_STOCK,
    "soldout": Availability.OUT_OF_STOCK,
    "unavailable": Availability.OUT_OF_STOCK,
    "discontinued": Availability.OUT_OF_STOCK,
    "false": Availability.OUT_OF_STOCK,
    "no": Availability.OUT_OF_STOCK,
    "preorder": Availability.PREORDER,
    "backorder": Availability.BACKORDER,
}
"""What feeds call it, without spaces, hyphens and underscores; schema.org's addresses end in the same words."""

UTF8_REMEDY = "save the file as UTF-8, for instance with `iconv -f latin1 -t utf-8`"
_REPLACED = "\ufffd"
"""What stands where bytes were no UTF-8."""

Problem = tuple[str, pl.Expr, pl.Expr, str]
"""Field, the condition under which it is wrong, its value as text, and what helps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """Rows that can be used and rows that cannot."""

    good: pl.DataFrame
    """row, item (Int64 or String), name, category, image, price, currency, availability."""
    bad: pl.DataFrame
    """row, field, value, remedy: the first thing that is wrong."""
    integer_ids: bool
    """Whether items are whole numbers."""


def check_fields(
    raw: pl.DataFrame,
    mapped: Mapping[str, str],
    *,
    currency: str | None,
    separator: str | None,
    ids: str,
    image: str,
    inexact: Mapping[str, str],
) -> Checked:
    """Read the `mapped` columns (field → column) of `raw`, which has a ROW_COLUMN and of which `is_told` each can be.

    `inexact` are those texts, and those of the shop's own, in which bytes may have been replaced.
    """
    schema = raw.schema
    raw_item, item, integers = id_of(mapped["item"], schema, raw.head(SAMPLE_ROWS), ids)
    problems: list[Problem] = [("item", raw_item.is_null(), pl.lit(""), "is missing; give every row the item's id")]
    if EXTRA_COLUMN in schema:
        extra = pl.col(EXTRA_COLUMN)
        problems.append(("row", extra.is_not_null(), extra, "has more columns than the header; quote what has commas"))
    for name, column in inexact.items():
        text = pl.col(column)
        problems.append((name, text.str.contains(_REPLACED, literal=True), text, f"is not UTF-8; {UTF8_REMEDY}"))
    if integers:
        problems += [
            ("item", item.is_null(), raw_item, "is not a whole number; send one, or read all ids with --ids text"),
            ("item", item < 0, raw_item, "is negative; send a whole number from 0"),
        ]
    values: dict[str, pl.Expr] = {"item": item}
    values["name"] = _text("name", mapped, schema)
    values["image"] = _image(mapped, schema, image)
    values["category"], too_long = _categories(mapped, schema, separator)
    long = f"is longer than {MAX_TEXT:,} characters; shorten it"
    problems += [(name, values[name].str.len_chars() > MAX_TEXT, values[name], long) for name in ("name", "image")]
    problems.append(("category", too_long, values["category"].list.join(", "), long))
    values["price"], values["currency"], wrong = _prices(mapped, schema, currency)
    problems += wrong
    values["availability"], wrong = _availability(mapped, schema)
    problems += wrong
    told = [
        pl.when(condition).then(
            pl.struct(
                pl.lit(name).alias("field"),
                value.cast(pl.String).str.slice(0, _SHOWN).alias("value"),
                pl.lit(remedy).alias("remedy"),
            )
        )
        for name, condition, value, remedy in problems
    ]
    frame = raw.select(
        pl.col(ROW_COLUMN).cast(pl.Int64).alias("row"),
        *(value.alias(name) for name, value in values.items()),
        pl.coalesce(told).alias("wrong"),
    )
    wrong_rows = frame.filter(pl.col("wrong").struct.field("field").is_not_null())
    bad = wrong_rows.select("row", pl.col("wrong").struct.unnest())
    good = frame.filter(pl.col("wrong").struct.field("field").is_null()).drop("wrong")
    return Checked(good=good, bad=bad, integer_ids=integers)


def is_told(name: str, dtype: pl.DataType) -> bool:
    """Whether a column of that type can say what a field is: text or what has one, for categories a list of such."""
    return _has_text(dtype) or (name == "category" and _has_text(_member_of(dtype)))


def can_be_named(column: str) -> bool:
    """Whether a column is what its name says: polars reads `*`, and what stands between `^` and `$`, as patterns."""
    return column != "*" and not (column.startswith("^") and column.endswith("$"))


def own_column(name: str, dtype: pl.DataType) -> pl.Expr | None:
    """A column of the shop's own as it is kept: text, number, truth value, date, list of texts; None for others."""
    column, member = pl.col(name), _member_of(dtype)
    if _has_text(member):
        return _texts_of(name, dtype)
    if not _has_text(dtype):
        return None
    if dtype == pl.String:
        return _filled(column).alias(name)
    if isinstance(dtype, pl.Decimal):
        return column.cast(pl.Float64)
    if dtype.is_float():
        return column.fill_nan(None)
    if dtype.is_numeric() or dtype in (pl.Boolean, pl.Date) or isinstance(dtype, pl.Datetime):
        return column
    return column.cast(pl.String)


def _has_text(dtype: pl.DataType | None) -> bool:
    if dtype is None:
        return False
    named = isinstance(dtype, pl.String | pl.Categorical | pl.Enum | pl.Null)
    return named or dtype.is_numeric() or dtype == pl.Boolean or isinstance(dtype, pl.Date | pl.Datetime | pl.Time)


def _member_of(dtype: pl.DataType) -> pl.DataType | None:
    """What a list holds; None for what is none."""
    inner = dtype.inner if isinstance(dtype, pl.List | pl.Array) else None
    return inner if isinstance(inner, pl.DataType) else None


def _texts_of(name: str, dtype: pl.DataType) -> pl.Expr:
    """A column of lists as lists of texts; a number that is none is missing."""
    lists = pl.col(name).arr.to_list() if isinstance(dtype, pl.Array) else pl.col(name)
    member = _member_of(dtype)
    if member is not None and member.is_float():
        lists = lists.list.eval(pl.element().fill_nan(None))
    return lists.cast(pl.List(pl.String))


def _filled(text: pl.Expr) -> pl.Expr:
    """A text without surrounding space, null where nothing is left."""
    stripped = text.str.strip_chars()
    return pl.when(stripped != "").then(stripped)


def _text(name: str, mapped: Mapping[str, str], schema: pl.Schema) -> pl.Expr:
    if name not in mapped:
        return pl.lit(None, dtype=pl.String)
    return _filled(text_of(mapped[name], schema[mapped[name]]))


def _image(mapped: Mapping[str, str], schema: pl.Schema, base: str) -> pl.Expr:
    image = _text("image", mapped, schema)
    if not base:
        return image
    return pl.when(image.str.contains(_URL_OR_ABSOLUTE)).then(image).otherwise(pl.lit(base) + image)


def _categories(mapped: Mapping[str, str], schema: pl.Schema, separator: str | None) -> tuple[pl.Expr, pl.Expr]:
    """Names of categories, each once, null for none; and whether one of them is too long."""
    if "category" not in mapped:
        return pl.lit(None, dtype=pl.List(pl.String)), pl.lit(False)
    column = mapped["category"]
    if isinstance(schema[column], pl.List | pl.Array):
        names = _texts_of(column, schema[column])
    elif separator is None:
        names = pl.concat_list(text_of(column, schema[column]))
    else:
        names = text_of(column, schema[column]).str.split(separator)
    stripped = names.list.eval(pl.element().str.strip_chars())
    names = stripped.list.eval(pl.element().filter(pl.element() != "")).list.unique(maintain_order=True)
    longest = names.list.eval(pl.element().str.len_chars()).list.max()
    return pl.when(names.list.len() > 0).then(names), longest > MAX_TEXT


def _prices(
    mapped: Mapping[str, str], schema: pl.Schema, default: str | None
) -> tuple[pl.Expr, pl.Expr, list[Problem]]:
    """Amount, currency (null without an amount), and what can be wrong with them."""
    if "price" not in mapped:
        return pl.lit(None, dtype=pl.Float64), pl.lit(None, dtype=pl.String), []
    column = mapped["price"]
    raw = text_of(column, schema[column])
    if schema[column].is_numeric():
        amount, inside = pl.col(column).cast(pl.Float64).fill_nan(None), pl.lit(None, dtype=pl.String)
        missing = amount.is_null()
        raw = pl.col(column).cast(pl.String)
    else:
        groups = raw.str.extract_groups(_PRICE)
        amount = groups.struct.field("2").cast(pl.Float64)
        inside = pl.coalesce(groups.struct.field("1"), groups.struct.field("3")).str.to_uppercase()
        missing = raw.is_null()
    apart = _text("currency", mapped, schema).str.to_uppercase()
    currency = pl.coalesce(inside, apart, pl.lit(default, dtype=pl.String))
    told = amount.is_not_null()
    wrong: list[Problem] = [
        ("price", ~missing & amount.is_null(), raw, "is no amount; write 12.50, or 12.50 EUR"),
        ("price", (amount < 0) | (amount > MAX_PRICE), raw, f"is not from 0 to {MAX_PRICE:,.0f}; mend it"),
        ("currency", told & currency.is_null(), pl.lit(""), "is missing; add it, or say --currency EUR"),
        ("currency", told & (inside != apart), apart, "is not that of the price in this row; mend one of them"),
        ("currency", told & ~currency.str.contains(_CURRENCY), currency, "is no code of ISO 4217; write EUR"),
    ]
    return amount.round(_DECIMALS), pl.when(told).then(currency), wrong


def _availability(mapped: Mapping[str, str], schema: pl.Schema) -> tuple[pl.Expr, list[Problem]]:
    """in_stock, out_of_stock, preorder or backorder, null where it is not told; and what can be wrong."""
    if "availability" not in mapped:
        return pl.lit(None, dtype=pl.String), []
    column = mapped["availability"]
    dtype = schema[column]
    raw = _filled(text_of(column, dtype))
    word = raw.str.to_lowercase().str.replace(r"^https?://schema\.org/", "").str.replace_all(r"[\s_-]", "")
    named = word.replace_strict(
        {spelling: str(each) for spelling, each in _WORDS.items()}, default=None, return_dtype=pl.String
    )
    count = raw.cast(pl.Float64, strict=False)
    counted = (
        pl.when(count > 0)
        .then(pl.lit(str(Availability.IN_STOCK)))
        .when(count == 0)
        .then(pl.lit(str(Availability.OUT_OF_STOCK)))
    )
    availability = pl.coalesce(named, counted)
    remedy = f"tells no availability; write {', '.join(Availability)}, true, false, or how many there are"
    return availability, [("availability", raw.is_not_null() & availability.is_null(), raw, remedy)]
