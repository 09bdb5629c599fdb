"""What is popular is what there are most events of, and a model that was saved without is no error."""

from pathlib import Path

import numpy as np
import pytest

from recsys.data.event_store import EventStore
from recsys.data.ingest import ingest
from recsys.errors import DataError, StoreError
from recsys.models import popularity
from recsys.models.popularity import NOTHING_POPULAR, POPULARITY_FILE, Popularity, load_popularity, save_popularity


@pytest.fixture
def store(tmp_path: Path) -> EventStore:
    """Events of users u0, u1 and u2, the last of them later than the others'."""
    items = [7, 7, 7, 3, 3, 9, 5, 5]
    lines = [f"u{at % 3},{item},{1_600_000_000 + at}" for at, item in enumerate(items)]
    (tmp_path / "log.csv").write_text("\n".join(["user,item,time", *lines]))
    ingest("columns", tmp_path / "log.csv", tmp_path / "store")
    return EventStore(tmp_path / "store")


@pytest.mark.parametrize("part", [1, 3, 1_000])
def test_items_are_in_the_order_of_their_events(
    store: EventStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    monkeypatch.setattr(popularity, "_PART", part)
    save_popularity(tmp_path, store)
    loaded = load_popularity(tmp_path)
    assert loaded.item_ids.tolist() == [7, 3, 5, 9]  # equal ones by their id
    assert loaded.events.tolist() == [3, 2, 2, 1]
    early = Popularity.of(store, store.times[:] < 1_600_000_006_000)
    assert dict(zip(early.item_ids.tolist(), early.events.tolist(), strict=True)) == {7: 3, 3: 2, 9: 1, 5: 0}


def test_shares_count_one_event_more_for_each_item() -> None:
    counted = Popularity(np.array([7, 3, 9]), np.array([5, 1, 0]))
    shares = np.exp(counted.log_shares(np.array([9, 7, 3, 1_000])))
    assert shares.tolist() == pytest.approx([1 / 10, 6 / 10, 2 / 10, 1 / 10])  # the last: what is not known
    assert NOTHING_POPULAR.log_shares(np.array([1, 2])).tolist() == [0, 0]


@pytest.mark.parametrize("events", [[1, 2], [2, -1], [1]], ids=["ascending", "negative", "too few"])
def test_counts_that_cannot_be_are_refused(events: list[int]) -> None:
    with pytest.raises(DataError, match="events must be one number an item, at least 0 and in descending order"):
        Popularity(np.array([1, 2]), np.array(events))


def test_a_model_without_knows_nothing_and_a_torn_file_is_named(tmp_path: Path) -> None:
    assert load_popularity(tmp_path).item_ids.tolist() == []
    (tmp_path / POPULARITY_FILE).write_bytes(b"PAR1")
    with pytest.raises(StoreError, match=r"popularity\.parquet cannot be read"):
        load_popularity(tmp_path)
