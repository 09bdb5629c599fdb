"""Means over samples of users, with errors that know that samples of one user are alike."""

import numpy as np
import numpy.typing as npt

from recsys.recommending.metrics import Mean


def mean_by_user(values: npt.NDArray[np.float64], users: npt.NDArray[np.int32]) -> Mean:
    """Mean of `values` [S] of `users` [S], NaN left out; each user is one cluster of the standard error."""
    known = ~np.isnan(values)
    values, users = values[known], users[known]
    if not len(values):
        return Mean(value=float("nan"), error=float("nan"))
    mean = float(values.mean())
    _, cluster = np.unique(users, return_inverse=True)
    sums = np.bincount(cluster, values - mean)  # [U]
    n = len(sums)
    if n < 2:
        return Mean(value=mean, error=float("nan"))
    return Mean(value=mean, error=float(np.sqrt((sums**2).sum() * n / (n - 1)) / len(values)))
