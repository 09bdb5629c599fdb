"""Turn whatever a log calls a time into UTC milliseconds."""

from collections.abc import Sequence

import polars as pl

MS_PER_UNIT = {"s": 1000.0, "ms": 1.0, "us": 1e-3, "ns": 1e-6}
"""Milliseconds in one unit of a numeric time."""
_ISO_FORMATS = ("%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M%#z", "%Y-%m-%d %H:%M", "%Y-%m-%d")


def unit_of(sample: pl.Series) -> str:
    """The unit in which most of `sample` falls into our century: "s", "ms", "us" or "ns"."""
    middle = sample.cast(pl.Float64, strict=False).abs().drop_nulls().drop_nans().median()
    size = float(middle) if isinstance(middle, (int, float)) else 0.0
    return next((unit for unit, limit in (("s", 1e11), ("ms", 1e14), ("us", 1e17)) if size < limit), "ns")


def numeric_times(value: pl.Expr, unit: str) -> pl.Expr:
    """UTC milliseconds of numbers since the Unix epoch, null where there is no number."""
    scaled = value.cast(pl.Float64, strict=False) * MS_PER_UNIT[unit]
    return scaled.floor().cast(pl.Int64, strict=False)


def parse_text_times(value: pl.Expr, dtype: pl.DataType, formats: Sequence[str] = ()) -> pl.Expr:
    """UTC milliseconds of dates: a date or datetime column, or text in ISO 8601 or one of `formats` (strftime).

    A time without a zone is taken as UTC.
    """
    if isinstance(dtype, pl.Date):
        return value.cast(pl.Datetime("ms")).cast(pl.Int64)
    if isinstance(dtype, pl.Datetime):
        return value.dt.epoch("ms")
    text = value.cast(pl.String).str.strip_chars()
    iso = text.str.replace(r"^(\d{4}-\d\d-\d\d)[Tt]", "$1 ").str.replace(r"[Zz]$", "+00:00")
    attempts = [_parsed(text, format) for format in formats] + [_parsed(iso, format) for format in _ISO_FORMATS]
    return pl.coalesce(attempts)


def _parsed(text: pl.Expr, format: str) -> pl.Expr:
    return text.str.to_datetime(format, strict=False, time_unit="ms").cast(pl.Int64)
