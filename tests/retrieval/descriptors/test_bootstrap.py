"""Intervals by resampling: against the exact distribution where it is known."""

import numpy as np
import pytest

from retrieval.descriptors import bootstrap
from retrieval.descriptors.bootstrap import interval, resampled_means


def test_the_interval_of_a_share_is_that_of_the_binomial():
    # 100 images of which 50 are right: resampled counts are binomial, 2.5 % and 97.5 % at 40 and 60.
    values = np.repeat([[0.0], [1.0]], 50, axis=0)
    means = resampled_means(values, np.random.default_rng(1), resamples=20_000)
    found = interval(means[:, 0])
    assert (found.low, found.high) == pytest.approx((0.40, 0.60), abs=0.011)
    assert means.mean() == pytest.approx(0.5, abs=0.002)


def test_columns_of_a_row_are_means_over_the_same_images():
    first = np.random.default_rng(2).random(37)
    values = np.stack([first, first + 0.25, 1 - first], axis=1)
    means = resampled_means(values, np.random.default_rng(3), resamples=1_000)
    np.testing.assert_allclose(means[:, 1] - means[:, 0], 0.25)
    np.testing.assert_allclose(means[:, 0] + means[:, 2], 1.0)


def test_the_seed_decides_and_the_share_done_at_once_does_not_spoil_the_count(monkeypatch):
    values = np.random.default_rng(4).random((11, 2))
    whole = resampled_means(values, np.random.default_rng(5), resamples=1_000)
    monkeypatch.setattr(bootstrap, "_COUNTS_AT_ONCE", 70)
    np.testing.assert_array_equal(resampled_means(values, np.random.default_rng(5), resamples=1_000), whole)
    assert np.any(resampled_means(values, np.random.default_rng(6), resamples=1_000) != whole)


def test_one_image_has_no_spread_and_none_is_an_error():
    assert interval(resampled_means(np.ones((1, 1)), np.random.default_rng(1))[:, 0]) == bootstrap.Interval(
        low=1.0, high=1.0
    )
    with pytest.raises(ValueError, match="at least one image"):
        resampled_means(np.ones((0, 1)), np.random.default_rng(1))
