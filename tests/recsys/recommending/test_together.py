"""What is taken together, counted by hand: sessions, cosines, and which events count."""

import numpy as np
import pytest

from recsys.recommending.together import TakenTogether

HOUR = 3_600_000


@pytest.fixture
def store(store_of):
    """Sessions of a: {1, 2, 3}, {1, 2}, {3}; of b: {1, 2, 4}; the events of b's last hour are {1, 5}."""
    a = [(1, 0), (2, 0), (3, 60_000), (2, 60_000), (1, 5 * HOUR), (2, 5 * HOUR + 60_000), (3, 9 * HOUR)]
    b = [(4, 9 * HOUR), (1, 9 * HOUR), (2, 9 * HOUR), (0, 9 * HOUR), (1, 20 * HOUR), (5, 20 * HOUR)]
    return store_of({"a": a, "b": b})


def near(together, row, k=5):
    ids, cosines = together.nearest(np.array([100 * row]), k)
    return list(zip((ids[0] // 100).tolist(), cosines[0].tolist(), strict=True))


def test_cosines_of_counts_of_sessions(store):
    together = TakenTogether(store, np.ones(len(store), dtype=bool))
    # 1 is in four sessions, 2 in three of these, 3 in two, 4 and 5 in one each.
    expected = [(2, 3 / 12**0.5), (4, 1 / 2), (5, 1 / 2), (3, 1 / 8**0.5), (-1, 0)]
    assert near(together, 1) == [(item, pytest.approx(cosine)) for item, cosine in expected]
    assert near(together, 1, k=1) == [(2, pytest.approx(3 / 12**0.5))]
    assert near(together, 5, k=2) == [(1, pytest.approx(1 / 2)), (-1, 0)]


def test_only_what_counts(store):
    early = TakenTogether(store, store.times[:] < 9 * HOUR)
    assert near(early, 1, k=3) == [(2, pytest.approx(1)), (3, pytest.approx(1 / 2**0.5)), (-1, 0)]
    assert near(early, 4, k=1) == [(-1, 0)]
    assert near(TakenTogether(store, np.zeros(len(store), dtype=bool)), 1, k=1) == [(-1, 0)]


def test_a_pause_ends_a_session_and_users_share_none(store):
    whole_day = TakenTogether(store, np.ones(len(store), dtype=bool), gap_ms=24 * HOUR)
    assert dict(near(whole_day, 1))[3] == pytest.approx(1 / 2**0.5)  # {1, 2, 3} and {1, 2, 4, 5}
    assert 4 not in dict(near(whole_day, 3))


def test_items_that_nobody_took_have_no_neighbours(store):
    together = TakenTogether(store, np.ones(len(store), dtype=bool))
    ids, cosines = together.nearest(np.array([4_900, 123_456, 100]), 2)
    assert ids.tolist() == [[-1, -1], [-1, -1], [200, 400]]
    assert cosines[:2].tolist() == [[0, 0], [0, 0]]


def test_the_latest_sessions_stand_for_all(store):
    latest = TakenTogether(store, np.ones(len(store), dtype=bool), most_sessions=1)
    # The latest session of 1 is {1, 5}: as if all four were, as far as there are sessions of 5.
    assert near(latest, 1) == [(5, pytest.approx(1 / 2)), *[(-1, 0)] * 4]
