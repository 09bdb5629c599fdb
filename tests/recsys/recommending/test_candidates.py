"""Candidates worked out by hand: whose neighbours, in which order, what the model looked at, and what fills up."""

import numpy as np
import pytest

from recsys.errors import ConfigError
from recsys.ranking import Ranking
from recsys.recommending.candidates import (
    CandidateConfig,
    Origin,
    find_candidates,
    latest_distinct,
    most_attended,
)


class Line:
    """Items 0 … 99 stand in a line; the nearest are those beside. Item 50 is not in the index."""

    def nearest(self, item_ids, k):
        ids, similarities = [], []
        for item in item_ids.tolist():
            others = sorted((other for other in range(100) if other not in (item, 50)), key=lambda o: abs(o - item))
            near = [-1] * k if item == 50 else (others[:k] + [-1] * k)[:k]
            ids.append(near)
            similarities.append([0.0 if other < 0 else 1 / (1 + abs(other - item)) for other in near])
        return np.array(ids, dtype=np.int64), np.array(similarities, dtype=np.float32)


class Looks:
    """Scores all alike and finds what `at` says; counts its calls."""

    def __init__(self, *at, weights=None):
        self.at, self.weights, self.asked = at, weights, []

    def __call__(self, _history, candidates, *, explain=False):
        self.asked.append(candidates.tolist())
        count = len(candidates)
        weights = self.weights or [1 / len(self.at)] * len(self.at)
        return Ranking(
            scores=np.full(count, 0.5, dtype=np.float32),
            known=np.ones(count, dtype=bool),
            found_positions=np.tile(np.array(self.at, dtype=np.int64), (count, 1)) if explain else None,
            found_weights=np.tile(np.array(weights, dtype=np.float32), (count, 1)) if explain else None,
        )


def found(history, *, popular=(), rank=None, excluded=None, again=False, allowed=None, **sizes):
    config = CandidateConfig(**{"candidates": 100, "recent": 2, "attended": 0, "neighbours": 2} | sizes)
    history = np.array(history, dtype=np.int64)
    unwanted = None if excluded is None else np.array(excluded)
    candidates = find_candidates(
        history,
        Line(),
        rank or Looks(0),
        np.array(popular, dtype=np.int64),
        config,
        excluded=unwanted,
        again=again,
        allowed=allowed,
    )
    return list(
        zip(candidates.item_ids.tolist(), candidates.origins.tolist(), candidates.behaviours.tolist(), strict=True)
    )


def test_the_latest_distinct_items_latest_first():
    history = np.array([7, 1, 2, 7, 3, 3, 2])
    assert latest_distinct(history, 3).tolist() == [2, 3, 7]
    assert latest_distinct(history, 99).tolist() == [2, 3, 7, 1]
    assert latest_distinct(history[:0], 3).tolist() == []


def test_of_neighbours_that_are_as_near_the_first_of_each_behaviour_come_first():
    assert found([5, 80, 20]) == [(19, 1, 20), (79, 1, 80), (21, 1, 20), (81, 1, 80)]


def test_what_several_behaviours_are_like_comes_first_and_names_the_nearest():
    # Similarities are 1 / (1 + distance); 22 is like 20, 23 and 24 by 1/3 + 1/2 + 1/3, 21 and 25 by 1/2 + 1/3.
    got = found([20, 23, 24], recent=3, neighbours=4, excluded=[20, 23, 24])
    assert got[0] == (22, Origin.RECENT, 23)
    assert {item for item, _, _ in got[1:3]} == {21, 25}
    because = {item: behaviour for item, _, behaviour in got}
    assert (because[21], because[25], because[26]) == (20, 24, 24)


def test_of_behaviours_that_are_as_near_the_first_found_is_named():
    assert found([22, 20])[0] == (21, Origin.RECENT, 22)  # the nearest of 22, and the second of 20


