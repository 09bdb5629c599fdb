"""Read Taobao's UserBehavior.csv: user, item, category, behaviour, unix seconds; no header."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from recsys.data.event_store import EventType
from recsys.data.sources.canonical import SourceFormat, filled
from recsys.data.sources.files import head_lines, require_text, scan_rows, shown
from recsys.data.sources.integer_log import integer_log
from recsys.errors import SourceError

_NAMES = ("user", "item", "category", "behaviour", "time")
_BEHAVIOURS = {
    "pv": EventType.CLICK,
    "cart": EventType.CART,
    "fav": EventType.FAVORITE,
    "buy": EventType.PURCHASE,
}
_EXPECTED = "Taobao UserBehavior.csv (user,item,category,pv|cart|fav|buy,unix seconds; no header)"


@dataclass(frozen=True, kw_only=True, slots=True)
class TaobaoOptions:
    """Nothing to set: the format is fixed."""


def open_taobao(path: Path, options: TaobaoOptions) -> pl.LazyFrame:  # noqa: ARG001 - one signature for all formats
    """The log in canonical columns; SourceError where its first lines do not have five columns."""
    require_text(path, _EXPECTED)
    lines = head_lines(path)
    misfits = [line for line in lines if line.count(",") != len(_NAMES) - 1]
    if not lines or 2 * len(misfits) > len(lines):
        found = f"{misfits[0].count(',') + 1} column(s) in {shown(misfits[0])}" if misfits else "only empty lines"
        raise SourceError(
            f"{path}: expected {_EXPECTED}, found {found}; for a CSV with a header use `--format tmall`, "
            "`--format online-retail` or `--format columns`"
        )
    frame = scan_rows(path, _NAMES, delimiter=",", quote=None, header=False)
    # Seconds beyond what milliseconds can hold would wrap around: they are cut before they are multiplied.
    seconds = filled("time").cast(pl.Int64, strict=False)
    return integer_log(
        frame,
        _NAMES,
        user="user",
        item="item",
        category="category",
        time_ms=seconds.clip(-(10**15), 10**15) * 1000,
        behaviour="behaviour",
        meaning=_BEHAVIOURS,
    )


TAOBAO = SourceFormat(
    name="taobao",
    summary="Taobao UserBehavior.csv (Tianchi data set 649): 100 million events of one million users, November 2017",
    columns=(
        ("1", "user, any text"),
        ("2", "item, whole number"),
        ("3", "category, whole number; may be empty"),
        ("4", "behaviour: pv (click), cart, fav (favourite), buy (purchase)"),
        ("5", "time, unix seconds, UTC"),
    ),
    example="recollect data import UserBehavior.csv --format taobao --event-types click",
    options=TaobaoOptions,
    open=open_taobao,
)
