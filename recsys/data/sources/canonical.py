"""The one shape that every event log takes on its way into a store, and the reasons for turning a row away."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from recsys.data.event_store import EventType
from recsys.errors import ConfigError

CANONICAL_COLUMNS = ("row", "user", "item", "category", "time_ms", "type", "reason")
"""row: Int64, from 1, a header not counted · user: String · item, category: Int64 or String (null category = unknown) ·
time_ms: Int64, UTC · type: UInt8 EventType · reason: String, why the row cannot be used, null for a good one."""

ROW_COLUMN = "\x00row"
"""Where a scan puts the row number: a name that no log's own column has."""
EARLIEST_MS, LATEST_MS = 0, 4_102_444_800_000
"""Times are believed from 1970 up to 2100; outside, a unit was misread or a clock was broken."""

EVENT_NAMES = {
    "click": EventType.CLICK,
    "pv": EventType.CLICK,
    "view": EventType.CLICK,
    "cart": EventType.CART,
    "add_to_cart": EventType.CART,
    "addtocart": EventType.CART,
    "favorite": EventType.FAVORITE,
    "favourite": EventType.FAVORITE,
    "fav": EventType.FAVORITE,
    "purchase": EventType.PURCHASE,
    "buy": EventType.PURCHASE,
    "order": EventType.PURCHASE,
    "transaction": EventType.PURCHASE,
    "unspecified": EventType.UNSPECIFIED,
}
"""What logs call the event types, in lower case; "unspecified" is what an export says of events sent without a type."""

Reason = tuple[str, pl.Expr]
"""A name for what is wrong with a row, and the condition under which it is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceFormat:
    """A kind of event log that can be imported."""

    name: str
    """What `--format` calls it."""
    summary: str
    """What the file is and where it comes from, one line."""
    columns: tuple[tuple[str, str], ...]
    """Each column that is read, and what it means."""
    example: str
    """A command line that imports such a file."""
    options: type[Any]
    """Frozen dataclass of what may be set."""
    open: Callable[[Path, Any], pl.LazyFrame]
    """`open(path, options)` gives the log in CANONICAL_COLUMNS, lazily; SourceError if the file is of another kind."""


def event_type_of(name: str) -> EventType:
    """The event type that a person calls `name`; ConfigError lists the names that are known."""
    try:
        return EVENT_NAMES[name.strip().lower()]
    except KeyError:
        raise ConfigError(f"unknown event type {name!r}; use one of {', '.join(sorted(EVENT_NAMES))}") from None


def event_type_expression(value: pl.Expr, meaning: dict[str, EventType]) -> pl.Expr:
    """UInt8 EventType of each `value` (String) under `meaning`, null where it is not in there.

    A chain of conditions rather than a `replace`: polars cannot stream a `replace`, and would hold the whole log.
    """
    result = pl.lit(None, dtype=pl.UInt8)
    for name, event_type in meaning.items():
        result = pl.when(value == name).then(pl.lit(int(event_type), dtype=pl.UInt8)).otherwise(result)
    return result


def key_reasons(name: str, raw: pl.Expr, parsed: pl.Expr, *, integers: bool, required: bool) -> list[Reason]:
    """What can be wrong with an item or category; a category may be missing, an item may not."""
    reasons: list[Reason] = [(f"missing {name}", raw.is_null())] if required else []
    if integers:
        reasons.append((f"{name} is not a whole number", raw.is_not_null() & parsed.is_null()))
        reasons.append((f"negative {name} id", parsed < 0))
    return reasons


def time_reasons(parsed: pl.Expr) -> list[Reason]:
    """What can be wrong with a time, given as milliseconds."""
    outside = (parsed < EARLIEST_MS) | (parsed >= LATEST_MS)
    return [("unreadable time", parsed.is_null()), ("time outside 1970 to 2100", outside)]


def canonical(
    frame: pl.LazyFrame,
    *,
    user: pl.Expr,
    item: pl.Expr,
    category: pl.Expr,
    time_ms: pl.Expr,
    event_type: pl.Expr,
    reasons: Sequence[Reason],
) -> pl.LazyFrame:
    """Bring `frame`, which has a ROW_COLUMN, into CANONICAL_COLUMNS; a bad row has the first of `reasons` it meets."""
    conditions = [pl.when(condition).then(pl.lit(name)) for name, condition in reasons]
    return frame.select(
        pl.col(ROW_COLUMN).cast(pl.Int64).alias("row"),
        user.cast(pl.String).alias("user"),
        item.alias("item"),
        category.alias("category"),
        time_ms.cast(pl.Int64).alias("time_ms"),
        event_type.cast(pl.UInt8).alias("type"),
        pl.coalesce(*conditions, pl.lit(None, dtype=pl.String)).alias("reason"),
    )


def filled(column: str) -> pl.Expr:
    """A String column without surrounding space, null where nothing is left."""
    stripped = pl.col(column).str.strip_chars()
    return pl.when(stripped != "").then(stripped)
