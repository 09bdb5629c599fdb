"""Keep every user's behaviours in Redis: appended once, in event-time order, read in one round trip.

A history is one string under `recollect:history:{user}`: a header of 12 bytes, then 18 bytes an event
(`recsys.history.codec`). Scripts make each append atomic. What they promise:

- a record equal to one that is there is the same event, so an append can be retried without harm;
- a request id that was applied changes nothing again, and the answer says so;
- events lie in order of time, those of one time in order of arrival, however late they come;
- the newest `cap` events are kept. An event that is no later than the oldest of a full history is turned away;
- the version grows by one with every append that changed something, also over a deletion;
- what is no later than a user's deletion stays away, whoever brings it.

With an event source, a history that Redis does not have, or has only what came in live, is completed from there when
it is first read.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from recsys.data.catalogue import Catalogue
from recsys.data.event_store import EventStore, EventType
from recsys.errors import DataError, HistoryError, HistoryUnavailable
from recsys.history.appending import Append, Appending, AppendResult, append_call
from recsys.history.bulk import LoadProgress, LoadResult, load_histories
from recsys.history.codec import (
    HEADER_BYTES,
    MAX_TIME_MS,
    RECORD_BYTES,
    SPARE_RECORDS,
    EventBatch,
    Header,
    decode,
)
from recsys.history.config import HistoryConfig
from recsys.history.connection import Connection
from recsys.history.deleting import Deletion, delete_history, deletion_of, rewrite_log, try_out
from recsys.history.export import ExportProgress, ExportResult, export_histories
from recsys.history.health import ServerReport, report_on
from recsys.history.scanning import deletions_in_redis
from recsys.history.scripts import APPEND, READ
from recsys.history.seldom import Seldom
from recsys.history.stored_events import EventSource

log = logging.getLogger(__name__)

Clock = Callable[[], int]
"""Now, in milliseconds since the Unix epoch."""


def now_ms() -> int:
    """The system's clock."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """The latest L behaviours of a user, oldest first."""

    item_ids: npt.NDArray[np.int64]
    """[L] item ids."""
    times_ms: npt.NDArray[np.int64]
    """[L] milliseconds since the Unix epoch, UTC, ascending."""
    types: npt.NDArray[np.uint8]
    """[L] EventType numbers."""
    version: int
    """Grows with every append that changes the history; 0 where there is none."""
    length: int
    """Events that are stored, of which these are the latest that were asked for."""
    complete: bool = True
    """Whether what the event source has is among them; False where that could not be read, or merged."""

    def __len__(self) -> int:
        return len(self.item_ids)


