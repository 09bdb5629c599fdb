"""Fill Redis from an event store on disk, so that a lost cache is a matter of minutes and not of history."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from recsys.data.deletions import Deletions
from recsys.data.event_store import MANIFEST_FILE, EventStore
from recsys.errors import DataError, HistoryError
from recsys.history.appending import append_call
from recsys.history.config import HistoryConfig
from recsys.history.connection import Connection
from recsys.history.scripts import APPEND
from recsys.history.stored_events import Tally, records_of_users

EVENTS_A_TRIP = 50_000
"""Events sent in one round trip: 0.9 MB, which Redis takes in within milliseconds."""
USERS_A_TRIP = 1_000
"""Users sent in one round trip."""

CURSOR_SECONDS = 7 * 24 * 3600
"""How long an interrupted load can be resumed."""

LoadProgress = Callable[[int, int], None]
"""Called with the users that are done and the users that there are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadResult:
    """What a load did; events of users that an earlier, interrupted load had done are not counted."""

    users: int
    """Users whose events were sent."""
    resumed_at: int
    """Users that an earlier load had done."""
    accepted: int
    """Events that are new in Redis."""
    duplicates: int
    """Events that were there already."""
    expired: int
    """Events no later than the oldest of a full history."""
    unknown: int
    """Events of items that the store's catalogue does not have: they have no item id."""
    rejected: int
    """Events whose item id, time or type no history takes."""
    first_rejection: str | None
    """Why the first of the rejected events was turned away."""
    deleted: int
    """Events of users up to their deletion, which stay away."""


async def load_histories(
    connection: Connection,
    store: EventStore,
    *,
    config: HistoryConfig,
    latest_ms: int,
    users: Sequence[str] | None,
    progress: LoadProgress | None,
    resume: bool,
) -> LoadResult:
    """What `HistoryStore.load` does. The place where a load stopped is a key in Redis: it is lost when the data are."""
    indexes = _indexes_of(store, users)
    cursor = f"{config.prefix}load:{_fingerprint(store, indexes, config.cap)}"
    start = int(await connection.command("GET", cursor) or 0) if resume else 0
    loading = _Loading(connection, store, config=config, latest_ms=latest_ms)
    done = start
    if progress:
        progress(done, len(indexes))
    for chunk in trips(store, indexes[start:], cap=config.cap):
        await loading.store_users(chunk)
        done += len(chunk)
        await connection.command("SET", cursor, done, "EX", CURSOR_SECONDS, timeout_s=config.bulk_timeout_s)
        if progress:
            progress(done, len(indexes))
    await connection.command("DEL", cursor)
    return LoadResult(users=done - start, resumed_at=start, **loading.counts)


class _Loading:
    """Stores users of an event store, some at a time, and counts what becomes of their events."""

    def __init__(self, connection: Connection, store: EventStore, *, config: HistoryConfig, latest_ms: int) -> None:
        self._connection, self._store = connection, store
        self._config, self._latest_ms = config, latest_ms
        self._deletions, self._tally = Deletions(store.directory), Tally()
        self._accepted = self._duplicates = self._expired = 0

    @property
    def counts(self) -> dict[str, Any]:
        """The fields of a LoadResult that count events."""
        stored = {"accepted": self._accepted, "duplicates": self._duplicates, "expired": self._expired}
        return {**stored, **asdict(self._tally)}

    async def store_users(self, users: npt.NDArray[np.int64]) -> None:
        """Merge the events of `users` into Redis, in one round trip."""
        config, names = self._config, self._store.user_ids.gather(users).to_list()
        histories = records_of_users(
            self._store,
            users,
            cap=config.cap,
            latest_ms=self._latest_ms,
            tally=self._tally,
            deletions=self._deletions,
        )
        calls = [
            append_call(config, name, records, joined=True)
            for name, (_, records) in zip(names, histories, strict=True)
            if records
        ]
        for reply in await self._connection.run_many(APPEND, calls, timeout_s=config.bulk_timeout_s):
            if isinstance(reply, HistoryError):
                raise reply
            _, _, _, accepted, duplicates, gone, older, *ties = reply
            self._accepted += accepted
            self._duplicates += duplicates
            self._tally.deleted += gone
            self._expired += older + len(ties)


def _indexes_of(store: EventStore, users: Sequence[str] | None) -> npt.NDArray[np.int64]:
    if users is None:
        return np.arange(store.n_users)
    indexes = {user: store.user_index(user) for user in users}
    missing = [user for user, index in indexes.items() if index is None]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(indexes)} users are not in event store {store.directory}, the first is "
            f"{missing[0]!r}; leave them out, or import the log that has them"
        )
    return np.array(sorted(index for index in indexes.values() if index is not None), dtype=np.int64)


def _fingerprint(store: EventStore, indexes: npt.NDArray[np.int64], cap: int) -> str:
    """Name of one load: another store, other users of it or another cap has another."""
    digest = blake2b((store.directory / MANIFEST_FILE).read_bytes(), digest_size=12)
    digest.update(store.offsets.tobytes())
    digest.update(indexes.tobytes())
    digest.update(str(cap).encode())
    return digest.hexdigest()


def trips(store: EventStore, indexes: npt.NDArray[np.int64], *, cap: int) -> Iterator[npt.NDArray[np.int64]]:
    """`indexes` in runs of at most USERS_A_TRIP users and, but for single users, EVENTS_A_TRIP events."""
    kept = np.minimum(store.offsets[indexes + 1] - store.offsets[indexes], cap)
    total = np.concatenate([[0], np.cumsum(kept)])
    begin = 0
    while begin < len(indexes):
        full = int(np.searchsorted(total, total[begin] + EVENTS_A_TRIP, side="right")) - 1
        end = min(max(full, begin + 1), begin + USERS_A_TRIP)
        yield indexes[begin:end]
        begin = end
