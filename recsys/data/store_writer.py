"""Sort spooled events into an event store's flat arrays, one range of users at a time.

A spool is a directory of Parquet files of good rows (row, user, item, category, time_ms, type). What is held in
memory is the users, the items and one partition of events, however long the log.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import polars as pl

from recsys.data.catalogue import Catalogue, keys_to_ids
from recsys.data.event_store import ITEMS_FILE, OFFSETS_FILE, TIMES_FILE, TYPES_FILE, USERS_FILE

Progress = Callable[[str, int, int | None], None]
"""`progress(stage, done, total)`: what is being done, how many rows of it are done, of how many (None: unknown)."""

BATCH_ROWS = 500_000
PARTITION_EVENTS = 2_000_000
"""Events sorted at once; a user with more than that makes a larger partition of his own."""
_RECORD = np.dtype([("user", "<i4"), ("row", "<i8"), ("time", "<i8"), ("item", "<i4"), ("type", "u1")])


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreCounts:
    """What the writer found while it wrote."""

    n_users: int
    n_items: int
    n_categories: int
    n_events: int
    first_time_ms: int
    last_time_ms: int
    items_with_several_categories: int
    """Items that the log puts into more than one category; each went to the one it has most often."""
    items_without_category: int
    """Items that the log gives no category at all; theirs is unknown."""


def write_store_files(spool: Path, directory: Path, *, partition_events: int, progress: Progress) -> StoreCounts:
    """Write everything but the manifest into `directory`; `spool` holds at least one Parquet file, perhaps of no
    rows."""
    users, pairs = _count(spool, progress)
    catalogue, item_rows, n_several = build_catalogue(pairs)
    catalogue.save(directory)
    users.select(pl.col("user").alias("user_id")).write_parquet(directory / USERS_FILE)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(users["events"].to_numpy(), dtype=np.int64)])
    np.save(directory / OFFSETS_FILE, offsets)
    buckets = spool / "buckets"
    buckets.mkdir()
    user_rows = users.select("user", pl.int_range(pl.len(), dtype=pl.Int32).alias("user_row"))
    partitions = offsets[:-1] // partition_events
    events = pl.scan_parquet(sorted(spool.glob("*.parquet")), glob=False)
    _split(events, buckets, user_rows, item_rows, partitions, total=int(offsets[-1]), progress=progress)
    first, last = _merge(buckets, directory, n_events=int(offsets[-1]), progress=progress)
    return StoreCounts(
        n_users=len(users),
        n_items=catalogue.n_items,
        n_categories=catalogue.n_categories,
        n_events=int(offsets[-1]),
        first_time_ms=first,
        last_time_ms=last,
        items_with_several_categories=n_several,
        items_without_category=int((catalogue.category_rows[1:] == 0).sum()),
    )


class _GroupCounts:
    """Rows by distinct value of some columns, counted batch by batch.

    polars' own streaming group-by keeps partial counts of every batch until the end when groups are many: here they are
    merged whenever there are as many as there are groups, so that memory follows the groups and not the rows.
    """

    def __init__(self, *columns: str) -> None:
        self.columns = columns
        self.merged: pl.DataFrame | None = None
        self.pending: list[pl.DataFrame] = []

    def add(self, batch: pl.DataFrame) -> None:
        """Count the rows of `batch`."""
        self.pending.append(batch.group_by(self.columns).agg(pl.len().cast(pl.Int64).alias("events")))
        limit = max(4 * BATCH_ROWS, 0 if self.merged is None else self.merged.height)
        if sum(part.height for part in self.pending) > limit:
            self._merge()

    def result(self) -> pl.DataFrame:
        """The columns, and "events": how many rows have these values."""
        self._merge()
        assert self.merged is not None, "a spool has at least one file"
        return self.merged

    def _merge(self) -> None:
        parts = self.pending if self.merged is None else [self.merged, *self.pending]
        if self.pending:
            self.merged = pl.concat(parts).group_by(self.columns).agg(pl.col("events").sum())
            self.pending = []


def _count(spool: Path, progress: Progress) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(user, events), sorted by user, and (item, category, events)."""
    users, pairs = _GroupCounts("user"), _GroupCounts("item", "category")
    paths = sorted(spool.glob("*.parquet"))
    total = int(pl.scan_parquet(paths, glob=False).select(pl.len()).collect().item())
    done = 0
    for path in paths:
        batch = pl.read_parquet(path, columns=["user", "item", "category"], glob=False)
        users.add(batch)
        pairs.add(batch)
        done += batch.height
        progress("counting users and items", done, total)
    return users.result().sort("user"), pairs.result()