def test_what_is_popular_has_places_of_its_own():
    popular = [19, 3, 4, 5]
    assert found([20], popular=popular, candidates=2, popular_share=0.5) == [(19, 1, 20), (3, 3, -1)]
    assert found([20], popular=popular, candidates=3, popular_share=0.0) == [(19, 1, 20), (21, 1, 20), (3, 3, -1)]
    assert found([20], popular=popular, candidates=2, popular_share=1.0) == [(19, 3, -1), (3, 3, -1)]
    # What is left of its places goes to what is like something.
    assert found([20], popular=[4], candidates=2, popular_share=1.0) == [(19, 1, 20), (4, 3, -1)]
    assert found([20], popular=[4], candidates=2, popular_share=1.0, excluded=[4]) == [(19, 1, 20), (21, 1, 20)]


def test_the_latest_of_the_history_come_first_where_they_may_be_shown_again():
    got = found([70, 20, 21, 20], again=True, again_share=0.02)
    assert got[:2] == [(20, Origin.RECENT, 20), (21, Origin.RECENT, 21)]
    assert [item for item, _, _ in got[2:]] == [19, 22]
    assert [item for item, _, _ in found([20, 21], again=True, excluded=[20])] == [21, 19, 22]
    assert 20 not in {item for item, _, _ in found([90, 20], again=True, again_share=0.0)}


def test_what_is_popular_fills_up_and_comes_last():
    assert found([20], popular=[19, 3, 4, 5], candidates=4) == [(19, 1, 20), (21, 1, 20), (3, 3, -1), (4, 3, -1)]


def test_a_new_user_gets_what_is_popular():
    assert found([], popular=[3, 4, 5], candidates=2) == [(3, 3, -1), (4, 3, -1)]
    assert found([], popular=[]) == []


def test_an_item_outside_the_index_brings_nothing_and_does_no_harm():
    assert found([50]) == []
    assert found([20, 50]) == [(19, 1, 20), (21, 1, 20)]


def test_the_nearest_of_each_come_before_the_second_of_any():
    assert [item for item, _, _ in found([80, 20], candidates=2)] == [19, 79]


def test_nothing_that_is_excluded():
    assert [item for item, _, _ in found([20], popular=[3, 4], excluded=[19, 3])] == [21, 4]


def test_more_neighbours_are_looked_up_where_few_are_allowed():
    tens = [item for item, origin, _ in found([22], allowed=lambda ids: ids % 10 == 0, candidates=3) if origin == 1]
    assert tens == [20, 30, 10]  # the nearest two of 22 would be 21 and 23


def test_no_wider_than_told_then_what_is_popular_and_allowed_fills_up():
    got = found([22], popular=range(99, -1, -1), allowed=lambda ids: ids % 10 == 0, candidates=4, widest=4)
    assert got == [(20, 1, 22), (90, 3, -1), (80, 3, -1), (70, 3, -1)]


def test_what_is_popular_is_gone_through_until_enough_is_allowed():
    got = found([], popular=range(1_000), allowed=lambda ids: ids % 97 == 1, candidates=5, excluded=[98])
    assert [item for item, _, _ in got] == [1, 195, 292, 389, 486]
    assert [item for item, _, _ in found([], popular=range(200), allowed=lambda ids: ids % 97 == 1)] == [1, 98, 195]


def test_no_wider_search_where_all_that_is_popular_is_a_candidate_anyway():
    class Counted(Line):
        calls = 0

        def nearest(self, item_ids, k):
            Counted.calls += 1
            return super().nearest(item_ids, k)

    config = CandidateConfig(candidates=10, recent=2, attended=0, neighbours=2, popular_share=0.0)
    tens = [10, 20, 30, 40, 60, 70, 80, 90]
    for popular, calls in ((np.array(tens), 1), (np.arange(0), 4)):
        Counted.calls = 0
        got = find_candidates(
            np.array([22]), Counted(), Looks(0), popular, config, allowed=lambda ids: (ids % 10 == 0) & (ids > 0)
        )
        assert sorted(got.item_ids.tolist()) == tens
        assert calls == Counted.calls


