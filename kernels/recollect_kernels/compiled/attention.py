"""Pool histories by their attention to targets: the kept behaviours, or whole histories a block at a time.

Rows are asked for while those of the target, or of the block, before are computed with. Those of a whole history are
copied side by side, and each serves all targets; nothing of the size of the batch is held.
"""

import numpy as np
from numba import float32, int32, int64, njit, uint8, void

from recollect_kernels.compiled.building import LANES, LINE, PADDING, ROWS, ask_for, at, compiled, prefetch
from recollect_kernels.compiled.storage import STORED, add_found, score_found
from recollect_kernels.compiled.vectors import (
    ONE,
    ZERO,
    add_from,
    add_rows,
    clear_rows,
    copy_rows,
    exponential,
    exponentials,
    maximum,
    products,
    round_up,
    scale,
    total_of,
)

_NUMBERS, _TABLE = float32[::1], float32[:, ::1]
_IDS, _LONG_IDS, _COUNT, _BYTES = int32[::1], int64[::1], int64, uint8[:, ::1]

BLOCK = 128
"""Behaviours of a whole history taken at a time; a multiple of LANES."""


@njit(nogil=True)
def find(rows, n_rows, begin, length, positions, first, k, found, recencies, places):
    """Rows of the behaviours at k positions, their recencies, and which of the k they are.

    Empty `rows` stand for tables that hold the row of each position in turn. Returns how many there are, or -1 where a
    row is outside [0, n_rows).
    """
    n = 0
    for i in range(first, first + k):
        position = positions[at(i)]
        if position >= 0:
            row = i if len(rows) == 0 else np.int64(rows[at(min(begin + position, len(rows) - 1))])
            if row < 0 or row >= n_rows:
                return -1
            found[at(n)] = row
            recencies[at(n)] = max(length - 1 - position, 0)
            places[at(n)] = i
            n += 1
    return n


@njit(nogil=True)
def _ascending(offsets, end):
    """Whether offsets ascend from 0 to `end`."""
    ascending = offsets[0] == 0 and offsets[len(offsets) - 1] == end
    for b in range(1, len(offsets)):
        ascending &= offsets[at(b)] >= offsets[at(b - 1)]
    return ascending


@njit(nogil=True)
def ask_for_kept(table, rows, begin, positions, first, k):
    """Prefetch the rows of the behaviours at k positions, to be there when their turn comes."""
    for i in range(first, first + k):
        position = positions[at(i)]
        if position >= 0 and len(rows) > 0:
            row = at(rows[at(min(begin + position, len(rows) - 1))])
            for column in range(0, table.shape[1], LANES):
                prefetch(table, row, at(column))


@njit(nogil=True, inline="always")
def _pool(
    scores, n, found, recencies, places, values, scales, beside, gathered, lanes, weights, place, k, output, sums
):
    """Softmax of n scores, in place, to weights[place : place + k], and the sum of the rows `found` by them.

    The k - n that are missing weigh as padding. The sum is added to output[sums:], behind it that of recency values.
    """
    padded = round_up(n, LANES)
    for j in range(n, padded):
        scores[at(j)] = -np.inf
    best = maximum(scores, 0, padded, PADDING if n < k else np.float32(-np.inf), lanes)
    exponentials(scores, 0, padded, best)
    total = total_of(scores, 0, n) + np.float32(k - n) * exponential(PADDING - best)
    for i in range(place, place + k):
        weights[at(i)] = ZERO / total  # NaN among the scores makes every weight NaN
    for j in range(n):
        scores[at(j)] /= total
        weights[at(places[at(j)])] = scores[at(j)]
        recencies[at(j)] = min(recencies[at(j)], beside.shape[0] - 1)
    for f in range(values.shape[1] + beside.shape[1]):
        output[at(sums + f)] = ZERO
    add_found(values, scales, found, n, scores, output, sums, gathered)
    add_from(beside, recencies, n, scores, output, sums + values.shape[1])


@compiled([void(_BYTES, _BYTES, rows, _LONG_IDS, _LONG_IDS, _LONG_IDS) for rows in (_IDS, _LONG_IDS)])
def find_kept(keys, values, rows, offsets, positions, found):
    """Fill `found` [B·T·K] with the rows of the behaviours at `positions`, any for -1, and ask for what they hold.

    The tables are bytes [V, …], of types that torch gathers; one without columns is not asked for.
    """
    each = len(found) // (len(offsets) - 1)
    for b in range(len(offsets) - 1):
        for i in range(b * each, (b + 1) * each):
            row = at(rows[at(min(offsets[b] + max(positions[at(i)], 0), len(rows) - 1))])
            found[at(i)] = row
            for column in range(0, keys.shape[1], LINE):
                prefetch(keys, row, at(column))
            for column in range(0, values.shape[1], LINE):
                prefetch(values, row, at(column))


