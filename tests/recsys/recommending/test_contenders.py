"""Each way to answer, on items whose neighbours and scores are known."""

from dataclasses import replace

import numpy as np
import pytest

from recsys.data.catalogue import Catalogue
from recsys.models.popularity import Popularity
from recsys.ranking import Ranking
from recsys.recommending import contenders as module
from recsys.recommending.candidates import CandidateConfig
from recsys.recommending.contenders import SERVED, Depth, contenders
from recsys.recommending.recommender import Recommender


class Near:
    """Items 1 … 30; those at distances 1 and 2 are alike by 0.8 and 0.5, plus `more`."""

    def __init__(self, more=0.0):
        self.more = more

    def nearest(self, item_ids, k):
        ids = np.stack([item_ids + step for step in (1, -1, 2, -2)], axis=1)[:, :k]
        similarities = np.tile(np.float32([0.8, 0.8, 0.5, 0.5]) + self.more, (len(item_ids), 1))[:, :k]
        return np.where((ids >= 1) & (ids <= 30), ids, -1), similarities.astype(np.float32)


def rank(history, candidates, *, explain=False):
    """The lower the id the better; the oldest behaviour has all attention."""
    return Ranking(
        scores=(1 / (1 + candidates)).astype(np.float32),
        known=np.ones(len(candidates), dtype=bool),
        found_positions=np.zeros((len(candidates), 1), dtype=np.int64) if explain else None,
        found_weights=np.ones((len(candidates), 1), dtype=np.float32) if explain else None,
    )


@pytest.fixture
def served():
    """Popular are 30, 29, …, all alike so that scores alone decide; candidates from the latest item and one more."""
    items = np.arange(1, 31)
    return Recommender(
        rank=rank,
        neighbours=Near(),
        catalogue=Catalogue(
            item_ids=np.r_[-1, items], category_rows=np.zeros(31, dtype=np.int32), category_ids=np.array([-1])
        ),
        popularity=Popularity(items[::-1].copy(), np.full(30, 4)),
        config=CandidateConfig(recent=1, attended=1, neighbours=4, popular_share=0.25),
    )


@pytest.fixture
def answers(served):
    found = contenders(served, Near(more=0.1), Depth(candidates=8, shown=3))
    return lambda name, history, again=False: found[name](np.array(history, dtype=np.int64), again)


def test_popularity_alone(answers):
    assert answers("popular", [29, 5]).candidates.tolist() == [30, 28, 27, 26, 25, 24, 23, 22]
    assert answers("popular", [29, 5]).ranked.tolist() == [30, 28, 27]
    assert answers("popular", [29, 5], again=True).ranked.tolist() == [30, 29, 28]


def test_own_items_by_how_often_then_how_late(answers):
    history = [7, 8, 8, 9, 7, 2]
    assert answers("own items, then popular", history, again=True).candidates.tolist() == [7, 8, 2, 9, 30, 29, 28, 27]
    assert answers("own items, then popular", history).ranked.tolist() == [30, 29, 28]


def test_item_to_item_sums_up_the_latest(answers):
    got = answers("item-to-item: index", [3, 20])
    assert got.candidates.tolist() == [19, 21, 18, 22]
    assert got.ranked.tolist() == [19, 21, 18]


def test_what_is_served_and_its_parts(answers):
    history = [10, 20]
    assert set(answers("… of recent", history).candidates.tolist()) == {19, 21, 18, 22}
    assert set(answers("… of recent, attended", history).candidates.tolist()) == {19, 21, 18, 22, 9, 11, 8, 12}
    assert answers("… of recent, popular", history).candidates.tolist() == [21, 19, 22, 18, 30, 29, 28, 27]
    assert answers("… of popular", history).candidates.tolist() == [30, 29, 28, 27, 26, 25, 24, 23]
    assert answers("… of popular", history).ranked.tolist() == [23, 24, 25]
    assert answers(SERVED, history).candidates.tolist() == [21, 19, 11, 9, 22, 18, 30, 29]
    assert answers(SERVED, history).ranked.tolist() == [9, 11, 18]


def test_popularity_counts_unless_scores_alone_do(served):
    shared = replace(served, popularity=Popularity(np.array([29, 1]), np.array([10_000, 1])))
    found = contenders(shared, Near(), Depth(candidates=8, shown=3))
    history = np.array([3, 28])
    assert found[SERVED](history, False).ranked.tolist()[0] == 29
    assert found["… by score alone"](history, False).ranked.tolist()[0] == 1


def test_the_whole_catalogue_is_ranked_where_it_is_small(answers, served, monkeypatch):
    assert answers("… of the whole catalogue", [3, 20]).candidates.tolist() == [1, 2, 4, 5, 6, 7, 8, 9]
    assert answers("… of the whole catalogue", [3, 20], again=True).ranked.tolist() == [1, 2, 3]
    monkeypatch.setattr(module, "LARGEST_WHOLE_CATALOGUE", 29)
    assert "… of the whole catalogue" not in contenders(served, Near())


def test_nothing_that_was_seen_unless_it_is_wanted_again(answers):
    history = [5, 6, 20, 21]
    for name in ("popular", "item-to-item: index", "item-to-item: taken together", SERVED, "… of the whole catalogue"):
        got = answers(name, history)
        assert not set(history) & {*got.candidates.tolist(), *got.ranked.tolist()}, name
    assert 21 in answers(SERVED, history, again=True).candidates
