"""AUC, GAUC and log loss against pair counting."""

import math

import numpy as np
import pytest

from recsys.training.metrics import measure


def pairs_auc(scores: np.ndarray, labels: np.ndarray) -> float:
    wins = [1.0 if yes > no else 0.5 if yes == no else 0.0 for yes in scores[labels == 1] for no in scores[labels == 0]]
    return sum(wins) / len(wins)


def test_equals_pair_counting_with_ties() -> None:
    generator = np.random.default_rng(0)
    scores = generator.integers(0, 7, 300).astype(np.float32) / 7
    labels = generator.integers(0, 2, 300).astype(np.uint8)
    users = generator.integers(0, 20, 300).astype(np.int32)
    metrics = measure(scores, labels, users)
    assert metrics.auc == pytest.approx(pairs_auc(scores, labels))
    by_user = [(users == user) for user in range(20)]
    expected = np.average(
        [pairs_auc(scores[own], labels[own]) for own in by_user], weights=[own.sum() for own in by_user]
    )
    assert metrics.gauc == pytest.approx(expected)
    assert (metrics.n_samples, metrics.n_users) == (300, 20)


def test_gauc_leaves_out_users_with_one_label() -> None:
    scores = np.array([0.9, 0.1, 0.2, 0.8, 0.3], dtype=np.float32)
    labels = np.array([1, 0, 1, 0, 1], dtype=np.uint8)
    users = np.array([1, 1, 2, 2, 3], dtype=np.int32)
    # User 1 is right, user 2 is wrong, user 3 has no negative.
    assert measure(scores, labels, users).gauc == pytest.approx(0.5)


def test_logloss_by_hand() -> None:
    metrics = measure(
        np.array([0.8, 0.4], dtype=np.float32), np.array([1, 0], dtype=np.uint8), np.array([1, 1], dtype=np.int32)
    )
    assert metrics.logloss == pytest.approx(-(math.log(0.8) + math.log(0.6)) / 2)


def test_a_certain_mistake_costs_much_and_not_infinity() -> None:
    metrics = measure(
        np.array([0.0, 1.0], dtype=np.float32), np.array([1, 0], dtype=np.uint8), np.array([1, 1], dtype=np.int32)
    )
    assert metrics.auc == 0.0
    assert 20 < metrics.logloss < 30


def test_without_both_labels_there_is_no_auc() -> None:
    metrics = measure(np.array([0.5, 0.6], dtype=np.float32), np.ones(2, dtype=np.uint8), np.ones(2, dtype=np.int32))
    assert math.isnan(metrics.auc)
    assert math.isnan(metrics.gauc)
