"""Write a generated shop where it is wanted: straight into an event store, or as a log in Taobao's format."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl

from recsys.data.event_store import EventType
from recsys.data.ingest import ImportReport, write_store
from recsys.data.shop.assortment import Assortment, item_ids
from recsys.data.shop.behaviour import EventChunk, event_chunks
from recsys.data.shop.catalogue import write_shop_catalogue
from recsys.data.shop.config import ShopConfig
from recsys.data.shop.names import category_names, item_names
from recsys.data.shop.optimum import KIND
from recsys.data.shop.recurring import RecurringConfig, recurring_chunks
from recsys.data.store_writer import Progress

_BEHAVIOURS = {EventType.CLICK: "pv", EventType.CART: "cart", EventType.FAVORITE: "fav", EventType.PURCHASE: "buy"}

Shop = ShopConfig | RecurringConfig


def shop_batches(config: Shop) -> Iterator[pl.DataFrame]:
    """The shop's log in CANONICAL_COLUMNS, some hundred thousand events at a time.

    Small shops have names for items and categories, and users "u0001"; large ones have numbers.
    """
    assortment = Assortment.of(config)
    width = len(str(config.users))
    names = pl.Series("item", item_names(assortment)) if config.named else None
    category_name = pl.Series("category", category_names(config.categories)) if config.named else None
    row = 1
    for chunk in _chunks(config, assortment):
        count = len(chunk.user)
        category = assortment.category_of(chunk.item)
        user = pl.Series("user", chunk.user + 1).cast(pl.String)
        columns = {
            "row": pl.Series(np.arange(row, row + count)),
            "user": ("u" + user.str.zfill(width)) if config.named else user,
            "item": pl.Series(item_ids(config, chunk.item)) if names is None else names.gather(chunk.item),
            "category": pl.Series(category + 1) if category_name is None else category_name.gather(category),
            "time_ms": pl.Series(chunk.time_ms),
            "type": pl.Series(chunk.type, dtype=pl.UInt8),
            "reason": pl.Series([None], dtype=pl.String).new_from_index(0, count),
        }
        yield pl.DataFrame(columns)
        row += count


def build_shop(
    config: Shop, destination: Path | str, *, overwrite: bool = False, progress: Progress | None = None
) -> ImportReport:
    """Generate the shop into an event store at `destination`, streamed: memory does not grow with the events.

    Its catalogue lies in the same directory, see `recsys.data.shop.catalogue`.
    """
    kind = {"kind": KIND} if isinstance(config, RecurringConfig) else {}
    source = {"format": "generated", **kind, "options": asdict(config)}
    expected = round(config.users * config.mean_events)
    report = write_store(
        shop_batches(config),
        destination,
        source=source,
        overwrite=overwrite,
        progress=progress,
        expected_rows=expected,
    )
    write_shop_catalogue(config, Path(destination))
    return report


def write_taobao_csv(config: Shop, path: Path | str, *, progress: Progress | None = None) -> int:
    """Write the shop's log as Taobao's UserBehavior.csv, users and items as numbers; the number of lines."""
    assortment = Assortment.of(config)
    expected = round(config.users * config.mean_events)
    lines = 0
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for chunk in _chunks(config, assortment):
            _taobao_frame(config, assortment, chunk).write_csv(file, include_header=False)
            lines += len(chunk.user)
            if progress is not None:
                progress("writing the log", lines, max(lines, expected))
    return lines


def _chunks(config: Shop, assortment: Assortment) -> Iterator[EventChunk]:
    if isinstance(config, RecurringConfig):
        return recurring_chunks(config, assortment)
    return event_chunks(config, assortment)


def _taobao_frame(config: Shop, assortment: Assortment, chunk: EventChunk) -> pl.DataFrame:
    columns = {
        "user": pl.Series(chunk.user + 1),
        "item": pl.Series(item_ids(config, chunk.item)),
        "category": pl.Series(assortment.category_of(chunk.item) + 1),
        "behaviour": pl.Series(chunk.type).replace_strict(
            {int(kind): name for kind, name in _BEHAVIOURS.items()}, return_dtype=pl.String
        ),
        "time": pl.Series(chunk.time_ms // 1000),
    }
    return pl.DataFrame(columns)