@dataclass(frozen=True, kw_only=True, slots=True)
class HistoryStats:
    """What Redis holds of one user."""

    version: int
    """0 where there is no history."""
    length: int
    """Events that are stored."""
    by_type: dict[EventType, int]
    """How many of each type; those with none are left out."""
    first_ms: int | None
    """Time of the oldest event, milliseconds since the Unix epoch; None without a history."""
    last_ms: int | None
    """Time of the latest."""
    memory_bytes: int
    """What the history takes of Redis's memory, all overhead included."""
    deletion: Deletion | None
    """The user's deletion, where there was one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Packed:
    """The latest records as Redis has them."""

    version: int
    length: int
    joined: bool
    """Whether what the event store has is among them."""
    records: bytes | memoryview


class HistoryStore:
    """Histories in one Redis. Every method raises HistoryUnavailable where Redis does not answer in time.

        async with HistoryStore("redis://localhost:6379/0") as store:
            await store.append("u1", EventBatch.of([7], [1_700_000_000_000]))
            history = await store.read("u1", limit=10_000)

    A store belongs to the event loop that first uses it.
    """

    def __init__(
        self,
        url: str,
        *,
        config: HistoryConfig | None = None,
        clock: Clock = now_ms,
        source: EventSource | None = None,
    ) -> None:
        self.config = config or HistoryConfig()
        self._clock = clock
        self._source = source
        self._incomplete = Seldom(log)
        self._connection = Connection(url, max_connections=self.config.max_connections, timeout_s=self.config.timeout_s)

    @property
    def address(self) -> str:
        """Where Redis is, without the password."""
        return self._connection.address

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; the store is not to be used after that."""
        await self._connection.close()

    def key_of(self, user_id: str) -> str:
        """Redis key of a user's history; the user id is its hash tag."""
        return self.config.keys_of(user_id).history

    async def append(self, user_id: str, events: EventBatch, *, request_id: str = "") -> AppendResult:
        """Add `events` in any order; those that cannot be stored are reported, the others are stored.

        Safe to retry after any error. An empty batch reports version and length.
        """
        appending = Appending(
            Append(user_id=user_id, events=events, request_id=request_id), latest_ms=self._latest_ms()
        )
        return appending.result(await self._connection.run(APPEND, appending.call(self.config)))

    async def append_many(self, appends: Sequence[Append]) -> list[AppendResult | HistoryError]:
        """Apply each of `appends`, in their order and in one round trip. Each is atomic, all of them together are not.

        One that Redis refuses has its HistoryError in place of a result.
        """
        latest_ms = self._latest_ms()
        appendings = [Appending(append, latest_ms=latest_ms) for append in appends]
        replies = await self._connection.run_many(APPEND, [each.call(self.config) for each in appendings])
        return [
            reply if isinstance(reply, HistoryError) else appending.result(reply)
            for appending, reply in zip(appendings, replies, strict=True)
        ]

    async def read(
        self,
        user_id: str,
        *,
        limit: int,
        before_ms: int | None = None,
        types: Collection[EventType] | None = None,
    ) -> History:
        """The latest `limit` events, oldest first; with `before_ms` of those strictly earlier, with `types` of those.

        One round trip; more for a history that is completed from the event source. A user without a history has an
        empty one of version 0.
        """
        if limit < 1:
            raise ValueError(f"limit must be 1 or more, got {limit}; ask for the events that the model reads")
        # Which records are of a type is not known before they are here.
        asked = min(limit, self.config.cap) if types is None else self.config.cap
        packed, complete = await self._read(user_id, asked, before_ms), True
        if self._source is not None and not packed.joined:
            joined = await self._join(user_id, self._source, packed)
            complete = joined is not None
            if joined:
                packed = await self._read(user_id, asked, before_ms)
        records = decode(packed.records)
        chosen: slice | npt.NDArray[np.int64] = slice(None)
        if types is not None:
            chosen = np.flatnonzero(np.isin(records.types, [int(kind) for kind in types]))[-limit:]
        return History(
            item_ids=records.item_ids[chosen],
            times_ms=records.times_ms[chosen],
            types=records.types[chosen],
            version=packed.version,
            length=packed.length,
            complete=complete,
        )

    async def stats(self, user_id: str) -> HistoryStats:
        """What Redis holds of `user_id`."""
        history = await self.read(user_id, limit=self.config.cap)
        memory = await self._connection.command("MEMORY", "USAGE", self.key_of(user_id), "SAMPLES", 0)
        counts = np.bincount(history.types, minlength=max(EventType) + 1)
        return HistoryStats(
            version=history.version,
            length=history.length,
            by_type={kind: int(counts[kind]) for kind in EventType if counts[kind]},
            first_ms=int(history.times_ms[0]) if len(history) else None,
            last_ms=int(history.times_ms[-1]) if len(history) else None,
            memory_bytes=int(memory or 0),
            deletion=await deletion_of(self._connection, self.config, user_id),
        )

    async def load(
        self,
        store: EventStore,
        *,
        users: Sequence[str] | None = None,
        progress: LoadProgress | None = None,
        resume: bool = True,
    ) -> LoadResult:
        """Bring the latest `cap` events of all `users` of an event store in, merging them with what is there.

        A load that was cut off goes on where it stopped unless `resume` is False; one that is repeated changes nothing.
        `progress` is called with the users done and the users to do. DataError names a user that the store has not.
        """
        return await load_histories(
            self._connection,
            store,
            config=self.config,
            latest_ms=self._latest_ms(),
            users=users,
            progress=progress,
            resume=resume,
        )

    async def delete(self, user_id: str) -> Deletion:
        """Delete a user's history, and let nothing return that is no later than this moment.

        Where there is an event source, the deletion is noted beside it first: it then outlives Redis. What is on the
        disks is another matter, see `recsys.history.deleting` and `recsys.data.erasure`.
        """
        deletion_ms = self._clock()
        if self._source is not None:
            await asyncio.to_thread(self._source.deletions.add, user_id, deletion_ms)
        deletion = await delete_history(self._connection, self.config, user_id, now_ms=deletion_ms)
        if self._source is not None and deletion.time_ms > deletion_ms:  # there was something dated ahead of the clock
            await asyncio.to_thread(self._source.deletions.add, user_id, deletion.time_ms)
        return deletion

    async def erase_log(self, user_ids: Sequence[str], *, timeout_s: float) -> None:
        """Rewrite Redis's append-only file, so that deleted users are gone from it, too, and wait for that.

        HistoryError where Redis does not do it, HistoryUnavailable where it takes longer than `timeout_s`.
        """
        await rewrite_log(self._connection, self.config, user_ids, timeout_s=timeout_s)

    async def deletions(self) -> dict[str, int]:
        """Every user whose deletion has left a mark, and until when, milliseconds since the Unix epoch."""
        return await deletions_in_redis(self._connection, self.config)

    async def export(
        self, path: Path, *, catalogue: Catalogue | None = None, progress: ExportProgress | None = None
    ) -> ExportResult:
        """Write all histories to the Parquet file `path`; with `catalogue`, with the category of each item.

        One row an event: user_id, item_id, category_id, time, type; a user's in order, users in any. Histories that
        change meanwhile are as they were when they were read. DataError where the file cannot be written.
        """
        return await export_histories(self._connection, self.config, path, catalogue=catalogue, progress=progress)

    async def source_holds_deleted(self, user_id: str) -> bool | None:
        """Whether the event source still has events of `user_id` up to their deletion; None without a source."""
        if self._source is None:
            return None
        return await asyncio.to_thread(self._source.holds_deleted, user_id)

    async def ping(self) -> None:
        """Return if Redis answers."""
        await self._connection.command("PING")

    async def check(self) -> ServerReport:
        """What the server says of itself, with a warning for everything that breaks a promise."""
        return await report_on(self._connection, prefix=self.config.prefix)

    async def try_out(self) -> None:
        """Append, read and delete as a user of a name that nobody has; HistoryError where Redis does not let us."""
        await try_out(self._connection, self.config)

    def _latest_ms(self) -> int:
        return self._clock() + self.config.max_clock_skew_ms

    async def _read(self, user_id: str, limit: int, before_ms: int | None) -> _Packed:
        key = self.key_of(user_id)
        latest = await self._read_latest(key, limit) if before_ms is None else None
        if latest is not None:
            return latest
        before = MAX_TIME_MS + 1 if before_ms is None else before_ms
        reply = await self._connection.run(READ, ((key,), (limit, self.config.cap, before)))
        version, length, flags, records = reply
        return _Packed(version=version, length=length, joined=bool(flags), records=records)

    async def _read_latest(self, key: str, limit: int) -> _Packed | None:
        """The latest `limit` records; None where an append came between. In half the time of a script.

        A script would copy the records twice more. What tells an append in between is the header, read twice.
        """
        opening = ("GETRANGE", key, 0, HEADER_BYTES - 1)
        # As many more as there may be spare ones at the end.
        tail = ("GETRANGE", key, -(limit + SPARE_RECORDS) * RECORD_BYTES, -1)
        head, size, data, again = await self._connection.together(opening, ("STRLEN", key), tail, opening)
        if head != again:
            return None
        if size == 0:
            return _Packed(version=0, length=0, joined=False, records=b"")
        header = Header.of(head, size=size, where=f"Redis at {self.address}, key {key}")
        capacity = (size - HEADER_BYTES) // RECORD_BYTES
        end = len(data) - (capacity - header.count) * RECORD_BYTES
        length = min(header.count, self.config.cap)
        begin = end - min(length, limit) * RECORD_BYTES
        if begin < 0:  # more spare room than this release leaves
            return None
        records = memoryview(data)[begin:end]
        return _Packed(version=header.version, length=length, joined=header.joined, records=records)

    async def _join(self, user_id: str, source: EventSource, packed: _Packed) -> bool | None:
        """Merge what `source` has of a user into Redis, beside what is there; False where that changes nothing, None
        where it cannot be done."""
        try:
            records = await asyncio.to_thread(
                source.records_of, user_id, cap=self.config.cap, latest_ms=self._latest_ms()
            )
            if not records and packed.length == 0:
                return False
            await self._connection.run(APPEND, append_call(self.config, user_id, records or b"", joined=True))
        except (DataError, OSError, HistoryUnavailable) as error:
            # The source cannot be read, or nobody knows what of it is deleted; or Redis, which has just answered a
            # read, is full or cannot write. What it has is better than nothing.
            self._incomplete.warning("histories are not completed from %s: %s", source.directory, error)
            return None
        return bool(records)
