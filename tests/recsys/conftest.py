"""Small event stores whose every event is known."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recsys.data.catalogue import Catalogue
from recsys.data.event_store import EventStore, StoreManifest

Log = dict[str, Sequence[tuple[int, int]]]
"""User id → (item row, time in ms), in order."""


@pytest.fixture
def store_of(tmp_path: Path) -> Callable[..., EventStore]:
    """Write a store of item rows 1 … `items`, whose ids are 100 times the row and whose categories are row % 3 + 1."""

    def write(log: Log, *, items: int = 50, name: str = "store") -> EventStore:
        directory = tmp_path / name
        directory.mkdir()
        users = sorted(log)
        events = [event for user in users for event in log[user]]
        offsets = np.cumsum([0, *(len(log[user]) for user in users)])
        np.save(directory / "offsets.npy", offsets.astype(np.int64))
        np.save(directory / "items.npy", np.array([row for row, _ in events], dtype=np.int32))
        np.save(directory / "times.npy", np.array([time for _, time in events], dtype=np.int64))
        np.save(directory / "types.npy", np.ones(len(events), dtype=np.uint8))
        pl.DataFrame({"user_id": users}).write_parquet(directory / "users.parquet")
        rows = np.arange(1, items + 1)
        Catalogue(
            item_ids=np.concatenate([[-1], rows * 100]).astype(np.int64),
            category_rows=np.concatenate([[0], rows % 3 + 1]).astype(np.int32),
            category_ids=np.array([-1, 10, 20, 30], dtype=np.int64),
        ).save(directory)
        times = [time for _, time in events]
        manifest = StoreManifest(
            n_users=len(users),
            n_items=items,
            n_categories=3,
            n_events=len(events),
            first_time_ms=min(times),
            last_time_ms=max(times),
        )
        (directory / "manifest.json").write_text(json.dumps(asdict(manifest)))
        return EventStore(directory)

    return write


@pytest.fixture
def shop_store(store_of: Callable[..., EventStore]) -> EventStore:
    """60 users of 45 events; each keeps to items of one residue class, so that there is something to learn."""
    generator = np.random.default_rng(7)
    log = {
        f"u{user:02}": [
            (int(generator.choice(np.arange(1 + user % 5, 51, 5))), 1_000 * (position + 1)) for position in range(45)
        ]
        for user in range(60)
    }
    return store_of(log)
