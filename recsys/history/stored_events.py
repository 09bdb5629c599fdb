"""The event store's half of a history: the records of its users, as they are merged into Redis."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recsys.data.catalogue import UNKNOWN_ROW
from recsys.data.deletions import Deletions
from recsys.data.event_store import MANIFEST_FILE, EventStore
from recsys.history.codec import RECORD_BYTES, EventBatch, faults, pack


@dataclass(slots=True)
class Tally:
    """What was left out."""

    unknown: int = 0
    """Events of items that the store's catalogue does not have: they have no item id."""
    rejected: int = 0
    """Events whose item id, time or type no history takes."""
    first_rejection: str | None = None
    """Why the first of the rejected events was turned away."""
    deleted: int = 0
    """Events of users up to their deletion."""


class EventSource:
    """An event store to read through to; opened anew when it is replaced on the disk."""

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)
        self._store = EventStore(directory)
        self._opened = self._identity()
        self.deletions = Deletions(directory)

    @property
    def store(self) -> EventStore:
        """The store as it is on the disk now."""
        identity = self._identity()
        if identity is not None and identity != self._opened:  # None: between the two renames of a replacement
            self._store, self._opened = EventStore(self.directory), identity
        return self._store

    def records_of(self, user_id: str, *, cap: int, latest_ms: int) -> bytes | None:
        """Records of the latest `cap` events, ascending by time; None for a user who is not in the store. Blocking."""
        store = self.store
        index = store.user_index(user_id)
        if index is None:
            return None
        ((_, records),) = records_of_users(
            store, np.array([index]), cap=cap, latest_ms=latest_ms, tally=Tally(), deletions=self.deletions
        )
        return records

    def holds_deleted(self, user_id: str) -> bool:
        """Whether events of `user_id` up to their deletion still lie in the store."""
        until, store = self.deletions.time_of(user_id), self.store
        index = store.user_index(user_id)
        if until is None or index is None:
            return False
        held = store.history(index, before_ms=until + 1)
        return bool(held.stop > held.start)

    def _identity(self) -> tuple[int, int] | None:
        try:
            state = (self.directory / MANIFEST_FILE).stat()
        except FileNotFoundError:
            return None
        return state.st_ino, state.st_mtime_ns


def records_of_users(
    store: EventStore,
    users: npt.NDArray[np.int64],
    *,
    cap: int,
    latest_ms: int,
    tally: Tally,
    deletions: Deletions,
) -> Iterator[tuple[int, bytes]]:
    """Each of `users` with the valid records of their latest `cap` events, distinct and ascending by time.

    Events up to a user's deletion are left out, wherever the store still has them.
    """
    ends = store.offsets[users + 1]
    begins = np.maximum(store.offsets[users], ends - cap)
    lengths = ends - begins
    owner = np.repeat(np.arange(len(users)), lengths)
    at = np.arange(len(owner)) + np.repeat(begins - (np.cumsum(lengths) - lengths), lengths)
    known = store.items[at] != UNKNOWN_ROW
    tally.unknown += int(np.count_nonzero(~known))
    owner, at = owner[known], at[known]
    owner, at = _without_deleted(store, users, owner, at, deletions=deletions, tally=tally)
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
            tally.first_rejection = f"user {store.user_ids[int(users[owner[index]])]!r}: {reason}"
    owner, times_ms, records = owner[keep], batch.times_ms[keep], pack(batch)[keep]
    if bool(np.any((owner[1:] == owner[:-1]) & (times_ms[1:] == times_ms[:-1]))):
        _number_repeats(owner, records)
    packed = records.tobytes()
    bounds = np.searchsorted(owner, np.arange(len(users) + 1)) * RECORD_BYTES
    for place, user in enumerate(users.tolist()):
        yield user, packed[bounds[place] : bounds[place + 1]]


def _without_deleted(
    store: EventStore,
    users: npt.NDArray[np.int64],
    owner: npt.NDArray[np.int64],
    at: npt.NDArray[np.int64],
    *,
    deletions: Deletions,
    tally: Tally,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    until = deletions.times_ms
    if not until:
        return owner, at
    limits = np.array([until.get(store.user_ids[user], -1) for user in users.tolist()], dtype=np.int64)
    kept = store.times[at] > limits[owner]
    kept |= limits[owner] < 0
    tally.deleted += int(np.count_nonzero(~kept))
    return owner[kept], at[kept]


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