_ATTEND_KEPT = [
    void(
        _NUMBERS, table[:, ::1], _NUMBERS, table[:, ::1], _NUMBERS, row[::1], _LONG_IDS, _LONG_IDS, _NUMBERS, _TABLE,
        _COUNT, _NUMBERS, _NUMBERS, _LONG_IDS, _COUNT, _COUNT, _COUNT, _COUNT,
    )
    for table, row in STORED
]  # fmt: skip


@compiled(_ATTEND_KEPT)
def attend_kept(
    query, keys, key_scales, values, value_scales, rows, offsets, positions, bias, beside, targets, output, weights,
    wrong, b0, b1, t0, t1,
):  # fmt: skip
    """Fill `output` [B·T·(e + r)] and `weights` [B·T·K] of histories b0 … b1 and targets t0 … t1.

    query [B·T·d], keys [V, d] and values [V, e] as `storage` reads them, scales [V] or empty, rows [E], offsets
    [B + 1], positions [B·T·K], bias [P] or empty, beside [P, r] with r = 0 for none. Empty `rows` stand for tables
    [B·T·K, …] that hold the row of each position.
    Ends with wrong[0] = 1 where offsets do not ascend from 0 to E, or a row at `positions` is outside the table.
    """
    if len(rows) > 0 and not _ascending(offsets, len(rows)):
        wrong[0] = 1
        return
    k = len(weights) // ((len(offsets) - 1) * targets)
    d, e = keys.shape[1], values.shape[1]
    width = e + beside.shape[1]
    scores = np.empty(round_up(k, LANES), np.float32)
    lanes = np.empty(LANES, np.float32)
    gathered = np.empty(round_up(k, ROWS) * max(d, e), np.float32)
    found, recencies, places = np.empty(k, np.int64), np.empty(k, np.int64), np.empty(k, np.int64)
    for b in range(b0, b1):
        begin = offsets[b]
        length = offsets[b + 1] - begin
        for t in range(t0, t1):
            target = b * targets + t
            if t + 1 < t1:
                ask_for_kept(keys, rows, begin, positions, (target + 1) * k, k)
                ask_for_kept(values, rows, begin, positions, (target + 1) * k, k)
            elif b + 1 < b1:
                ask_for_kept(keys, rows, offsets[b + 1], positions, ((b + 1) * targets + t0) * k, k)
                ask_for_kept(values, rows, offsets[b + 1], positions, ((b + 1) * targets + t0) * k, k)
            n = find(rows, len(keys), begin, length, positions, target * k, k, found, recencies, places)
            if n < 0:
                wrong[0] = 1
                return
            last = len(bias) - 1
            for j in range(n):
                scores[at(j)] = bias[at(min(recencies[at(j)], last))] if last >= 0 else ZERO
            score_found(keys, key_scales, found, n, query, target * d, scores, gathered)
            _pool(
                scores, n, found, recencies, places, values, value_scales, beside, gathered, lanes,
                weights, target * k, k, output, target * width,
            )  # fmt: skip


_ATTEND_FOUND = [
    void(
        _NUMBERS, _LONG_IDS, table[:, ::1], _NUMBERS, row[::1], _LONG_IDS, _TABLE, _COUNT, _NUMBERS, _NUMBERS,
        _COUNT, _COUNT, _COUNT, _COUNT,
    )
    for table, row in STORED
]  # fmt: skip


@compiled(_ATTEND_FOUND)
def attend_found(
    scores, positions, values, scales, rows, offsets, beside, targets, output, weights, b0, b1, t0, t1
):  # fmt: skip
    """Fill `output` [B·T·(e + r)] and `weights` [B·T·K] from the scores [B·T·K] that `search` found at `positions`.

    The other arguments are those of `attend_kept`; every row is one of the table.
    """
    k = len(weights) // ((len(offsets) - 1) * targets)
    e = values.shape[1]
    width = e + beside.shape[1]
    mine = np.empty(round_up(k, LANES), np.float32)
    lanes = np.empty(LANES, np.float32)
    gathered = np.empty(round_up(k, ROWS) * e, np.float32)
    found, recencies, places = np.empty(k, np.int64), np.empty(k, np.int64), np.empty(k, np.int64)
    for b in range(b0, b1):
        begin = offsets[b]
        length = offsets[b + 1] - begin
        for t in range(t0, t1):
            target = b * targets + t
            if t + 1 < t1:
                ask_for_kept(values, rows, begin, positions, (target + 1) * k, k)
            elif b + 1 < b1:
                ask_for_kept(values, rows, offsets[b + 1], positions, ((b + 1) * targets + t0) * k, k)
            n = find(rows, len(values), begin, length, positions, target * k, k, found, recencies, places)
            for j in range(n):
                mine[at(j)] = scores[at(places[at(j)])]
            _pool(
                mine, n, found, recencies, places, values, scales, beside, gathered, lanes,
                weights, target * k, k, output, target * width,
            )  # fmt: skip


