"""The index that answers follows its label; what cannot be opened changes nothing; what is served cannot be removed."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recollect.artifacts import INDEXES, ArtifactStore
from recollect.errors import ArtifactError
from recollect.indexes.building import IndexBuilder
from recollect.indexes.serving import FollowedIndex, IndexNeighbours, IndexSource
from retrieval.index.building import BuildPlan, build_vector_index
from retrieval.index.quality import Thresholds
from retrieval.index.sources import ArrayVectors
from retrieval.index.spec import IndexSpec

PLAN = BuildPlan(choose=lambda _count, _dimension: IndexSpec())
Build = Callable[[int], str]


def circle(count: int, turn: float = 0.0) -> np.ndarray:
    """Items on a circle, each most like the two beside it."""
    angles = 2 * np.pi * np.arange(count) / count + turn
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Build a version of `items` from items 0, 10, 20, …; the version."""
    builder = IndexBuilder(root=tmp_path, thresholds=Thresholds(overlap=0, coverage=0), label="stable")

    def make(count: int) -> str:
        source = ArrayVectors(pl.Series("id", np.arange(count) * 10), circle(count), {"count": count})
        return builder.rebuild("items", source, PLAN).artifact.version

    return make


@pytest.fixture
def neighbours(tmp_path: Path) -> IndexNeighbours:
    vectors = np.concatenate([circle(12), circle(12)[:3]])  # 12, 13 and 14 are as 0, 1 and 2
    source = ArrayVectors(pl.Series("id", np.arange(15) * 10), vectors)
    return IndexNeighbours(build_vector_index(source, PLAN, tmp_path / "work"))


def test_neighbours_are_the_nearest_others(neighbours: IndexNeighbours) -> None:
    ids, similarities = neighbours.nearest(np.array([60, 5]), 2)
    assert set(ids[0].tolist()) == {50, 70}
    np.testing.assert_allclose(similarities[0], np.cos(np.pi / 6), atol=1e-3)
    assert ids[1].tolist() == [-1, -1]
    assert similarities[1].tolist() == [0, 0]


def test_an_equal_item_is_a_neighbour_and_itself_is_not(neighbours: IndexNeighbours) -> None:
    ids, _ = neighbours.nearest(np.array([0, 120, 10]), 3)
    assert ids[0, 0] == 120
    assert ids[1, 0] == 0
    assert ids[2, 0] == 130
    for asked, found in zip((0, 120, 10), ids.tolist(), strict=True):
        assert asked not in found


def test_no_more_neighbours_than_there_are(neighbours: IndexNeighbours) -> None:
    ids, _ = neighbours.nearest(np.array([0]), 20)
    assert sorted(ids[0][ids[0] >= 0].tolist()) == [item * 10 for item in range(1, 15)]
    assert neighbours.nearest(np.empty(0, dtype=np.int64), 3)[0].shape == (0, 3)


def test_a_label_that_moves_is_followed_and_what_is_left_can_be_removed(build: Build, tmp_path: Path) -> None:
    first = build(12)
    store = ArtifactStore(tmp_path, kind=INDEXES)
    followed = IndexSource(root=tmp_path, reference="items@stable").open()
    second = build(18)
    assert followed.current.version == first
    assert store.remove_unneeded("items", keep=0).held == (first,)
    before = followed.current
    asyncio.run(followed.look())
    assert followed.current.version == second
    assert store.remove_unneeded("items", keep=0).versions == (first,)
    # A call that took the one before still has it.
    assert before.neighbours.nearest(np.array([0]), 1)[0].tolist()[0][0] in (10, 110)
    followed.close()


def test_a_version_that_is_damaged_leaves_the_one_before(build: Build, tmp_path: Path) -> None:
    first = build(12)
    followed = FollowedIndex(tmp_path, "items@stable")
    second = build(18)
    path = tmp_path / "items" / second / "index" / "index.faiss"
    path.write_bytes(path.read_bytes()[:-1])
    for _ in range(2):
        asyncio.run(followed.look())
        assert followed.current.version == first
    ArtifactStore(tmp_path, kind=INDEXES).roll_back("items", "stable")
    third = build(20)
    asyncio.run(followed.look())
    assert followed.current.version == third
    followed.close()


def test_what_is_missing_is_told(build: Build, tmp_path: Path) -> None:
    build(12)
    with pytest.raises(ArtifactError, match="no index 'items@canary'"):
        IndexSource(root=tmp_path, reference="items@canary").check()
    with pytest.raises(ArtifactError, match=r"index must be NAME@LABEL such as items@stable, got 'items/3'"):
        IndexSource(root=tmp_path, reference="items/3").check()


def test_an_index_of_other_things_is_refused_and_the_one_before_answers_on(build: Build, tmp_path: Path) -> None:
    first = build(12)
    items = np.arange(7) * 10
    followed = IndexSource(root=tmp_path, reference="items@stable").open(lambda ids: np.isin(ids, items))
    build(20)  # 7 of 20 are known
    asyncio.run(followed.look())
    assert followed.current.version == first
    followed.close()
    with pytest.raises(ArtifactError, match=r"knows only 35% of the ids of items/\S+ as items; recommend from"):
        IndexSource(root=tmp_path, reference="items@stable").open(lambda ids: np.isin(ids, items))
