"""Read Tmall's user_log (IJCAI-15, repeat buyers): one action a line, dated to the day."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from recsys.data.event_store import EventType
from recsys.data.sources.canonical import SourceFormat, filled
from recsys.data.sources.files import header_of, require_columns, require_text, scan_rows
from recsys.data.sources.integer_log import integer_log
from recsys.errors import ConfigError

_ACTIONS = {"0": EventType.CLICK, "1": EventType.CART, "2": EventType.PURCHASE, "3": EventType.FAVORITE}
_WANTED = ("user_id", "item_id", "cat_id", "time_stamp", "action_type")
_EXPECTED = "Tmall user_log CSV (header user_id,item_id,cat_id,seller_id,brand_id,time_stamp,action_type)"


@dataclass(frozen=True, kw_only=True, slots=True)
class TmallOptions:
    """What the file itself does not say."""

    year: int = 2015
    """Year of the log: its dates have only month and day (MMDD). 2015 is the year of the competition."""

    def __post_init__(self) -> None:
        if not 1970 <= self.year < 2100:
            raise ConfigError(f"year must be 1970 to 2099, got {self.year}")


def open_tmall(path: Path, options: TmallOptions) -> pl.LazyFrame:
    """The log in canonical columns; times are midnight UTC of the day, and order within a day is the file's."""
    require_text(path, _EXPECTED)
    names = header_of(path, _EXPECTED, delimiter=",", quote=None)
    require_columns(path, _EXPECTED, names, _WANTED, "for other columns use `--format columns`")
    frame = scan_rows(path, names, delimiter=",", quote=None, header=True)
    date = filled("time_stamp")
    day = (pl.lit(str(options.year)) + date.str.zfill(4)).str.to_date("%Y%m%d", strict=False)
    time_ms = pl.when(date.str.len_bytes().is_between(3, 4)).then(day.cast(pl.Datetime("ms")).cast(pl.Int64))
    return integer_log(
        frame,
        names,
        user="user_id",
        item="item_id",
        category="cat_id",
        time_ms=time_ms,
        behaviour="action_type",
        meaning=_ACTIONS,
    )


TMALL = SourceFormat(
    name="tmall",
    summary="Tmall user_log_format1.csv (IJCAI-15 repeat buyers): 55 million actions of 424 thousand users",
    columns=(
        ("user_id", "user, any text"),
        ("item_id", "item, whole number"),
        ("cat_id", "category, whole number; may be empty"),
        ("time_stamp", "day as MMDD; the year is set by --year, 2015 unless told"),
        ("action_type", "0 click, 1 cart, 2 purchase, 3 favourite"),
    ),
    example="recollect data import user_log_format1.csv --format tmall --event-types click",
    options=TmallOptions,
    open=open_tmall,
)
