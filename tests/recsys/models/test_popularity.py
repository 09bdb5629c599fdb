"""What is popular is what there are most events of, and a model that was saved without is no error."""

from pathlib import Path

import pytest

from recsys.data.event_store import EventStore
from recsys.data.ingest import ingest
from recsys.errors import StoreError
from recsys.models import popularity
from recsys.models.popularity import POPULARITY_FILE, load_popular, save_popularity


@pytest.mark.parametrize("part", [1, 3, 1_000])
def test_items_are_in_the_order_of_their_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    monkeypatch.setattr(popularity, "_PART", part)
    items = [7, 7, 7, 3, 3, 9, 5, 5]
    lines = [f"u{at % 3},{item},{1_600_000_000 + at}" for at, item in enumerate(items)]
    (tmp_path / "log.csv").write_text("\n".join(["user,item,time", *lines]))
    ingest("columns", tmp_path / "log.csv", tmp_path / "store")
    save_popularity(tmp_path, EventStore(tmp_path / "store"))
    assert load_popular(tmp_path).tolist() == [7, 3, 5, 9]  # equal ones by their id


def test_a_model_without_knows_nothing_and_a_torn_file_is_named(tmp_path: Path) -> None:
    assert load_popular(tmp_path).tolist() == []
    (tmp_path / POPULARITY_FILE).write_bytes(b"PAR1")
    with pytest.raises(StoreError, match=r"popularity\.parquet cannot be read"):
        load_popular(tmp_path)