def test_what_was_looked_up_more_widely_counts_once():
    """21 is the nearest of 20 and 22; looked up twice, its similarity would count twice, and more than that of 24."""
    wide = found([22, 20], allowed=lambda ids: np.isin(ids, [21, 18, 24]), candidates=50)
    assert wide == found([22, 20], allowed=lambda ids: np.isin(ids, [21, 18, 24]), neighbours=99, candidates=50)


def test_behaviours_with_attention_are_looked_up_as_widely():
    widths = []

    class Noted(Line):
        def nearest(self, item_ids, k):
            widths.append((item_ids.tolist(), k))
            return super().nearest(item_ids, k)

    config = CandidateConfig(candidates=4, recent=2, attended=1, neighbours=2, popular_share=0.0)
    got = find_candidates(
        np.array([72, 22, 24]), Noted(), Looks(0), np.arange(0), config, allowed=lambda ids: ids % 10 == 0
    )
    assert widths == [([24, 22], 2), ([24, 22], 8), ([24, 22], 32), ([72], 32)]
    behaviours = dict(zip(got.item_ids.tolist(), got.behaviours.tolist(), strict=True))
    assert behaviours == {20: 22, 30: 24, 10: 22, 70: 72}


def test_of_the_history_only_what_is_allowed_is_shown_again():
    got = found([40, 20, 21, 33], again=True, again_share=0.02, allowed=lambda ids: ids % 20 == 0, candidates=100)
    assert got[:2] == [(20, Origin.RECENT, 20), (40, Origin.RECENT, 40)]


def test_the_most_attended_behaviours_bring_candidates_however_old():
    rank = Looks(0, 2, weights=[0.9, 0.1])
    got = found([70, 10, 30, 20], rank=rank, attended=1)
    assert (69, Origin.ATTENDED, 70) in got
    assert {behaviour for _, _, behaviour in got} == {20, 30, 70}
    assert rank.asked == [[19, 29, 21, 31]]  # the candidates of the latest, in their order


def test_only_as_many_are_asked_as_told_and_none_without_need():
    rank = Looks(0)
    found([70, 10, 30, 20], rank=rank, attended=1, asked=3)
    assert len(rank.asked[0]) == 3
    idle = Looks(0)
    found([30, 20], rank=idle, attended=5)  # the latest are all there are
    assert idle.asked == []


def test_attention_counts_by_score_and_over_repeats():
    history = np.array([4, 9, 4, 6])
    ranking = Ranking(
        scores=np.array([1.0, 0.1], dtype=np.float32),
        known=np.ones(2, dtype=bool),
        found_positions=np.array([[0, 2, 1], [1, 3, -1]]),
        found_weights=np.array([[0.3, 0.3, 0.4], [0.5, 0.5, 0.9]], dtype=np.float32),
    )
    # 4: 0.6; 9: 0.4 + 0.05; 6: 0.05
    assert most_attended(history, ranking, 9, but=np.array([], dtype=np.int64)).tolist() == [4, 9, 6]
    assert most_attended(history, ranking, 1, but=np.array([4])).tolist() == [9]


@pytest.mark.parametrize("name", ["candidates", "recent", "neighbours", "asked"])
def test_sizes_that_cannot_be_are_named(name):
    with pytest.raises(ConfigError, match=f"{name} must be at least 1, got 0"):
        CandidateConfig(**{name: 0})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("widest", 49, "widest must be at least neighbours, 50, got 49"),
        ("attended", -1, "attended must be at least 0, got -1"),
        ("popular_share", 1.1, r"popular_share must be 0 to 1, got 1\.1"),
        ("again_share", -0.1, r"again_share must be 0 to 1, got -0\.1"),
        ("popularity_weight", -1.0, r"popularity_weight must be at least 0 and finite, got -1\.0"),
        ("popularity_weight", float("nan"), "popularity_weight must be at least 0 and finite, got nan"),
    ],
)
def test_values_that_cannot_be_are_told(name, value, message):
    with pytest.raises(ConfigError, match=message):
        CandidateConfig(**{name: value})
