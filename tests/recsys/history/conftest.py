"""Event stores written by hand, so that these tests do not depend on an importer."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recsys.data import event_store
from recsys.data.catalogue import Catalogue
from recsys.data.event_store import EventStore, StoreManifest

Log = dict[str, list[tuple[int, int, int]]]


@pytest.fixture
def make_event_store(tmp_path: Path) -> Callable[..., EventStore]:
    """Make a store of {user: [(item row, time_ms, type)]}; row r of the catalogue is item 100 + r."""

    def make(log: Log, *, n_items: int = 9, name: str = "events") -> EventStore:
        directory = tmp_path / name
        directory.mkdir()
        users = sorted(log)
        events = [event for user in users for event in log[user]]
        rows, times, types = (np.array([event[at] for event in events], dtype=np.int64) for at in range(3))
        np.save(directory / event_store.OFFSETS_FILE, np.cumsum([0, *(len(log[user]) for user in users)]))
        np.save(directory / event_store.ITEMS_FILE, rows.astype(np.int32))
        np.save(directory / event_store.TIMES_FILE, times)
        np.save(directory / event_store.TYPES_FILE, types.astype(np.uint8))
        pl.DataFrame({"user_id": users}).write_parquet(directory / event_store.USERS_FILE)
        Catalogue(
            item_ids=np.array([-1, *range(101, 101 + n_items)], dtype=np.int64),
            category_rows=np.array([0] + [1] * n_items, dtype=np.int32),
            category_ids=np.array([-1, 5], dtype=np.int64),
        ).save(directory)
        manifest = StoreManifest(
            n_users=len(users),
            n_items=n_items,
            n_categories=1,
            n_events=len(events),
            first_time_ms=int(times.min()),
            last_time_ms=int(times.max()),
        )
        (directory / event_store.MANIFEST_FILE).write_text(json.dumps(asdict(manifest)))
        return EventStore(directory)

    return make
