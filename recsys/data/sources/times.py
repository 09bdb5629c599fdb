"""Turn whatever a log calls a time into UTC milliseconds."""

import warnings
from collections.abc import Sequence

import polars as pl

from recsys.data.sources.canonical import LATEST_MS
from recsys.errors import ConfigError

UNITS_PER_S = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
"""How many of each unit of a numeric time are a second."""
_EARLIEST_LIKELY_S = 631_152_000
"""1990: what a number has to reach in some unit to be taken for a time."""
_FLOAT_ERROR_MS = 5e-4
"""What a Float64 of our century, in any unit, may be short of the millisecond that was written."""
_ISO_FORMATS = ("%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M%#z", "%Y-%m-%d %H:%M", "%Y-%m-%d")


def unit_of(sample: pl.Series) -> str | None:
    """The unit in which most of `sample` (Float64) is between 1990 and 2100, "s" of no numbers; None where no unit is.

    Times outside are believed where their unit was told. Where not, they are another kind of number, as 20171125.
    """
    middle = sample.drop_nulls().drop_nans().median()
    if not isinstance(middle, float):
        return "s"
    return next((unit for unit, n in UNITS_PER_S.items() if _EARLIEST_LIKELY_S <= middle / n < LATEST_MS / 1000), None)


def numeric_times(value: pl.Expr, dtype: pl.DataType, unit: str) -> pl.Expr:
    """UTC milliseconds, rounded down, of numbers since the Unix epoch, or texts of them; null where there is none.

    Whole numbers are never floats on the way: a Float64 does not hold the nanoseconds of our century.
    """
    scaled = value.cast(pl.Float64, strict=False) * (1000 / UNITS_PER_S[unit])
    fractional = (scaled + _FLOAT_ERROR_MS).floor().cast(pl.Int64, strict=False)
    if not (dtype.is_integer() or dtype == pl.String):
        return fractional
    whole = value.cast(pl.Int64, strict=False)
    # Seconds beyond what milliseconds can hold would wrap around: they are cut before they are multiplied.
    exact = whole.clip(-(10**15), 10**15) * 1000 if unit == "s" else whole // (UNITS_PER_S[unit] // 1000)
    return pl.coalesce(exact, fractional)


def require_time_format(format: str) -> None:
    """ConfigError where times cannot be read by the strftime pattern `format`, with what polars says of it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pl.Series(["a time"]).str.to_datetime(format, strict=False)
    except (pl.exceptions.PolarsError, Warning) as error:
        raise ConfigError(f"time_format {format!r} cannot be used: {str(error).strip().splitlines()[0]}") from error


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
