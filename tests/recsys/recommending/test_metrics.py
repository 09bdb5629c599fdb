"""Measures of ranked lists, worked out by hand, and held to sets and loops at random."""

import math

import numpy as np
import pytest

from recsys.errors import DataError
from recsys.recommending.metrics import (
    Wanted,
    coverage_at,
    hit_rate_at,
    hits,
    mean_over_users,
    ndcg_at,
    recall_at,
)


def wanted(*users):
    return Wanted(
        item_ids=np.array([item for user in users for item in user], dtype=np.int64),
        offsets=np.cumsum([0, *map(len, users)]),
    )


RANKED = np.array([[7, 3, 9, 1], [3, 7, -1, -1], [5, 6, 7, 8]])
WANTED = wanted([3, 1, 40], [7], [])


def test_a_place_counts_for_its_own_user_alone():
    found = hits(RANKED, WANTED)
    assert found.tolist() == [[False, True, False, True], [False, True, False, False], [False] * 4]
    assert not hits(RANKED, wanted([], [], [])).any()
    assert not hits(np.full((3, 2), -1), WANTED).any(), "an empty place is nobody's wish"


def test_recall_and_hit_rate_by_hand():
    found, counts = hits(RANKED, WANTED), WANTED.counts
    assert recall_at(1, found, counts)[:2].tolist() == [0, 0]
    assert recall_at(2, found, counts)[:2].tolist() == [1 / 3, 1]
    assert recall_at(99, found, counts)[:2].tolist() == [2 / 3, 1]
    assert hit_rate_at(1, found, counts)[:2].tolist() == [0, 0]
    assert hit_rate_at(2, found, counts)[:2].tolist() == [1, 1]
    for measure in (recall_at, hit_rate_at, ndcg_at):
        assert np.isnan(measure(2, found, counts)[2]), "who wanted nothing cannot be served"


def test_ndcg_by_hand():
    found, counts = hits(RANKED, WANTED), WANTED.counts
    second, third, fourth = (1 / math.log2(1 + place) for place in (2, 3, 4))
    # User 0 wants three: the best order has them at places 1, 2 and 3; of two places, at both.
    assert ndcg_at(2, found, counts)[:2].tolist() == pytest.approx([second / (1 + second), second])
    assert ndcg_at(4, found, counts)[:2].tolist() == pytest.approx([(second + fourth) / (1 + second + third), second])
    # A list that ends before place 10 is no better for it.
    assert ndcg_at(10, found, counts)[0] == ndcg_at(4, found, counts)[0]
    perfect = hits(np.array([[40, 1, 3]]), wanted([3, 1, 40]))
    assert ndcg_at(2, perfect, np.array([3])).tolist() == [1.0]


def test_coverage_counts_items_once_and_no_empty_place():
    assert coverage_at(2, RANKED, 10) == 4 / 10  # 3, 5, 6, 7
    assert coverage_at(4, RANKED, 10) == 7 / 10


def test_equal_to_sets_and_loops():
    random = np.random.default_rng(5)
    users = [random.choice(60, random.integers(0, 9), replace=False).tolist() for _ in range(40)]
    ranked = np.stack([random.permutation(60)[:20] for _ in users])
    found, counts = hits(ranked, wanted(*users)), wanted(*users).counts
    for n in (1, 5, 20):
        for user, own in enumerate(users):
            if not own:
                continue
            places = [place for place, item in enumerate(ranked[user, :n].tolist(), start=1) if item in own]
            ideal = sum(1 / math.log2(1 + place) for place in range(1, min(n, len(own)) + 1))
            assert recall_at(n, found, counts)[user] == pytest.approx(len(places) / len(own))
            assert hit_rate_at(n, found, counts)[user] == bool(places)
            assert ndcg_at(n, found, counts)[user] == pytest.approx(sum(1 / math.log2(1 + p) for p in places) / ideal)


def test_some_items_or_some_users_alone():
    without = WANTED.only(WANTED.item_ids != 3)
    assert without.item_ids.tolist() == [1, 40, 7]
    assert without.offsets.tolist() == [0, 2, 3, 3]
    last = WANTED.take(np.array([1, 2]))
    assert last.item_ids.tolist() == [7]
    assert last.offsets.tolist() == [0, 1, 1]


def test_a_mean_and_its_standard_error():
    mean = mean_over_users(np.array([0.0, 1.0, 1.0, 0.0]))
    assert mean.value == 0.5
    assert mean.error == pytest.approx(math.sqrt(1 / 3) / 2)  # variance 4 · 0.25 / 3
    assert math.isnan(mean_over_users(np.array([0.3])).error)
    assert math.isnan(mean_over_users(np.array([])).value)


def test_as_many_lists_as_users():
    with pytest.raises(DataError, match=r"ranked must be \[3, N\], a list a user, got \(2, 4\)"):
        hits(RANKED[:2], WANTED)
