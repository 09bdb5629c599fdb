"""Search histories, and pool what is found, over blocks that stay in cache.

A block of behaviours is gathered once and turned into columns, so that one instruction scores sixteen of them for each
of four targets. Of every 32 scores only the maximum is looked at: where it does not reach the k-th best so far, none of
them does. Scores are kept as the sort keys of `behavior_search.ordering`, integers that order NaN, signed zeros and
ties without special cases.
"""

import numpy as np
from numba import boolean, float32, int32, int64, njit, void

from recollect_kernels.compiled.building import PADDING, SUMS, ask_for, at, compiled
from recollect_kernels.compiled.storage import STORED, add_value, gather, score_rows

_BLOCK = 256
"""Behaviours gathered at a time: 16 KB of columns at d = 16."""
_GROUP = 32
"""Behaviours whose maximum is compared before they are."""
SCRATCH_A_TARGET = 1024
"""Keys of the beginning of a long history, from which a target's first bound is found by counting."""
_TARGETS = 4
"""Targets scored together, which share each load of a column."""

_LOWEST = np.int32(-(2**31))
"""Upper half of the key of NaN; as bits of a float, -0."""
_NONE = np.int64(-(2**63))
"""Below the key of every behaviour."""
_NO_FLOOR = np.int64(-(2**31) - 1)
"""Below the upper half of every key."""
_LAST_POSITION = np.int64(0x7FFFFFFF)
_ZERO = np.int32(0)
_MAGNITUDE = np.int32(0x7FFFFFFF)
_INFINITY = np.int32(0x7F800000)
_MINUS_INFINITY = np.int32(-0x00800000)
_SIGN = np.int32(31)


