"""Normalised discounted cumulative gain with graded gains, of many searches at once."""

import numpy as np
import numpy.typing as npt

Grades = npt.NDArray[np.float32]


def discounts(k: int) -> npt.NDArray[np.float64]:
    """[K] what the gain at each rank counts: 1/log₂(rank + 1)."""
    return np.asarray(1 / np.log2(np.arange(2, k + 2)))


def ideal_gain(grades: Grades, k: int) -> npt.NDArray[np.float64]:
    """[…] the highest DCG@K that an order of behaviours with `grades` […, L], at least 0, can have."""
    kept = min(k, grades.shape[-1])
    best = -np.sort(np.partition(-grades, kept - 1, axis=-1)[..., :kept], axis=-1) if kept else grades
    return np.asarray(best @ discounts(kept))


def gain_of(grades: Grades, columns: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """[…] DCG of the behaviours at `columns` […, K] of `grades` […, L], best first; -1 where nothing was found, which
    gains nothing."""
    if not grades.shape[-1]:
        return np.zeros(columns.shape[:-1])
    found = np.take_along_axis(grades, np.maximum(columns, 0), axis=-1) * (columns >= 0)
    return np.asarray(found @ discounts(columns.shape[-1]))


def expected_gain(grades: Grades, lengths: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.float64]:
    """[…] DCG@K of a random order, on average; of `grades` […, L] `lengths` […] are behaviours, the others are 0."""
    total = np.cumsum(np.concatenate([[0.0], discounts(k)]))[np.minimum(lengths, k)]
    mean = grades.sum(axis=-1, dtype=np.float64) / np.maximum(lengths, 1)
    return np.asarray(mean * total)


def normalised(gain: npt.NDArray[np.float64], ideal: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """`gain` over `ideal`, NaN where nothing is worth finding."""
    return np.asarray(np.divide(gain, ideal, out=np.full(ideal.shape, np.nan), where=ideal > 0))
