"""Turn a batch of behaviours into one call of the append script, and its reply into what became of each event."""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from recsys.history.codec import EventBatch, faults, pack, pack_one
from recsys.history.config import HistoryConfig
from recsys.history.connection import Call

REQUEST_BYTES = 8
"""Of the digest of a request id, and of the digest of what the request asks."""
_FIRST = np.zeros(1, dtype=np.int64)


@dataclass(frozen=True, kw_only=True, slots=True)
class Append:
    """Events of one user, to be stored or refused together with no other's."""

    user_id: str
    events: EventBatch
    request_id: str = ""
    """The caller's name for this append: it is applied once, however often it comes. "" for none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AppendResult:
    """What became of a batch: every event is accepted, a duplicate or rejected, but in a repeated request."""

    accepted: int
    """Events that are new in the history."""
    duplicates: int
    """Events that were there already, or twice in the batch."""
    rejected: list[tuple[int, str]]
    """Index in the batch and reason of every event that was turned away, ascending."""
    version: int
    """Version of the history after the append; 0 where the user has never had one."""
    length: int
    """Events in the history after the append."""
    repeated: bool = False
    """Whether a request of this id was applied before: then nothing was changed, and nothing is counted here."""


class Appending:
    """One append on its way to Redis."""

    def __init__(self, append: Append, *, latest_ms: int) -> None:
        events = append.events
        self._append = append
        self._rejected = faults(events, latest_ms=latest_ms)
        self._records: bytes
        """Valid, distinct records, ascending by time, in order of arrival where times are equal."""
        self._arrivals: npt.NDArray[np.int64]
        """Index in the batch of each of these records."""
        self._repeats = 0
        """Valid events that are in the batch once more."""
        if len(events) == 1 and not self._rejected:  # what a live event is
            self._records, self._arrivals = pack_one(events), _FIRST
        else:
            self._sort(events)

    def _sort(self, events: EventBatch) -> None:
        arrivals = np.arange(len(events))
        if self._rejected:
            arrivals = np.delete(arrivals, [index for index, _ in self._rejected])
        arrivals = arrivals[np.argsort(events.times_ms[arrivals], kind="stable")]
        records = pack(events)[arrivals]
        valid = len(records)
        if valid > 1:
            # Fixed-width byte strings compare and sort where raw voids do not; a trailing zero byte is no matter here,
            # since all are of one width.
            _, firsts = np.unique(records.view(f"S{records.itemsize}"), return_index=True)
            firsts.sort()
            records, arrivals = records[firsts], arrivals[firsts]
        self._records, self._arrivals, self._repeats = records.tobytes(), arrivals, valid - len(records)

    def call(self, config: HistoryConfig) -> Call:
        """What the script is called with."""
        return append_call(config, self._append.user_id, self._records, request=_request(self._append))

    def result(self, reply: list[Any]) -> AppendResult:
        """What the script's `reply` says of each event."""
        state, version, length, *counts = map(int, reply)
        if state == 1:
            return AppendResult(
                accepted=0, duplicates=0, rejected=self._rejected, version=version, length=length, repeated=True
            )
        if state == 2:
            reason = f"request_id {self._append.request_id!r} was used for other events; give every request its own"
            rejected = [(index, reason) for index in range(len(self._append.events))]
            return AppendResult(accepted=0, duplicates=0, rejected=rejected, version=version, length=length)
        accepted, duplicates, gone, older, *ties = counts
        rejected = self._rejected
        if gone or older or ties:
            left = "not later than the deletion of the user's history"
            late = f"too late: not later than the oldest of the {length} events that are kept"
            rejected = sorted(
                [
                    *rejected,
                    *((index, left) for index in self._arrivals[:gone].tolist()),
                    *((index, late) for index in self._arrivals[[*range(gone, gone + older), *ties]].tolist()),
                ]
            )
        return AppendResult(
            accepted=accepted,
            duplicates=duplicates + self._repeats,
            rejected=rejected,
            version=version,
            length=length,
        )


def append_call(
    config: HistoryConfig, user_id: str, records: bytes, *, request: bytes = b"", joined: bool = False
) -> Call:
    """The call that adds `records`, distinct and ascending by time; `joined` says that they are the event store's."""
    return (
        config.keys_of(user_id),
        (records, config.cap, config.slack, int(joined), request, config.requests_kept, config.requests_s),
    )


def _request(append: Append) -> bytes:
    """Digest of the request id, then of the events as they were sent; empty where there is no id."""
    if not append.request_id:
        return b""
    events = append.events
    asked = blake2b(digest_size=REQUEST_BYTES)
    for column in (events.item_ids, events.times_ms, events.types):
        asked.update(np.ascontiguousarray(column, dtype=np.int64).tobytes())
    asked.update("\0".join(events.event_ids or ()).encode())
    return blake2b(append.request_id.encode(), digest_size=REQUEST_BYTES).digest() + asked.digest()
