"""Hold every event of every user in flat, memory-mapped arrays, so that a history is a slice and never a copy.

On disk, one directory:

    manifest.json       schema version, counts, time range, the import report
    users.parquet       user_id (string), ascending: row u is user u
    offsets.npy         int64 [U + 1]: events of user u are offsets[u] : offsets[u + 1]
    items.npy           int32 [E]: catalogue rows (0 = unknown)
    times.npy           int64 [E]: milliseconds since the Unix epoch, UTC
    types.npy           uint8 [E]: EventType
    items.parquet, categories.parquet: the catalogue

Events are sorted by (user, time, order in the log). `recsys.data.ingest` writes it.
"""

import json
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from recsys.data.catalogue import Catalogue
from recsys.errors import StoreError

SCHEMA_VERSION = 1
MANIFEST_FILE = "manifest.json"
USERS_FILE = "users.parquet"
OFFSETS_FILE, ITEMS_FILE, TIMES_FILE, TYPES_FILE = "offsets.npy", "items.npy", "times.npy", "types.npy"


class EventType(IntEnum):
    """What a user did; the numbers are those of the wire and of the Redis records."""

    UNSPECIFIED = 0
    CLICK = 1
    CART = 2
    FAVORITE = 3
    PURCHASE = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreManifest:
    """What an event store holds and where it came from."""

    n_users: int
    n_items: int
    n_categories: int
    n_events: int
    first_time_ms: int
    """Time of the earliest event, milliseconds since the Unix epoch; 0 in an empty store."""
    last_time_ms: int
    """Time of the latest event, milliseconds since the Unix epoch; 0 in an empty store."""
    source: dict[str, Any] = field(default_factory=dict)
    """Format, path and options that the events were read with."""
    report: dict[str, Any] = field(default_factory=dict)
    """Rows read, kept and dropped by reason."""
    schema_version: int = SCHEMA_VERSION


class EventStore:
    """Read-only view of an event store directory; opening it reads no events.

    `items`, `times` and `types` are memory maps over all E events; `history` returns slices of them.
    """

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)
        self.manifest = _read_manifest(self.directory)
        try:
            self.offsets: npt.NDArray[np.int64] = np.load(self.directory / OFFSETS_FILE)
            self.items: npt.NDArray[np.int32] = np.load(self.directory / ITEMS_FILE, mmap_mode="r")
            self.times: npt.NDArray[np.int64] = np.load(self.directory / TIMES_FILE, mmap_mode="r")
            self.types: npt.NDArray[np.uint8] = np.load(self.directory / TYPES_FILE, mmap_mode="r")
            self.user_ids: pl.Series = pl.read_parquet(self.directory / USERS_FILE, glob=False)["user_id"]
        except (OSError, ValueError, pl.exceptions.PolarsError) as error:
            raise StoreError(f"event store {self.directory} is incomplete ({error}); import the log again") from error
        self.catalogue = Catalogue.load(self.directory)
        n_events, n_users = self.manifest.n_events, self.manifest.n_users
        sizes = {len(self.items), len(self.times), len(self.types), int(self.offsets[-1])}
        if sizes != {n_events} or len(self.offsets) != n_users + 1 or len(self.user_ids) != n_users:
            raise StoreError(
                f"event store {self.directory} is torn: manifest says {n_events} events of {n_users} users, "
                f"arrays hold {sorted(sizes)} events of {len(self.offsets) - 1} users; import the log again"
            )

    def __len__(self) -> int:
        return self.manifest.n_events

    @property
    def n_users(self) -> int:
        """U."""
        return self.manifest.n_users

    def user_index(self, user_id: str) -> int | None:
        """Index of `user_id`, or None for a user who has no events here."""
        index = self.user_ids.search_sorted(user_id)
        if index < self.n_users and self.user_ids[index] == user_id:
            return int(index)
        return None

    def history(self, user: int, *, before_ms: int | None = None, limit: int | None = None) -> slice:
        """The latest `limit` events of `user` strictly earlier than `before_ms`, as a slice of the flat arrays."""
        begin, end = int(self.offsets[user]), int(self.offsets[user + 1])
        if before_ms is not None:
            end = begin + int(np.searchsorted(self.times[begin:end], before_ms, side="left"))
        if limit is not None:
            begin = max(begin, end - limit)
        return slice(begin, end)


def _read_manifest(directory: Path) -> StoreManifest:
    path = directory / MANIFEST_FILE
    try:
        raw = json.loads(path.read_text())
    except FileNotFoundError:
        raise StoreError(
            f"no event store at {directory}: {MANIFEST_FILE} is missing; make one with `recollect data import`"
        ) from None
    except (OSError, ValueError) as error:
        raise StoreError(f"cannot read {path}: {error}") from error
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if version != SCHEMA_VERSION:
        raise StoreError(
            f"event store {directory} has schema {version}, this release reads {SCHEMA_VERSION}; import the log again"
        )
    try:
        return StoreManifest(**raw)
    except TypeError as error:
        raise StoreError(f"{path} is not an event store's manifest ({error}); import the log again") from error
