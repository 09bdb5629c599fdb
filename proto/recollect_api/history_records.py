"""What the client takes and returns of histories: plain frozen dataclasses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from recollect_api.records import Behaviour, Event, EventType


class ErasureState(IntEnum):
    """Whether deleted behaviours are still on a disk; the numbers are those of the wire."""

    UNSPECIFIED = 0
    ERASED = 1
    """They are not."""
    PENDING = 2
    """They may be: Redis's file until it is rewritten, the event store until `recollect history erase` has run."""
    NOT_USED = 3
    """The service has no such place."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Append:
    """Events of one user, among those of many."""

    user_id: str
    events: Sequence[Event]
    request_id: str = ""
    """The caller's name for this append: it is applied once, however often it is sent. "" for none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RejectedEvent:
    """An event that was not stored."""

    index: int
    """Its position in the events that were sent."""
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AppendResult:
    """What became of the events of one append."""

    accepted: int
    duplicates: int
    """Events that had been stored before and were left alone."""
    rejected: tuple[RejectedEvent, ...]
    history_version: int
    history_length: int
    request_id: str
    already_applied: bool
    """Whether an append of this request id was applied before: then nothing was changed now, and nothing is counted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HistoryPage:
    """One page of a history, newest first."""

    behaviours: tuple[Behaviour, ...]
    next_page_token: str
    """Ask for the next page with this; empty on the last page."""
    history_version: int
    history_length: int
    """Behaviours in the whole history."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Deletion:
    """The deletion of a user."""

    until: datetime
    """Behaviours that are not later are deleted, and refused when they are sent again. UTC."""
    redis_log: ErasureState | int
    """Whether they may still be in Redis's append-only file."""
    event_store: ErasureState | int
    """Whether they are still in the event store on the disk; they are not read from there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeleteResult:
    """The answer to one Delete call."""

    deleted_behaviours: int
    """How many behaviours this very call deleted."""
    deletion: Deletion
    request_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class HistoryStats:
    """What is stored of one user."""

    version: int
    """0 where there is no history."""
    length: int
    by_type: Mapping[EventType | int, int]
    """How many of each type; those with none are left out."""
    first_time: datetime | None
    """Time of the oldest behaviour, UTC; None without one."""
    last_time: datetime | None
    memory_bytes: int
    """What it takes of Redis's memory, all overhead included."""
    deletion: Deletion | None
    """The user's latest deletion."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreStats:
    """Redis, as it says that it is set up."""

    server: str
    """Name and version."""
    persistence: str
    """What survives a restart."""
    eviction: str
    """What it does when it is full (maxmemory-policy)."""
    memory_bytes: int
    memory_limit_bytes: int
    """0 for no limit."""
    warnings: tuple[str, ...]
    """What could break a promise of the store, each with its remedy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stats:
    """The answer to one Stats call."""

    history: HistoryStats | None
    """None where no user was asked for."""
    store: StoreStats