@njit(nogil=True)
def _order(bits, source, keys, maxima, place):
    """Upper halves of the sort keys of a block of scores, given as bits, and the maximum of each group of them."""
    for g in range(_BLOCK // _GROUP):
        best = _LOWEST
        for i in range(_GROUP):
            b = bits[at(source + g * _GROUP + i)]
            b = _ZERO if b == _LOWEST else b  # -0 ties with +0
            ordered = np.int32(b ^ ((b >> _SIGN) & _MAGNITUDE))
            ordered = _LOWEST if (b & _MAGNITUDE) > _INFINITY else ordered
            keys[at(place + g * _GROUP + i)] = ordered
            best = max(best, ordered)
        maxima[at(place // _GROUP + g)] = best


@njit(nogil=True)
def _head_floor(keys, maxima, place, k):
    """A number that at least k of the first behaviours of a target exceed, and few more: found by counting.

    Without it, the first behaviours would be inserted one by one only to be driven out by the next.
    """
    low, high = np.int64(maxima[at(place // _GROUP)]), np.int64(maxima[at(place // _GROUP)])
    for g in range(SCRATCH_A_TARGET // _GROUP):
        low = min(low, np.int64(maxima[at(place // _GROUP + g)]))
        high = max(high, np.int64(maxima[at(place // _GROUP + g)]))
    # Each group has one that is not below the least maximum; where that is too few, any number may be the floor.
    low = low - 1 if k <= SCRATCH_A_TARGET // _GROUP else np.int64(_LOWEST) - 1
    while high - low > 1:
        middle = np.int32((low + high) // 2)
        above = np.int32(0)
        for j in range(SCRATCH_A_TARGET):
            above += np.int32(keys[at(place + j)] > middle)
        if above < k:
            high = np.int64(middle)
        else:
            low = np.int64(middle)
            if above <= k + k // 4:
                break
    return low


@njit(nogil=True)
def _bound(key):
    """What the upper half of a key must exceed to come before `key`, which belongs to an older behaviour."""
    return _NO_FLOOR if key == _NONE else key >> 32


@njit(nogil=True)
def _offer(keys, maxima, start, n, position, kept, begin, end, floor):
    """Insert n behaviours, from `start` on in the block, into the descending keys kept[begin:end].

    None is needed whose upper half does not exceed `floor`.

    Blocks come oldest first, so that whoever ties with the last that is kept has lost: histories repeat their items.
    """
    bound = max(floor, _bound(kept[at(end - 1)]))
    for first in range(0, n, _GROUP):
        if maxima[at((start + first) // _GROUP)] <= bound:
            continue
        for j in range(first, min(n, first + _GROUP)):
            ordered = keys[at(start + j)]
            if ordered <= bound:
                continue
            key = (np.int64(ordered) << 32) | (_LAST_POSITION - (position + j))
            place = end - 1
            while place > begin and kept[at(place - 1)] < key:
                kept[at(place)] = kept[at(place - 1)]
                place -= 1
            kept[at(place)] = key
            bound = max(floor, _bound(kept[at(end - 1)]))


@njit(nogil=True)
def _turn(gathered, d, n, columns):
    """Lay n behaviours out with one feature behind the other; what is left of the block is 0."""
    for f in range(d):
        for j in range(n):
            columns[at(f * _BLOCK + j)] = gathered[at(j * d + f)]
        for j in range(n, _BLOCK):
            columns[at(f * _BLOCK + j)] = np.float32(0)


@njit(nogil=True, fastmath=SUMS)
def _score_columns(columns, d, query, first, scores):
    """Add the products of four targets, whose features begin at query[first], with a block to their scores.

    `d` is a multiple of four. Sixteen factors stay in registers while each column is read once for all targets.
    """
    for f in range(0, d - 3, 4):
        p = first + f
        q00, q01, q02, q03 = query[p], query[p + 1], query[p + 2], query[p + 3]
        p += d
        q10, q11, q12, q13 = query[p], query[p + 1], query[p + 2], query[p + 3]
        p += d
        q20, q21, q22, q23 = query[p], query[p + 1], query[p + 2], query[p + 3]
        p += d
        q30, q31, q32, q33 = query[p], query[p + 1], query[p + 2], query[p + 3]
        for j in range(_BLOCK):
            x0 = columns[at(f * _BLOCK + j)]
            x1 = columns[at((f + 1) * _BLOCK + j)]
            x2 = columns[at((f + 2) * _BLOCK + j)]
            x3 = columns[at((f + 3) * _BLOCK + j)]
            scores[at(j)] += (q00 * x0 + q01 * x1) + (q02 * x2 + q03 * x3)
            scores[at(j + _BLOCK)] += (q10 * x0 + q11 * x1) + (q12 * x2 + q13 * x3)
            scores[at(j + 2 * _BLOCK)] += (q20 * x0 + q21 * x1) + (q22 * x2 + q23 * x3)
            scores[at(j + 3 * _BLOCK)] += (q30 * x0 + q31 * x1) + (q32 * x2 + q33 * x3)


@njit(nogil=True)
def _lay_bias(bias, length, first, n, scores):
    """Begin the scores of a block with the recency bias, and those of what pads it with -inf."""
    last = len(bias) - 1
    for j in range(n):
        scores[j] = bias[at(min(length - 1 - first - j, last))] if last >= 0 else np.float32(0)
    for j in range(n, _BLOCK):
        scores[j] = -np.inf


@compiled([int64(row[::1], int64[::1], int64) for row in (int32, int64)])
def longest_history(rows, offsets, n_rows):
    """Length of the longest history; -1 unless offsets ascend from 0 to E and rows [E] lie within [0, n_rows)."""
    longest = np.int64(0)
    ascending = offsets[0] == 0 and offsets[len(offsets) - 1] == len(rows)
    for b in range(len(offsets) - 1):
        length = offsets[at(b + 1)] - offsets[at(b)]
        ascending &= length >= 0
        longest = max(longest, length)
    smallest, largest = np.int64(0), np.int64(-1)
    for i in range(len(rows)):
        smallest = min(smallest, np.int64(rows[at(i)]))
        largest = max(largest, np.int64(rows[at(i)]))
    return longest if ascending and smallest >= 0 and largest < n_rows else np.int64(-1)


_SEARCH = [
    int64(
        float32[:, :, ::1],
        table[:, ::1],
        float32[::1],
        row[::1],
        int64[::1],
        float32[::1],
        int32[:, :, ::1],
        int64[:, :, ::1],
        int32[::1],
        boolean,
        int64,
        int64,
        int64,
        int64,
    )
    for table, row in STORED
]


@compiled(_SEARCH)
def search(query, table, scales, rows, offsets, bias, scores, positions, keys, check, b0, b1, t0, t1):
    """Fill `scores` (the bits of fp32) and `positions`, both [B, T, k], for histories b0 … b1 and targets t0 … t1.

    query [B, T, d], table [V, d] as `storage.gather` reads it, scales [V] or empty, rows [E], offsets [B + 1]; an empty
    `bias` stands for none. `keys` is scratch, SCRATCH_A_TARGET for each target, their number rounded up to fours. With
    `check`, returns what `longest_history` does, and has done nothing where that is -1; without it, 0.
    """
    longest = longest_history(rows, offsets, len(table)) if check else np.int64(0)
    if longest < 0:
        return longest
    d = table.shape[1]
    k = scores.shape[2]
    targets = t1 - t0
    rounded = (targets + _TARGETS - 1) // _TARGETS * _TARGETS
    width = (d + 3) // 4 * 4
    wanted = np.zeros(rounded * width, np.float32)
    begun = np.empty(_BLOCK, np.float32)
    kept = np.empty(rounded * k, np.int64)
    block = np.empty(_TARGETS * _BLOCK, np.float32)
    bits = block.view(np.int32)
    maxima = np.empty(rounded * SCRATCH_A_TARGET // _GROUP, np.int32)
    gathered = np.empty(d * _BLOCK, np.float32)
    columns = np.zeros(width * _BLOCK, np.float32)
    for b in range(b0, b1):
        begin = offsets[b]
        length = offsets[b + 1] - begin
        for t in range(targets):
            for f in range(d):
                wanted[t * width + f] = query[b, t0 + t, f]
        kept[:] = _NONE
        head = SCRATCH_A_TARGET if targets > 1 and length >= SCRATCH_A_TARGET else 0
        for first in range(0, length, _BLOCK):
            n = min(_BLOCK, length - first)
            ask_for(table, rows, begin + first + n, min(begin + first + n + _BLOCK, offsets[b1]))
            _lay_bias(bias, length, first, n, begun)
            if targets == 1:
                score_rows(table, scales, rows, begin + first, n, gathered, wanted, begun)
                _order(begun.view(np.int32), 0, keys, maxima, 0)
                _offer(keys, maxima, 0, n, first, kept, 0, k, _NO_FLOOR)
                continue  # one target needs no columns
            gather(table, scales, rows, begin + first, n, gathered)
            _turn(gathered, d, n, columns)
            for t in range(0, targets, _TARGETS):
                for i in range(_TARGETS):
                    for j in range(_BLOCK):
                        block[at(i * _BLOCK + j)] = begun[j]
                _score_columns(columns, width, wanted, t * width, block)
                for i in range(min(_TARGETS, targets - t)):
                    if first < head:
                        _order(bits, i * _BLOCK, keys, maxima, (t + i) * SCRATCH_A_TARGET + first)
                    else:
                        _order(bits, i * _BLOCK, keys, maxima, 0)
                        _offer(keys, maxima, 0, n, first, kept, (t + i) * k, (t + i + 1) * k, _NO_FLOOR)
            if first + n == head:
                for t in range(targets):
                    floor = _head_floor(keys, maxima, t * SCRATCH_A_TARGET, k)
                    _offer(keys, maxima, t * SCRATCH_A_TARGET, head, 0, kept, t * k, (t + 1) * k, floor)
        for t in range(targets):
            for i in range(k):
                key = kept[t * k + i]
                if key == _NONE:
                    scores[b, t0 + t, i] = _MINUS_INFINITY
                    positions[b, t0 + t, i] = -1
                else:
                    ordered = np.int32(key >> 32)
                    scores[b, t0 + t, i] = ordered ^ ((ordered >> _SIGN) & _MAGNITUDE)
                    positions[b, t0 + t, i] = _LAST_POSITION - (key & np.int64(0xFFFFFFFF))
    return longest


_ATTEND = [
    void(
        float32[:, :, ::1],
        int64[:, :, ::1],
        table[:, ::1],
        float32[::1],
        row[::1],
        int64[::1],
        float32[:, ::1],
        float32[:, :, ::1],
        float32[:, :, ::1],
        int64,
        int64,
        int64,
        int64,
    )
    for table, row in STORED
]


@compiled(_ATTEND)
def attend(scores, positions, values, scales, rows, offsets, recency_values, output, weights, b0, b1, t0, t1):
    """Fill `output` [B, T, e + r] and `weights` [B, T, k] from what `search` found for the same ranges.

    values [V, e] as `storage.gather` reads it, scales [V] or empty, recency_values [P, r] with r = 0 for none.
    Positions of -1 weigh nothing; otherwise the weights are those of `target_attention.reference.masked_softmax`,
    special values included.
    """
    k, e, r = scores.shape[2], values.shape[1], recency_values.shape[1]
    for b in range(b0, b1):
        begin = offsets[b]
        length = offsets[b + 1] - begin
        for t in range(t0, t1):
            best = np.float32(-np.inf)
            for i in range(k):
                score = scores[b, t, i] if positions[b, t, i] >= 0 else PADDING
                weights[b, t, i] = score
                best = max(best, score)
            total = np.float32(0)
            for i in range(k):
                weights[b, t, i] = np.exp(weights[b, t, i] - best)
                total += weights[b, t, i]
            for f in range(e + r):
                output[b, t, at(f)] = np.float32(0)
            for i in range(k):
                position = positions[b, t, i]
                weight = weights[b, t, i] / total * np.float32(position >= 0)
                weights[b, t, i] = weight
                if position < 0:
                    continue
                row = at(rows[at(begin + position)])
                add_value(values, scales, row, weight, output, b, t)
                recency = at(min(length - 1 - position, recency_values.shape[0] - 1))
                for f in range(r):
                    output[b, t, at(e + f)] += weight * recency_values[recency, at(f)]
