"""Take deleted users out of an event store on the disk: written anew without them, then swapped in whole.

The store keeps every other event, its catalogue and its order. Who has it open reads the old one to the end; the bytes
are freed when the last of them has let go.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recsys.data.event_store import (
    ITEMS_FILE,
    MANIFEST_FILE,
    OFFSETS_FILE,
    TIMES_FILE,
    TYPES_FILE,
    USERS_FILE,
    EventStore,
)
from recsys.data.staging import staged_directory

EVENTS_AT_ONCE = 4_000_000
"""Events that are copied in one piece."""
REWRITTEN = frozenset({MANIFEST_FILE, USERS_FILE, OFFSETS_FILE, ITEMS_FILE, TIMES_FILE, TYPES_FILE})

Progress = Callable[[int, int], None]
"""Called with the events that are copied and the events that there are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Erasure:
    """What was taken out of a store."""

    users: int
    """Users of whom something was there."""
    events: int


def erase_users(directory: Path, until_ms: Mapping[str, int], *, progress: Progress | None = None) -> Erasure:
    """Take the events of each user in `until_ms` out that are not later than the time given there.

    A user without an event left is in the store no more. Nothing is written where there is nothing to take out.
    StoreError: no event store, or it cannot be written.
    """
    store = EventStore(directory)
    begins, ends = _cuts(store, until_ms)
    events = int((ends - begins).sum())
    if events == 0:
        return Erasure(users=0, events=0)
    lengths = np.diff(store.offsets)
    users = np.searchsorted(store.offsets, begins, side="right") - 1
    lengths[users] -= ends - begins
    left = np.ones(store.n_users, dtype=np.bool_)
    left[users] = lengths[users] > 0
    with staged_directory(directory, overwrite=True) as staging:
        for path in directory.iterdir():
            if path.name not in REWRITTEN:
                shutil.copy2(path, staging / path.name)
        store.user_ids.to_frame("user_id").filter(left).write_parquet(staging / USERS_FILE)
        np.save(staging / OFFSETS_FILE, np.concatenate([[0], np.cumsum(lengths[left])]).astype(np.int64))
        n_events = len(store) - events
        kept = np.concatenate([[0], np.stack([begins, ends], axis=1).ravel(), [len(store)]]).reshape(-1, 2)
        for name, column in ((ITEMS_FILE, store.items), (TIMES_FILE, store.times), (TYPES_FILE, store.types)):
            shown = progress if name == ITEMS_FILE else None
            _copy(column, staging / name, kept=kept, n_events=n_events, progress=shown)
        _write_manifest(store, staging, n_users=int(left.sum()), n_events=n_events, events=events)
    return Erasure(users=len(users), events=events)


def _cuts(store: EventStore, until_ms: Mapping[str, int]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """First event, and one past the last, of what goes of each user of whom something goes; ascending."""
    cuts = []
    for user_id, time_ms in until_ms.items():
        index = store.user_index(user_id)
        if index is not None:
            gone = store.history(index, before_ms=time_ms + 1)
            if gone.stop > gone.start:
                cuts.append((gone.start, gone.stop))
    ordered = np.array(sorted(cuts), dtype=np.int64).reshape(-1, 2)
    return ordered[:, 0], ordered[:, 1]


def _copy(
    column: npt.NDArray[np.generic],
    path: Path,
    *,
    kept: npt.NDArray[np.int64],
    n_events: int,
    progress: Progress | None,
) -> None:
    """Write the rows of `column` that lie in the ranges `kept` [R, 2]."""
    # numpy cannot map a file of no rows.
    if n_events == 0:
        np.save(path, np.empty(0, dtype=column.dtype))
        return
    copied = np.lib.format.open_memmap(path, mode="w+", dtype=column.dtype, shape=(n_events,))
    at = 0
    for begin, end in kept.tolist():
        for start in range(begin, end, EVENTS_AT_ONCE):
            piece = column[start : min(start + EVENTS_AT_ONCE, end)]
            copied[at : at + len(piece)] = piece
            at += len(piece)
            if progress:
                progress(at, n_events)
    copied.flush()


def _write_manifest(store: EventStore, staging: Path, *, n_users: int, n_events: int, events: int) -> None:
    first_ms = last_ms = 0
    if n_events:
        times = np.load(staging / TIMES_FILE, mmap_mode="r")
        first_ms, last_ms = int(times.min()), int(times.max())
    report = {**store.manifest.report, "events_erased": events + store.manifest.report.get("events_erased", 0)}
    manifest = replace(
        store.manifest,
        n_users=n_users,
        n_events=n_events,
        first_time_ms=first_ms,
        last_time_ms=last_ms,
        report=report,
    )
    (staging / MANIFEST_FILE).write_text(json.dumps(asdict(manifest), indent=2))
