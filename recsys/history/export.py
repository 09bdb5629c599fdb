"""Write the histories of Redis back to Parquet, to train on what is served."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from recsys.data.catalogue import UNKNOWN_ROW, Catalogue
from recsys.data.event_store import EventType
from recsys.errors import DataError
from recsys.history.codec import HEADER_BYTES, RECORD_BYTES, Header, Records, decode
from recsys.history.config import HistoryConfig
from recsys.history.connection import Connection
from recsys.history.scanning import keys_like

USERS_A_TRIP = 64
"""Histories that are read in one round trip: 58 MB where all are full."""

ExportProgress = Callable[[int], None]
"""Called with the users that are done; how many there are is not known before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportResult:
    """What was written."""

    users: int
    events: int


async def export_histories(
    connection: Connection,
    config: HistoryConfig,
    path: Path,
    *,
    catalogue: Catalogue | None,
    progress: ExportProgress | None,
) -> ExportResult:
    """What `HistoryStore.export` does. The file appears under its name when it is whole."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    users = events = 0
    writer: pq.ParquetWriter | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        empty = _frame([], [], catalogue)
        writer = pq.ParquetWriter(partial, empty.to_arrow().schema, compression="zstd")
        async for names, histories in _histories(connection, config):
            frame = _frame(names, histories, catalogue)
            writer.write_table(frame.to_arrow())
            users, events = users + len(names), events + len(frame)
            if progress:
                progress(users)
        writer.close()
        partial.replace(path)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}; free space or choose another file") from error
    finally:
        if writer is not None:
            writer.close()
        with suppress(OSError):  # what went wrong before is what the caller should hear of
            partial.unlink()
    return ExportResult(users=users, events=events)


async def _histories(connection: Connection, config: HistoryConfig) -> AsyncIterator[tuple[list[str], list[Records]]]:
    """Users and their records, some at a time; each user once, whatever a scan of a moving keyspace repeats."""
    seen: set[str] = set()
    waiting: list[tuple[str, str]] = []
    async for key in keys_like(connection, config.prefix, "{*}"):
        user = config.user_of(key)
        if user is None or user in seen:
            continue
        seen.add(user)
        waiting.append((user, key))
        if len(waiting) == USERS_A_TRIP:
            yield await _read(connection, config, waiting)
            waiting = []
    if waiting:
        yield await _read(connection, config, waiting)


async def _read(
    connection: Connection, config: HistoryConfig, waiting: list[tuple[str, str]]
) -> tuple[list[str], list[Records]]:
    users, histories = [], []
    replies = await connection.together(*(("GET", key) for _, key in waiting), timeout_s=config.bulk_timeout_s)
    for (user, key), data in zip(waiting, replies, strict=True):
        if data is None:  # deleted since
            continue
        header = Header.of(data, size=len(data), where=f"Redis at {connection.address}, key {key}")
        end = HEADER_BYTES + header.count * RECORD_BYTES
        begin = end - min(header.count, config.cap) * RECORD_BYTES
        users.append(user)
        histories.append(decode(memoryview(data)[begin:end]))
    return users, histories


def _frame(users: list[str], histories: list[Records], catalogue: Catalogue | None) -> pl.DataFrame:
    """One row an event: user_id, item_id, category_id where there is a catalogue, time (ms, UTC), type by name.

    An item that the catalogue does not have, or to which it gives no category, has null.
    """
    lengths = [len(history) for history in histories]
    item_ids = np.concatenate([np.empty(0, np.int64), *(history.item_ids for history in histories)])
    times_ms = np.concatenate([np.empty(0, np.int64), *(history.times_ms for history in histories)])
    types = np.concatenate([np.empty(0, np.uint8), *(history.types for history in histories)])
    names = pl.Series([kind.name.lower() for kind in EventType])
    owners = np.repeat(np.arange(len(users)), lengths)
    columns = {"user_id": pl.Series(users, dtype=pl.String).gather(owners), "item_id": pl.Series(item_ids)}
    if catalogue is not None:
        category_rows = catalogue.category_rows[catalogue.rows_of(item_ids)]
        known = pl.Series(category_rows != UNKNOWN_ROW)
        columns["category_id"] = pl.Series(catalogue.category_ids[category_rows]).set(~known, None)
    columns["time"] = pl.Series(times_ms).cast(pl.Datetime("ms", "UTC"))
    columns["type"] = names.gather(types.astype(np.int64))
    return pl.DataFrame(columns)
