"""How far an accuracy may be off because other images could have been taken: intervals by resampling the images."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_COUNTS_AT_ONCE = 4_000_000
"""Numbers in memory while resampling: 32 MB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """Where 95 % of the resamples lie."""

    low: float
    """Their 2.5 % quantile."""
    high: float
    """Their 97.5 % quantile."""


def resampled_means(
    values: npt.NDArray[np.float64], generator: np.random.Generator, *, resamples: int = 2_000
) -> npt.NDArray[np.float64]:
    """Means [R, k] of `values` [n, k] over n images drawn with replacement, R times.

    The k columns of a row are means over the same images, so that their differences are paired.
    """
    n = len(values)
    if n == 0:
        raise ValueError("values must be of at least one image, got none")
    means = np.empty((resamples, values.shape[1]))
    at_once = max(_COUNTS_AT_ONCE // n, 1)
    for start in range(0, resamples, at_once):
        rows = slice(start, min(start + at_once, resamples))
        counts = generator.multinomial(n, np.full(n, 1 / n), size=rows.stop - rows.start)  # [r, n]
        means[rows] = counts @ values / n
    return means


def interval(means: npt.NDArray[np.float64]) -> Interval:
    """The 95 % interval of resampled means, or of differences of such, [R]."""
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(low=float(low), high=float(high))
