"""Keep every user's behaviours in Redis: appended once, in event-time order, read in one round trip.

A history is one string under `recollect:history:{user}`: a header of 8 bytes, then 18 bytes an event
(`recsys.history.codec`).
Scripts make each append atomic. What they promise:

- a record equal to one that is there is the same event, so an append can be retried without harm;
- events lie in order of time, those of one time in order of arrival, however late they come;
- the newest `cap` events are kept. An event that is no later than the oldest of a full history is turned away;
- the version grows by one with every append that changed something, and starts anew after `delete`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from recsys.data.event_store import EventStore
from recsys.errors import HistoryError
from recsys.history.bulk import LoadProgress, LoadResult, load_histories
from recsys.history.codec import FORMAT, HEADER_BYTES, MAX_TIME_MS, RECORD_BYTES, EventBatch, decode, faults, pack
from recsys.history.connection import Call, Connection
from recsys.history.health import ServerReport, report_on
from recsys.history.scripts import APPEND, READ

Clock = Callable[[], int]
"""Now, in milliseconds since the Unix epoch."""


def now_ms() -> int:
    """The system's clock."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class HistoryConfig:
    """How histories are kept and how long a caller waits for them."""

    cap: int = 50_000
    """Longest history that is kept, in events."""
    prefix: str = "recollect:history:"
    """What every key begins with."""
    timeout_s: float = 0.25
    """Deadline of one call, retries and waiting for a connection included, in seconds."""
    bulk_timeout_s: float = 30.0
    """Deadline of one round trip of `load`, in seconds."""
    max_clock_skew_ms: int = 60_000
    """How far in the future an event may lie, in milliseconds."""
    max_connections: int = 64
    """Most connections to Redis that one store holds open."""

    def __post_init__(self) -> None:
        for name in ("cap", "timeout_s", "bulk_timeout_s", "max_connections"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.max_clock_skew_ms < 0:
            raise ValueError(f"max_clock_skew_ms must be 0 or more, got {self.max_clock_skew_ms}")
        if not self.prefix or "{" in self.prefix:
            raise ValueError(f"prefix must be some text without '{{', got {self.prefix!r}; the user id is the hash tag")

    @property
    def slack(self) -> int:
        """Events by which a stored string may exceed `cap` before it is cut: each cut rewrites it, so it is put off."""
        return max(1, self.cap // 16)


@dataclass(frozen=True, kw_only=True, slots=True)
class AppendResult:
    """What became of a batch: every event is accepted, a duplicate or rejected."""

    accepted: int
    """Events that are new in the history."""
    duplicates: int
    """Events that were there already, or twice in the batch."""
    rejected: list[tuple[int, str]]
    """Index in the batch and reason of every event that was turned away, ascending."""
    version: int
    """Version of the history after the append; 0 where the user has none."""
    length: int
    """Events in the history after the append."""


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
    """Grows with every append that changes the history; 0 for a user who has none."""
    length: int
    """Events that are stored, of which these are the latest that were asked for."""

    def __len__(self) -> int:
        return len(self.item_ids)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Prepared:
    """A batch as the script takes it."""

    records: bytes
    """Valid, distinct records, ascending by time, in order of arrival where times are equal."""
    arrivals: npt.NDArray[np.int64]
    """Index in the batch of each of these records."""
    duplicates: int
    """Records that the batch holds again."""
    rejected: list[tuple[int, str]]
    """Index and reason of the events that cannot be stored."""


class HistoryStore:
    """Histories in one Redis. Every method raises HistoryUnavailable where Redis does not answer in time.

        async with HistoryStore("redis://localhost:6379/0") as store:
            await store.append("u1", EventBatch.of([7], [1_700_000_000_000]))
            history = await store.read("u1", limit=10_000)

    A store belongs to the event loop that first uses it.
    """

    def __init__(self, url: str, *, config: HistoryConfig | None = None, clock: Clock = now_ms) -> None:
        self.config = config or HistoryConfig()
        self._clock = clock
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
        if not user_id:
            raise ValueError("user_id must not be empty; pass the id that the user's events carry")
        return f"{self.config.prefix}{{{user_id}}}"

    async def append(self, user_id: str, events: EventBatch) -> AppendResult:
        """Add `events` in any order; those that cannot be stored are reported, the others are stored.

        Safe to retry after any error. An empty batch reports version and length.
        """
        prepared = self._prepare(events)
        reply = await self._connection.run(APPEND, self._append_call(user_id, prepared))
        return _append_result(prepared, reply)

    async def append_many(self, batches: Mapping[str, EventBatch]) -> dict[str, AppendResult]:
        """Add the events of many users in one round trip. Atomic for each user, not for all of them.

        Where one user's history cannot be written, HistoryError names it after all others were.
        """
        prepared = {user_id: self._prepare(events) for user_id, events in batches.items()}
        calls = [self._append_call(user_id, batch) for user_id, batch in prepared.items()]
        replies = await self._connection.run_many(APPEND, calls)
        results = zip(prepared.items(), replies, strict=True)
        return {user_id: _append_result(batch, reply) for (user_id, batch), reply in results}

    async def read(self, user_id: str, *, limit: int, before_ms: int | None = None) -> History:
        """The latest `limit` events, oldest first; with `before_ms`, of those strictly earlier. One round trip.

        A user without a history has an empty one of version 0.
        """
        if limit < 1:
            raise ValueError(f"limit must be 1 or more, got {limit}; ask for the events that the model reads")
        key, limit = self.key_of(user_id), min(limit, self.config.cap)
        latest = await self._read_latest(key, limit) if before_ms is None else None
        if latest is None:
            before = MAX_TIME_MS + 1 if before_ms is None else before_ms
            latest = await self._connection.run(READ, (key, limit, self.config.cap, before))
        version, length, packed = latest
        records = decode(packed)
        return History(
            item_ids=records.item_ids,
            times_ms=records.times_ms,
            types=records.types,
            version=int(version),
            length=int(length),
        )

    async def _read_latest(self, key: str, limit: int) -> tuple[int, int, bytes] | None:
        """Version, length and records; None where an append came between. In half the time of a script.

        A script would copy the records twice more. What tells an append in between is the version, read twice.
        """
        header = ("GETRANGE", key, 0, HEADER_BYTES - 1)
        tail = ("GETRANGE", key, -limit * RECORD_BYTES, -1)
        opening, size, records, closing = await self._connection.together(header, ("STRLEN", key), tail, header)
        if opening != closing:
            return None
        if size == 0:
            return 0, 0, b""
        count, torn = divmod(size - HEADER_BYTES, RECORD_BYTES)
        if opening[:1] != bytes([FORMAT]) or count < 0 or torn:
            raise HistoryError(
                f"Redis at {self.address}, key {key}: HISTORYFORMAT {size} bytes that open with {opening[:1]!r}; the "
                "key holds something else than a history of this release; delete it and load it again"
            )
        version = int.from_bytes(opening[1:], "little")
        return version, min(count, self.config.cap), records[len(records) - min(count, limit) * RECORD_BYTES :]

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
            key_of=self.key_of,
            latest_ms=self._latest_ms(),
            users=users,
            progress=progress,
            resume=resume,
        )

    async def delete(self, user_id: str) -> bool:
        """Forget a user; True where there was a history."""
        return bool(await self._connection.command("DEL", self.key_of(user_id)))

    async def ping(self) -> None:
        """Return if Redis answers."""
        await self._connection.command("PING")

    async def check(self) -> ServerReport:
        """Version, persistence and memory policy of the server, with a warning for everything that breaks a promise."""
        return await report_on(self._connection)

    def _latest_ms(self) -> int:
        return self._clock() + self.config.max_clock_skew_ms

    def _prepare(self, events: EventBatch) -> _Prepared:
        rejected = faults(events, latest_ms=self._latest_ms())
        arrivals = np.arange(len(events))
        if rejected:
            arrivals = np.delete(arrivals, [index for index, _ in rejected])
        arrivals = arrivals[np.argsort(events.times_ms[arrivals], kind="stable")]
        records = pack(events)[arrivals]
        valid = len(records)
        if valid > 1:
            # Fixed-width byte strings compare and sort where raw voids do not; a trailing zero byte is no matter here,
            # since all are of one width.
            _, firsts = np.unique(records.view(f"S{records.itemsize}"), return_index=True)
            firsts.sort()
            records, arrivals = records[firsts], arrivals[firsts]
        return _Prepared(
            records=records.tobytes(), arrivals=arrivals, duplicates=valid - len(records), rejected=rejected
        )

    def _append_call(self, user_id: str, prepared: _Prepared) -> Call:
        return self.key_of(user_id), prepared.records, self.config.cap, self.config.slack


def _append_result(prepared: _Prepared, reply: list[Any]) -> AppendResult:
    version, length, accepted, duplicates, older, *ties = map(int, reply)
    rejected = prepared.rejected
    if older or ties:
        reason = f"too late: not later than the oldest of the {length} events that are kept"
        expired = prepared.arrivals[[*range(older), *ties]].tolist()
        rejected = sorted([*rejected, *((index, reason) for index in expired)])
    return AppendResult(
        accepted=accepted,
        duplicates=duplicates + prepared.duplicates,
        rejected=rejected,
        version=version,
        length=length,
    )
