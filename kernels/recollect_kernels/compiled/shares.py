"""Which histories, targets and behaviours a part of a loop is about."""

import numpy as np
from numba import njit

from recollect_kernels.compiled.building import at
from recollect_kernels.threads import BY_HISTORY, BY_TARGET

_UNIT = 4
"""Targets that are computed together."""


@njit(nogil=True)
def cut(n, part, parts):
    """Where a part of n things begins, and the one before it ends."""
    return n * part // parts


@njit(nogil=True)
def cut_weighted(ends, n, weight, part, parts):
    """Where a part of n things begins that take `weight` times what lies between their `ends`, and 1 more, each."""
    goal = cut(ends[n] * weight + n, part, parts)
    low, high = np.int64(0), np.int64(n)
    while low < high:
        middle = (low + high) // 2
        if ends[at(middle)] * weight + middle < goal:
            low = middle + 1
        else:
            high = middle
    return low


@njit(nogil=True)
def share_of(part, parts, by, offsets, targets):
    """Histories b0 … b1 and targets t0 … t1 of a part; all of them where the call is cut by behaviours."""
    n = len(offsets) - 1
    b0, b1, t0, t1 = np.int64(0), np.int64(n), np.int64(0), np.int64(targets)
    if by == BY_HISTORY:
        b0, b1 = cut_weighted(offsets, n, 1, part, parts), cut_weighted(offsets, n, 1, part + 1, parts)
    if by == BY_TARGET:
        t0 = cut(targets // _UNIT, part, parts) * _UNIT
        t1 = t1 if part + 1 == parts else cut(targets // _UNIT, part + 1, parts) * _UNIT
    return b0, b1, t0, t1
