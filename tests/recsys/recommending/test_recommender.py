"""The best n, in order, with what brought them in; caps and filters, with a ranker whose scores are known."""

from dataclasses import replace

import numpy as np
import pytest

from recsys.data.catalogue import Catalogue
from recsys.models.popularity import Popularity
from recsys.ranking import Ranking
from recsys.recommending.candidates import CandidateConfig, Origin
from recsys.recommending.recommender import Recommender, capped


class Decades:
    """Neighbours of an item are the others of its ten."""

    def nearest(self, item_ids, k):
        ids = [[other for other in range(item // 10 * 10, item // 10 * 10 + 10) if other != item] for item in item_ids]
        found = np.array([(row + [-1] * k)[:k] for row in ids], dtype=np.int64).reshape(len(item_ids), k)
        return found, np.where(found >= 0, 0.5, 0).astype(np.float32)


def higher_is_better(_history, candidates, *, explain=False):
    return Ranking(
        scores=(candidates / 100).astype(np.float32),
        known=np.ones(len(candidates), dtype=bool),
        found_positions=np.zeros((len(candidates), 1), dtype=np.int64) if explain else None,
        found_weights=np.ones((len(candidates), 1), dtype=np.float32) if explain else None,
    )


@pytest.fixture
def recommender():
    """Items 1 … 99 in categories by their last digit; popular are 99, 98, …"""
    items = np.arange(1, 100)
    catalogue = Catalogue(
        item_ids=np.r_[-1, items],
        category_rows=np.r_[0, items % 10 + 1].astype(np.int32),
        category_ids=np.r_[-1, np.arange(10)],
    )
    return Recommender(
        rank=higher_is_better,
        neighbours=Decades(),
        catalogue=catalogue,
        popularity=Popularity(items[::-1].copy(), np.full(99, 7)),
        config=CandidateConfig(candidates=12, recent=5, attended=0, neighbours=9, popular_share=0.0),
    )


def ids(*numbers):
    return np.array(numbers, dtype=np.int64)


def test_the_best_come_first_with_what_brought_them_in(recommender):
    got = recommender.recommend(ids(12, 34), 4)
    assert got.item_ids.tolist() == [36, 35, 33, 32]  # of six neighbours each
    assert got.scores.tolist() == pytest.approx([0.36, 0.35, 0.33, 0.32])
    assert got.behaviours.tolist() == [34, 34, 34, 34]
    assert set(got.origins.tolist()) == {Origin.RECENT}
    assert got.candidates == 12


def test_popularity_counts_in_the_order_and_not_in_the_scores(recommender):
    # By scores 36 leads 35: odds of 0.5625 against 0.5385. 35 has twice the events, and one more counts for each.
    popularity = Popularity(ids(35, 36), ids(199, 99))
    config = replace(recommender.config, candidates=2, neighbours=2, recent=1)
    small = replace(recommender, popularity=popularity, config=config)
    history = ids(34)

    class Two:
        def nearest(self, _item_ids, _k):
            return np.array([[35, 36]]), np.full((1, 2), 0.5, dtype=np.float32)

    def best(weight):
        weighted = replace(config, popularity_weight=weight)
        return replace(small, neighbours=Two(), config=weighted).recommend(history, 2)

    assert best(0.0).item_ids.tolist() == [36, 35]
    assert best(1.0).item_ids.tolist() == [35, 36]
    assert best(1.0).scores.tolist() == pytest.approx([0.35, 0.36])
    turning = np.log(0.5625 / (0.35 / 0.65)) / np.log(2)
    assert best(turning - 0.01).item_ids.tolist() == [36, 35]
    assert best(turning + 0.01).item_ids.tolist() == [35, 36]


def test_scores_of_0_and_1_are_put_in_order_too(recommender):
    def certain(history, candidates, *, explain=False):
        ranking = higher_is_better(history, candidates, explain=explain)
        return replace(ranking, scores=(candidates > 33).astype(np.float32))

    got = replace(recommender, rank=certain).recommend(ids(31), 9).item_ids
    assert set(got[:6].tolist()) == set(range(34, 40))


def test_what_was_seen_is_left_out_unless_told(recommender):
    assert 39 not in recommender.recommend(ids(39, 34), 20).item_ids
    assert 39 in recommender.recommend(ids(39, 34), 20, exclude_seen=False).item_ids
    assert 38 not in recommender.recommend(ids(34), 20, excluded=ids(38)).item_ids


def test_a_new_user_gets_what_is_popular_ranked(recommender):
    got = recommender.recommend(ids(), 3)
    assert got.item_ids.tolist() == [99, 98, 97]
    assert got.origins.tolist() == [Origin.POPULAR] * 3


def test_no_category_too_often(recommender):
    got = recommender.recommend(ids(11, 21, 31), 9, most_of_a_category=1)
    assert len(set((got.item_ids % 10).tolist())) == len(got.item_ids)
    assert got.item_ids.tolist() == sorted(got.item_ids.tolist(), reverse=True)


def test_only_what_may_be_shown(recommender):
    even = recommender.recommend(ids(34), 20, allowed=lambda items: items % 2 == 0)
    assert len(even.item_ids) == 20
    assert (even.item_ids % 2 == 0).all()
    told = recommender.recommend(ids(), 3, allowed=lambda items: items % 2 == 0, popular=ids(8, 6, 4, 2))
    assert told.item_ids.tolist() == [8, 6, 4]
    assert recommender.recommend(ids(34), 5, allowed=lambda items: items < 0).item_ids.tolist() == []


def test_as_many_as_are_asked_for_though_fewer_candidates_are_usual(recommender):
    assert len(recommender.recommend(ids(34), 50).item_ids) == 50
    assert len(recommender.recommend(ids(34), 200).item_ids) == 98
    few = recommender.recommend(ids(34), 50, allowed=lambda items: items < 20)
    assert sorted(few.item_ids.tolist()) == list(range(1, 20))


def test_what_the_model_does_not_know_is_not_shown(recommender):
    def knows_few(history, candidates, *, explain=False):
        ranking = higher_is_better(history, candidates, explain=explain)
        return replace(ranking, known=candidates < 35)

    got = replace(recommender, rank=knows_few).recommend(ids(34), 9)
    assert got.item_ids.tolist() == [33, 32, 31, 30]
    assert got.scores.tolist() == pytest.approx([0.33, 0.32, 0.31, 0.30])


def test_items_that_only_the_index_knows_take_nobodys_place(recommender):
    class Newer(Decades):
        def nearest(self, item_ids, k):
            found, alike = super().nearest(item_ids, k)
            return np.c_[found + 1_000, found], np.c_[alike + 0.1, alike]

    newer = replace(recommender, neighbours=Newer())
    got = newer.recommend(ids(12, 34), 12)
    assert sorted(got.item_ids.tolist()) == sorted(recommender.recommend(ids(12, 34), 12).item_ids.tolist())
    assert got.candidates == 12
    again = newer.recommend(ids(2_000, 12, 34), 20, exclude_seen=False)
    assert len(again.item_ids) == 20


@pytest.mark.parametrize("looked_through", [1, 7, 4_096])
def test_a_cap_is_filled_up_by_what_is_popular_of_other_categories(recommender, looked_through, monkeypatch):
    monkeypatch.setattr("recsys.recommending.recommender._LOOKED_THROUGH", looked_through)
    # Category 1 has what is most popular, 60 items; each of the others has three.
    category_rows = np.r_[0, np.repeat(np.arange(2, 15), 3), np.ones(60, dtype=int)].astype(np.int32)
    catalogue = replace(recommender.catalogue, category_rows=category_rows, category_ids=np.r_[-1, np.arange(14)])
    narrow = replace(recommender, catalogue=catalogue)
    for most in (1, 2, 3):
        got = narrow.recommend(ids(), 14 * most, most_of_a_category=most)
        counts = np.bincount(category_rows[got.item_ids], minlength=15)
        assert counts.tolist() == [0] + [most] * 14
        assert got.scores.tolist() == sorted(got.scores.tolist(), reverse=True)
    got = narrow.recommend(ids(1, 99), 20, most_of_a_category=1, excluded=ids(4, 5), allowed=lambda items: items != 6)
    assert sorted(category_rows[got.item_ids].tolist()) == [1, 2, *range(4, 15)]
    assert not set(got.item_ids.tolist()) & {1, 99, 4, 5, 6}


@pytest.mark.parametrize("most", [1, 2, 5])
def test_a_cap_keeps_the_first_of_each(most):
    categories = np.random.default_rng(1).integers(0, 4, 30).astype(np.int32)
    kept, counts = [], {}
    for place, category in enumerate(categories.tolist()):
        counts[category] = counts.get(category, 0) + 1
        if counts[category] <= most or category == 0:
            kept.append(place)
    assert capped(categories, most).tolist() == kept
    assert capped(categories[:0], most).tolist() == []