def build_catalogue(pairs: pl.DataFrame) -> tuple[Catalogue, pl.DataFrame, int]:
    """From distinct (item, category, events): the catalogue, the row of each item, and how many have several
    categories.

    An item's category is the one it has in most events, the lowest id among equals; unknown does not count.
    """
    items = _ids_of(pairs, "item")
    categories = _ids_of(pairs, "category")
    known = pairs.filter(pl.col("category").is_not_null()).join(categories, on="category", how="left")
    chosen = known.sort("events", "category_id", descending=[True, False]).unique(
        "item", keep="first", maintain_order=True
    )
    n_several = known.filter(pl.col("item").is_duplicated())["item"].n_unique()
    # A category that is no item's own is of no use to anyone, and gets no row.
    categories = categories.join(chosen, on="category", how="semi").sort("category_id")
    categories = categories.with_columns(pl.int_range(1, pl.len() + 1, dtype=pl.Int32).alias("category_row"))
    items = (
        items.join(chosen.select("item", "category"), on="item", how="left")
        .join(categories.select("category", "category_row"), on="category", how="left")
        .sort("item_id")
        .with_columns(
            pl.int_range(1, pl.len() + 1, dtype=pl.Int32).alias("item_row"), pl.col("category_row").fill_null(0)
        )
    )
    catalogue = Catalogue(
        item_ids=np.concatenate([np.array([-1]), items["item_id"].to_numpy()]),
        category_rows=np.concatenate([np.zeros(1, np.int32), items["category_row"].to_numpy()]),
        category_ids=np.concatenate([np.array([-1]), categories["category_id"].to_numpy()]),
        item_keys=_keys(items["item"]),
        category_keys=_keys(categories["category"]),
    )
    return catalogue, items.select("item", "item_row"), n_several


def _ids_of(pairs: pl.DataFrame, column: str) -> pl.DataFrame:
    """Each distinct value of `column` with its id: itself where it is a number, the hash of it where it is a key."""
    values = pairs.select(pl.col(column).drop_nulls().unique())
    if values.schema[column] == pl.String:
        return values.with_columns(pl.Series(f"{column}_id", keys_to_ids(values[column]), dtype=pl.Int64))
    return values.with_columns(pl.col(column).cast(pl.Int64).alias(f"{column}_id"))


def _keys(values: pl.Series) -> pl.Series | None:
    if values.dtype != pl.String:
        return None
    return pl.concat([pl.Series(values.name, [""], dtype=pl.String), values])


def _split(
    events: pl.LazyFrame,
    buckets: Path,
    user_rows: pl.DataFrame,
    item_rows: pl.DataFrame,
    partitions: npt.NDArray[np.int64],
    *,
    total: int,
    progress: Progress,
) -> None:
    """Append each event to the file of its user's partition, users and items as rows."""
    numbered = (
        events.join(user_rows.lazy(), on="user", how="inner")
        .join(item_rows.lazy(), on="item", how="inner")
        .select("user_row", "row", "time_ms", "item_row", "type")
    )
    done = 0
    with ExitStack() as stack:
        files: dict[int, IO[bytes]] = {}
        for batch in numbered.collect_batches(chunk_size=BATCH_ROWS, maintain_order=False, engine="streaming"):
            records = np.empty(batch.height, dtype=_RECORD)
            for name, column in zip(_RECORD.names or (), batch.columns, strict=True):
                records[name] = batch[column].to_numpy()
            of = partitions[records["user"]]
            order = np.argsort(of, kind="stable")
            records, of = records[order], of[order]
            begins = np.flatnonzero(np.concatenate([[True], of[1:] != of[:-1]])) if len(of) else np.zeros(0, np.int64)
            for begin, end in zip(begins, np.append(begins[1:], len(of)), strict=True):
                partition = int(of[begin])
                if partition not in files:
                    files[partition] = stack.enter_context((buckets / f"{partition:09d}").open("wb"))
                records[begin:end].tofile(files[partition])
            done += batch.height
            progress("sorting events by user", done, total)


def _merge(buckets: Path, directory: Path, *, n_events: int, progress: Progress) -> tuple[int, int]:
    """Sort each partition by (user, time, row) and append it to the arrays; the earliest and the latest time."""
    first, last, done = np.iinfo(np.int64).max, np.iinfo(np.int64).min, 0
    columns = (("item", ITEMS_FILE, "<i4"), ("time", TIMES_FILE, "<i8"), ("type", TYPES_FILE, "|u1"))
    with ExitStack() as stack:
        arrays = {}
        for name, file_name, dtype in columns:
            arrays[name] = stack.enter_context((directory / file_name).open("wb"))
            header = {"descr": dtype, "fortran_order": False, "shape": (n_events,)}
            np.lib.format.write_array_header_1_0(arrays[name], header)
        # Partitions ascend with the users, so that the arrays are written from front to back and never mapped.
        for path in sorted(buckets.iterdir()):
            records = np.fromfile(path, dtype=_RECORD)
            path.unlink()
            records = records[np.lexsort((records["row"], records["time"], records["user"]))]
            for name, file in arrays.items():
                np.ascontiguousarray(records[name]).tofile(file)
            first, last = min(first, int(records["time"].min())), max(last, int(records["time"].max()))
            done += len(records)
            progress("writing the store", done, n_events)
    assert done == n_events, f"wrote {done} of {n_events} events"
    return (first, last) if n_events else (0, 0)
