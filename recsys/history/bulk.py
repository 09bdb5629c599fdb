"""Fill Redis from an event store on disk, so that a lost cache is a matter of minutes and not of history."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Protocol

import numpy as np
import numpy.typing as npt

from recsys.data.catalogue import UNKNOWN_ROW
from recsys.data.event_store import MANIFEST_FILE, EventStore
from recsys.errors import DataError
from recsys.history.codec import RECORD_BYTES, EventBatch, faults, pack
from recsys.history.connection import Call, Connection
from recsys.history.scripts import APPEND

EVENTS_A_TRIP = 50_000
"""Events sent in one round trip: 0.9 MB, which Redis takes in within milliseconds."""
USERS_A_TRIP = 1_000
"""Users sent in one round trip."""

CURSOR_SECONDS = 7 * 24 * 3600
"""How long an interrupted load can be resumed."""

LoadProgress = Callable[[int, int], None]
"""Called with the users that are done and the users that there are."""


class Keeping(Protocol):
    """What loading must know of `HistoryConfig`."""

    @property
    def cap(self) -> int:
        """Longest history that is kept, in events."""

    @property
    def slack(self) -> int:
        """Events by which a stored string may exceed `cap`."""

    @property
    def prefix(self) -> str:
        """What every key begins with."""

    @property
    def bulk_timeout_s(self) -> float:
        """Deadline of one round trip, in seconds."""


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


@dataclass(slots=True)
class _Tally:
    """A LoadResult in the making."""

    users: int = 0
    accepted: int = 0
    duplicates: int = 0
    expired: int = 0
    unknown: int = 0
    rejected: int = 0
    first_rejection: str | None = None


async def load_histories(
    connection: Connection,
    store: EventStore,
    *,
    config: Keeping,
    key_of: Callable[[str], str],
    latest_ms: int,
    users: Sequence[str] | None,
    progress: LoadProgress | None,
    resume: bool,
) -> LoadResult:
    """What `HistoryStore.load` does. The place where a load stopped is a key in Redis: it is lost when the data are."""
    indexes = _indexes_of(store, users)
    cursor = f"{config.prefix}load:{_fingerprint(store, indexes, config.cap)}"
    start = int(await connection.command("GET", cursor) or 0) if resume else 0
    tally, done = _Tally(), start
    if progress:
        progress(done, len(indexes))
    for chunk in _trips(store, indexes[start:], cap=config.cap):
        histories = _records_of(store, chunk, cap=config.cap, latest_ms=latest_ms, tally=tally)
        calls: list[Call] = [
            (key_of(store.user_ids[user]), records, config.cap, config.slack) for user, records in histories if records
        ]
        for reply in await connection.run_many(APPEND, calls, timeout_s=config.bulk_timeout_s):
            _, _, accepted, duplicates, older, *ties = reply
            tally.accepted += accepted
            tally.duplicates += duplicates
            tally.expired += older + len(ties)
        done += len(chunk)
        tally.users += len(chunk)
        await connection.command("SET", cursor, done, "EX", CURSOR_SECONDS, timeout_s=config.bulk_timeout_s)
        if progress:
            progress(done, len(indexes))
    await connection.command("DEL", cursor)
    return LoadResult(resumed_at=start, **asdict(tally))


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


def _trips(store: EventStore, indexes: npt.NDArray[np.int64], *, cap: int) -> Iterator[npt.NDArray[np.int64]]:
    """`indexes` in runs of at most USERS_A_TRIP users and, but for single users, EVENTS_A_TRIP events."""
    kept = np.minimum(store.offsets[indexes + 1] - store.offsets[indexes], cap)
    total = np.concatenate([[0], np.cumsum(kept)])
    begin = 0
    while begin < len(indexes):
        full = int(np.searchsorted(total, total[begin] + EVENTS_A_TRIP, side="right")) - 1
        end = min(max(full, begin + 1), begin + USERS_A_TRIP)
        yield indexes[begin:end]
        begin = end


def _records_of(
    store: EventStore, chunk: npt.NDArray[np.int64], *, cap: int, latest_ms: int, tally: _Tally
) -> Iterator[tuple[int, bytes]]:
    """Each user of `chunk` with the valid records of their latest `cap` events, distinct and ascending by time."""
    ends = store.offsets[chunk + 1]
    begins = np.maximum(store.offsets[chunk], ends - cap)
    lengths = ends - begins
    owner = np.repeat(np.arange(len(chunk)), lengths)
    at = np.arange(len(owner)) + np.repeat(begins - (np.cumsum(lengths) - lengths), lengths)
    known = store.items[at] != UNKNOWN_ROW
    tally.unknown += int(np.count_nonzero(~known))
    owner, at = owner[known], at[known]
    batch = EventBatch(
        item_ids=store.catalogue.item_ids[store.items[at]].astype(np.int64, copy=False),
        times_ms=np.asarray(store.times[at]),
        types=np.asarray(store.types[at]),
    )
    keep = np.ones(len(batch), dtype=np.bool_)
    for index, reason in faults(batch, latest_ms=latest_ms):
        keep[index] = False
        tally.rejected += 1
        if tally.first_rejection is None:
            tally.first_rejection = f"user {store.user_ids[int(chunk[owner[index]])]!r}: {reason}"
    owner, times_ms, records = owner[keep], batch.times_ms[keep], pack(batch)[keep]
    if bool(np.any((owner[1:] == owner[:-1]) & (times_ms[1:] == times_ms[:-1]))):
        _number_repeats(owner, records)
    packed = records.tobytes()
    bounds = np.searchsorted(owner, np.arange(len(chunk) + 1)) * RECORD_BYTES
    for place, user in enumerate(chunk.tolist()):
        yield user, packed[bounds[place] : bounds[place + 1]]


def _number_repeats(owner: npt.NDArray[np.int64], records: npt.NDArray[np.void]) -> None:
    """Tell events that a user's log holds several times, equal to the millisecond, apart: in `records`, in place.

    They are events like all others to a model that was trained on the log. The second gets the digest 1, the third 2
    and so on, the same with every load, so that loading again still changes nothing.
    """
    tagged = np.empty(len(records), dtype=[("owner", ">u4"), ("record", f"V{RECORD_BYTES}")])
    tagged["owner"], tagged["record"] = owner, records.view(f"V{RECORD_BYTES}")
    # Fixed-width byte strings compare and sort where raw voids do not.
    comparable = tagged.view(f"S{tagged.dtype.itemsize}")
    order = np.argsort(comparable, kind="stable")
    new = np.ones(len(order), dtype=np.bool_)
    new[1:] = comparable[order][1:] != comparable[order][:-1]
    starts = np.flatnonzero(new)
    repeat = np.arange(len(order)) - starts[np.cumsum(new) - 1]  # 0 for the first of each
    records["digest_low"][order] = repeat & 0xFFFF
    records["digest_high"][order] = repeat >> 16
