"""Open, slice and refuse event stores."""

import json

import numpy as np
import polars as pl
import pytest

from recsys.data.event_store import EventStore, EventType
from recsys.data.ingest import write_store
from recsys.errors import StoreError


def canonical(rows):
    """(user, item, category, time_ms, type) rows as an import batch."""
    names = ("user", "item", "category", "time_ms", "type")
    kinds = (pl.String, pl.Int64, pl.Int64, pl.Int64, pl.UInt8)
    frame = pl.DataFrame(rows, schema=dict(zip(names, kinds, strict=True)), orient="row")
    return frame.with_columns(
        pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias("row"), pl.lit(None, dtype=pl.String).alias("reason")
    )


@pytest.fixture
def store(tmp_path):
    rows = [("b", 7, 1, 30, 1), ("b", 8, 1, 10, 4), ("b", 7, 1, 20, 1), ("b", 9, 2, 20, 2), ("a", 7, 1, 5, 1)]
    write_store([canonical(rows)], tmp_path / "s", source={"format": "test"})
    return EventStore(tmp_path / "s")


def test_events_are_sorted_by_user_time_and_row(store):
    assert store.user_ids.to_list() == ["a", "b"]
    assert store.offsets.tolist() == [0, 1, 5]
    assert store.times.tolist() == [5, 10, 20, 20, 30]
    assert store.catalogue.item_ids[store.items].tolist() == [7, 8, 7, 9, 7]
    assert store.types.tolist() == [1, EventType.PURCHASE, 1, EventType.CART, 1]
    assert (store.items.dtype, store.times.dtype, store.types.dtype) == (np.int32, np.int64, np.uint8)
    assert (len(store), store.n_users) == (5, 2)


def test_user_index(store):
    assert [store.user_index(user) for user in ("a", "b", "", "aa", "c")] == [0, 1, None, None, None]


@pytest.mark.parametrize(
    ("before_ms", "limit", "expected"),
    [(None, None, [10, 20, 20, 30]), (20, None, [10]), (21, 2, [20, 20]), (10, None, []), (None, 1, [30]), (99, 0, [])],
)
def test_history_is_strictly_earlier_and_the_latest(store, before_ms, limit, expected):
    assert store.times[store.history(1, before_ms=before_ms, limit=limit)].tolist() == expected


def test_history_is_a_view(store):
    assert np.shares_memory(store.times[store.history(1)], store.times)


def test_an_empty_store_opens(tmp_path):
    report = write_store([], tmp_path / "empty", source={})
    store = EventStore(tmp_path / "empty")
    assert (len(store), store.n_users, report.rows_read) == (0, 0, 0)
    assert store.user_index("a") is None
    assert (store.manifest.first_time_ms, store.manifest.last_time_ms) == (0, 0)
    assert store.catalogue.n_items == 0


def test_no_store(tmp_path):
    with pytest.raises(StoreError, match="recollect data import"):
        EventStore(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot read"),
        ("[]", "schema None"),
        ('{"schema_version": 99}', "schema 99, this release reads 1"),
        ('{"schema_version": 1}', "is not an event store's manifest"),
    ],
    ids=["torn", "a list", "another schema", "fields missing"],
)
def test_a_manifest_that_is_not_ours(store, text, message):
    (store.directory / "manifest.json").write_text(text)
    with pytest.raises(StoreError, match=message):
        EventStore(store.directory)


@pytest.mark.parametrize(
    "name", ["offsets.npy", "items.npy", "times.npy", "types.npy", "users.parquet", "items.parquet"]
)
def test_a_missing_file(store, name):
    (store.directory / name).unlink()
    with pytest.raises(StoreError, match=r"incomplete|no catalogue"):
        EventStore(store.directory)


def test_arrays_of_another_length(store):
    np.save(store.directory / "items.npy", np.zeros(4, np.int32))
    with pytest.raises(StoreError, match="is torn: manifest says 5 events of 2 users"):
        EventStore(store.directory)


def test_the_manifest_is_json(store):
    manifest = json.loads((store.directory / "manifest.json").read_text())
    assert (manifest["n_events"], manifest["n_items"], manifest["source"]) == (5, 3, {"format": "test"})