@njit(nogil=True)
def take_block(keys, values, beside, rows, begin, end, older, n, key_rows, value_rows):
    """Copy the rows of n behaviours, of which the oldest has `older` behind it, and ask for those of the next block.

    Recency values stand behind the values in `value_rows`; `begin` and `end` are places in `rows`.
    """
    d, e, r = keys.shape[1], values.shape[1], beside.shape[1]
    ask_for(keys, rows, begin + n, min(begin + n + BLOCK, end))
    ask_for(values, rows, begin + n, min(begin + n + BLOCK, end))
    copy_rows(keys, rows, begin, n, key_rows, d)
    copy_rows(values, rows, begin, n, value_rows, e + r)
    for j in range(n if r > 0 else 0):
        recency = at(min(older - j, beside.shape[0] - 1))
        for f in range(r):
            value_rows[at(j * (e + r) + e + f)] = beside[recency, at(f)]
    clear_rows(key_rows, d, n)
    clear_rows(value_rows, e + r, n)


@njit(nogil=True)
def score_block(query, begin, targets, key_rows, d, bias, older, n, padded, scores):
    """Scores [targets, BLOCK] of a block of n behaviours; -inf for what fills it up to `padded`."""
    last = len(bias) - 1
    for t in range(targets):
        place = t * BLOCK
        products(query, begin + t * d, d, key_rows, n, scores, place)
        for j in range(n if last >= 0 else 0):
            scores[at(place + j)] += bias[at(min(older - j, last))]
        for j in range(n, padded):
            scores[at(place + j)] = -np.inf


_ATTEND_ALL = void(
    _NUMBERS, _TABLE, _TABLE, _IDS, _LONG_IDS, _NUMBERS, _TABLE, _COUNT, _COUNT, _NUMBERS, _NUMBERS,
    _COUNT, _COUNT, _COUNT, _COUNT,
)  # fmt: skip


@compiled([_ATTEND_ALL])
def attend_all(query, keys, values, rows, offsets, bias, beside, targets, longest, output, norms, b0, b1, t0, t1):
    """Fill `output` [B·T·(e + r)] of histories b0 … b1 and targets t0 … t1, which pool all behaviours.

    Arguments are those of `attend_kept`. `longest`, the length of the longest history, makes shorter ones weigh their
    padding as the reference does. `norms` [B·T·2] receives the greatest score and 1 / Σ e^(score - greatest), for the
    backward pass; empty where it is not wanted.
    """
    d, width, here = keys.shape[1], values.shape[1] + beside.shape[1], t1 - t0
    key_rows, value_rows = np.empty(BLOCK * d, np.float32), np.empty(BLOCK * width, np.float32)
    scores = np.empty(here * BLOCK, np.float32)
    best, total = np.empty(here, np.float32), np.empty(here, np.float32)
    lanes = np.empty(LANES, np.float32)
    for b in range(b0, b1):
        begin = offsets[b]
        length = offsets[b + 1] - begin
        target = b * targets + t0
        for f in range(target * width, (target + here) * width):
            output[at(f)] = ZERO
        for t in range(here):
            best[t] = PADDING if length < longest else np.float32(-np.inf)
            total[t] = np.float32(longest - length)
        for first in range(0, length, BLOCK):
            n, older = min(BLOCK, length - first), length - 1 - first
            padded = round_up(n, LANES)
            take_block(keys, values, beside, rows, begin + first, offsets[b1], older, n, key_rows, value_rows)
            score_block(query, target * d, here, key_rows, d, bias, older, n, padded, scores)
            for t in range(here):
                place, sums = t * BLOCK, (target + t) * width
                above = maximum(scores, place, padded, best[t], lanes)
                if above > best[t]:
                    factor = exponential(best[t] - above)
                    total[t] *= factor
                    if first > 0:
                        scale(output, sums, width, factor)
                    best[t] = above
                exponentials(scores, place, padded, ZERO if above == -np.inf else above)
                total[t] += total_of(scores, place, padded)
                add_rows(scores, place, n, value_rows, width, output, sums)
        for t in range(here):
            factor = ONE / total[t]
            if length > 0:
                scale(output, (target + t) * width, width, factor)
            if len(norms) > 0:
                norms[at((target + t) * 2)] = best[t]
                norms[at((target + t) * 2 + 1)] = factor
