"""The k best behaviours that a target keeps, and the bound that others must exceed to be looked at.

Scores are kept as the sort keys of `behavior_search.ordering`, integers that order NaN, signed zeros and ties without
special cases. Bounds are scores, which vectors compare with; NaN is the bound that everything exceeds, itself included.
"""

import numpy as np
from numba import njit

from recollect_kernels.compiled.building import at
from recollect_kernels.compiled.lanes import KEYS, insert, lowest_bit

GUARD = KEYS
"""Keys before those that a target keeps, of which the last is the greatest there is."""

_NONE = np.int64(-(2**63))
"""Below the key of every behaviour."""
_FIRST = np.int64(2**63 - 1)
"""Above the key of every behaviour."""
_LAST_POSITION = np.int64(0x7FFFFFFF)
_LOWEST = np.int32(-(2**31))
"""Upper half of the key of NaN; as bits of a float, -0."""
_ZERO = np.int32(0)
_MAGNITUDE = np.int32(0x7FFFFFFF)
_INFINITY = np.int32(0x7F800000)
_MINUS_INFINITY = np.int32(-0x00800000)
_SIGN = np.int32(31)


@njit(nogil=True)
def _turned(bits):
    """Bits of a float as an integer of its order, and back."""
    return np.int32(bits ^ ((bits >> _SIGN) & _MAGNITUDE))


@njit(nogil=True)
def room(k):
    """Numbers that k keys and their guard take, a multiple of KEYS."""
    return GUARD + (k + KEYS - 1) // KEYS * KEYS


@njit(nogil=True)
def clear(kept, bounds, targets):
    """Keep nothing [T, room]; what rounds the number of targets up never will."""
    kept[:] = _NONE
    for t in range(len(bounds)):
        kept[at(t), at(GUARD - 1)] = _FIRST
        bounds[at(t)] = np.nan if t < targets else np.inf


@njit(nogil=True)
def take(mask, bits, place, position, kept, t, k, bounds):
    """Offer to target t the behaviours in `mask`; the first could be the one at `position`, with the score bits[place].

    Blocks come oldest first, so that whoever ties with the last that is kept has lost: histories repeat their items.
    """
    last = at(GUARD + k - 1)
    while mask != 0:
        i = np.int64(lowest_bit(mask))
        mask &= mask - 1
        b = bits[at(place + i)]
        b = _ZERO if b == _LOWEST else b  # -0 ties with +0
        ordered = _LOWEST if (b & _MAGNITUDE) > _INFINITY else _turned(b)
        key = (np.int64(ordered) << 32) | (_LAST_POSITION - (position + i))
        if key > kept[at(t), last]:
            insert(kept, t, key)
    ordered = np.int32(kept[at(t), last] >> 32)
    if ordered != _LOWEST:
        bounds[at(t)] = np.int32(_turned(ordered)).view(np.float32)


@njit(nogil=True)
def join(kept, others, targets, k):
    """Add what was kept of other behaviours."""
    for t in range(targets):
        for i in range(k):
            key = others[at(t), at(GUARD + i)]
            if key <= kept[at(t), at(GUARD + k - 1)]:
                break
            insert(kept, t, key)


@njit(nogil=True)
def bound_of(maxima, place, n, k):
    """A bound that at least k of the behaviours behind n maxima exceed, and few more; NaN where none was found.

    Without it, the first behaviours would be inserted one by one only to be driven out by the next.
    """
    bound = np.float32(np.nan)
    low, high = np.float32(np.inf), np.float32(-np.inf)
    for i in range(n):
        x = maxima[at(place + i)]
        low, high = min(low, x), max(high, x)
    lower, upper = np.int64(_turned(np.float32(low).view(np.int32))), np.int64(_turned(np.float32(high).view(np.int32)))
    while upper - lower > 1:
        middle = (lower + upper) // 2
        candidate = np.int32(_turned(np.int32(middle))).view(np.float32)
        over = np.int32(0)
        for i in range(n):
            over += np.int32(maxima[at(place + i)] > candidate)
        if over < k:
            upper = middle
            continue
        lower, bound = middle, candidate
        if over <= k + k // 8:
            break
    return bound


@njit(nogil=True)
def put(kept, t, scores, positions):
    """Write what target t keeps: the bits of its scores [k] and its positions [k], -inf and -1 where there is none."""
    for i in range(len(scores)):
        key = kept[at(t), at(GUARD + i)]
        scores[at(i)] = _MINUS_INFINITY if key == _NONE else _turned(np.int32(key >> 32))
        positions[at(i)] = -1 if key == _NONE else _LAST_POSITION - (key & np.int64(0xFFFFFFFF))
