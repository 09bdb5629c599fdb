"""Graded gains: by hand, and a random order by all orders."""

from itertools import permutations
from math import log2

import numpy as np
import pytest

from recsys.diagnosis.ndcg import discounts, expected_gain, gain_of, ideal_gain, normalised

GRADES = np.array([[3.0, 0.0, 1.0, 0.5]], dtype=np.float32)


def test_gains_by_hand() -> None:
    assert discounts(3).tolist() == pytest.approx([1, 1 / log2(3), 0.5])
    assert ideal_gain(GRADES, 2)[0] == pytest.approx(3 + 1 / log2(3))
    gains = gain_of(GRADES[:, None, :], np.array([[[2, 0], [1, -1], [-1, -1]]]))[0]
    assert gains.tolist() == pytest.approx([1 + 3 / log2(3), 0, 0])
    ndcg = normalised(gains, np.array([3 + 1 / log2(3), 0.0, 2.0]))
    assert ndcg.tolist() == pytest.approx([(1 + 3 / log2(3)) / (3 + 1 / log2(3)), float("nan"), 0], nan_ok=True)


def test_the_order_of_what_is_kept_counts() -> None:
    best, reversed_ = gain_of(np.broadcast_to(GRADES, (2, 4)), np.array([[0, 2, 3], [3, 2, 0]]))
    assert best == pytest.approx(ideal_gain(GRADES, 3)[0])
    assert reversed_ < best


@pytest.mark.parametrize("k", [1, 2, 4, 7])
def test_a_random_order_is_the_mean_of_all(k: int) -> None:
    orders = [(*order, *[-1] * k)[:k] for order in permutations(range(4))]
    mean = np.mean([gain_of(GRADES, np.array([order]))[0] for order in orders])
    assert expected_gain(GRADES, np.array([4]), k)[0] == pytest.approx(mean)
    padded = np.concatenate([np.zeros((1, 3), dtype=np.float32), GRADES], axis=1)
    assert expected_gain(padded, np.array([4]), k)[0] == pytest.approx(mean), "padding is no behaviour"
    assert ideal_gain(padded, k)[0] == pytest.approx(ideal_gain(GRADES, k)[0])


def test_an_empty_history_gains_nothing() -> None:
    nothing = np.empty((2, 0), dtype=np.float32)
    assert gain_of(nothing, np.full((2, 3), -1)).tolist() == [0, 0]
    assert ideal_gain(nothing, 3).tolist() == [0, 0]
    assert expected_gain(nothing, np.zeros(2, dtype=np.int64), 3).tolist() == [0, 0]
