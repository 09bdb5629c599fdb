"""Pool histories by their attention to targets: the kept behaviours, or whole histories a block at a time.

Rows are asked for while those of the target, or of the block, before are computed with. Those of a whole history are
copied side by side, and each serves all targets; nothing of the size of the batch is held.
"""

import numpy as np
from numba import boolean, float32, int32, int64, njit, uint8, void

from recollect_kernels.compiled.building import LANES, LINE, PADDING, ROWS, ask_for, at, compiled, prefetch
from recollect_kernels.compiled.memory import FLOATS, LONGS, array_at
from recollect_kernels.compiled.shares import cut, share_of
from recollect_kernels.compiled.storage import STORED, add_found, score_found
from recollect_kernels.compiled.team import in_parts
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
    """Rows of the behaviours at k positions within the history, their recencies, and which of the k they are.

    Empty `rows` stand for tables that hold the row of each position in turn. Returns how many there are, or -1 where a
    row is outside [0, n_rows).
    """
    n = 0
    for i in range(first, first + k):
        position = positions[at(i)]
        if 0 <= position < length:
            row = i if len(rows) == 0 else np.int64(rows[at(min(begin + position, len(rows) - 1))])
            if row < 0 or row >= n_rows:
                return -1
            found[at(n)] = row
            recencies[at(n)] = length - 1 - position
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
    add_from(beside, recencies, 0, n, scores, output, sums + values.shape[1])


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


@njit(nogil=True)
def _attend_kept(
    part, parts, query, keys, key_scales, values, value_scales, rows, offsets, positions, bias, beside, targets, output,
    weights, wrong,
):  # fmt: skip
    """`attend_kept` for one part of the targets of all histories."""
    n_targets = (len(offsets) - 1) * targets
    k = len(weights) // n_targets
    d, e = keys.shape[1], values.shape[1]
    width = e + beside.shape[1]
    scores = np.empty(round_up(k, LANES), np.float32)
    lanes = np.empty(LANES, np.float32)
    gathered = np.empty(round_up(k, ROWS) * max(d, e), np.float32)
    found, recencies, places = np.empty(k, np.int64), np.empty(k, np.int64), np.empty(k, np.int64)
    last, end = len(bias) - 1, cut(n_targets, part + 1, parts)
    for target in range(cut(n_targets, part, parts), end):
        begin = offsets[at(target // targets)]
        length = offsets[at(target // targets + 1)] - begin
        if target + 1 < end:
            following = offsets[at((target + 1) // targets)]
            ask_for_kept(keys, rows, following, positions, (target + 1) * k, k)
            ask_for_kept(values, rows, following, positions, (target + 1) * k, k)
        n = find(rows, len(keys), begin, length, positions, target * k, k, found, recencies, places)
        if n < 0:
            wrong[0] = 1
            return
        for j in range(n):
            scores[at(j)] = bias[at(min(recencies[at(j)], last))] if last >= 0 else ZERO
        score_found(keys, key_scales, found, n, query, target * d, scores, gathered)
        _pool(
            scores, n, found, recencies, places, values, value_scales, beside, gathered, lanes,
            weights, target * k, k, output, target * width,
        )  # fmt: skip


_attend_kept_in_parts = in_parts(_attend_kept)
_ATTEND_KEPT = [
    boolean(table[::1], row[::1], *[int64] * 22, boolean, int64, int64, int64[::1]) for table, row in STORED
]


@compiled(_ATTEND_KEPT)
def attend_kept(
    table_kind, row_kind, query, keys, key_scales, values, value_scales, rows, offsets, positions, bias, beside, output,
    weights, batch, targets, d, e, r, k, n_rows, n_behaviours, n_bias, n_beside, scaled, parts, part, team,
):  # fmt: skip
    """Fill `output` [B, T, e + r] and `weights` [B, T, k]; parts and team as `team.in_parts` takes them.

    Arrays are given as to `search`, beside them values [V, e], value_scales [V], positions [B, T, k] and
    beside [P', r], r being 0 for none. Without rows, the tables [B·T·k, …] hold the row of each position.
    Returns whether offsets ascend from 0 to E and all rows at `positions` are within the table.
    """
    rows = array_at(row_kind, rows, n_behaviours)
    offsets = array_at(LONGS, offsets, batch + 1)
    if n_behaviours > 0 and not _ascending(offsets, n_behaviours):
        return False
    wrong = np.zeros(1, np.int64)
    call = (
        array_at(FLOATS, query, batch * targets * d),
        array_at(table_kind, keys, (n_rows, d)),
        array_at(FLOATS, key_scales, n_rows if scaled else 0),
        array_at(table_kind, values, (n_rows, e)),
        array_at(FLOATS, value_scales, n_rows if scaled else 0),
        rows,
        offsets,
        array_at(LONGS, positions, batch * targets * k),
        array_at(FLOATS, bias, n_bias),
        array_at(FLOATS, beside, (n_beside, r)),
        targets,
        array_at(FLOATS, output, batch * targets * (e + r)),
        array_at(FLOATS, weights, batch * targets * k),
        wrong,
    )
    _attend_kept_in_parts(call, parts, part, team)
    return wrong[0] == 0


@njit(nogil=True)
def _attend_found(
    part, parts, scores, positions, values, scales, rows, offsets, beside, targets, output, weights
):  # fmt: skip
    """`attend_found` for one part of the targets of all histories."""
    n_targets = (len(offsets) - 1) * targets
    k = len(weights) // n_targets
    e = values.shape[1]
    width = e + beside.shape[1]
    mine = np.empty(round_up(k, LANES), np.float32)
    lanes = np.empty(LANES, np.float32)
    gathered = np.empty(round_up(k, ROWS) * e, np.float32)
    found, recencies, places = np.empty(k, np.int64), np.empty(k, np.int64), np.empty(k, np.int64)
    end = cut(n_targets, part + 1, parts)
    for target in range(cut(n_targets, part, parts), end):
        begin = offsets[at(target // targets)]
        length = offsets[at(target // targets + 1)] - begin
        if target + 1 < end:
            ask_for_kept(values, rows, offsets[at((target + 1) // targets)], positions, (target + 1) * k, k)
        n = find(rows, len(values), begin, length, positions, target * k, k, found, recencies, places)
        for j in range(n):
            mine[at(j)] = scores[at(places[at(j)])]
        _pool(
            mine, n, found, recencies, places, values, scales, beside, gathered, lanes,
            weights, target * k, k, output, target * width,
        )  # fmt: skip


_attend_found_in_parts = in_parts(_attend_found)
_ATTEND_FOUND = [void(table[::1], row[::1], *[int64] * 17, boolean, int64, int64, int64[::1]) for table, row in STORED]


@compiled(_ATTEND_FOUND)
def attend_found(
    table_kind, row_kind, scores, positions, values, scales, rows, offsets, beside, output, weights,
    batch, targets, e, r, k, n_rows, n_behaviours, n_beside, scaled, parts, part, team,
):  # fmt: skip
    """Fill `output` [B, T, e + r] and `weights` [B, T, k] from the `scores` [B, T, k] that were found at `positions`.

    The other arguments are those of `attend_kept`; every row is one of the table.
    """
    call = (
        array_at(FLOATS, scores, batch * targets * k),
        array_at(LONGS, positions, batch * targets * k),
        array_at(table_kind, values, (n_rows, e)),
        array_at(FLOATS, scales, n_rows if scaled else 0),
        array_at(row_kind, rows, n_behaviours),
        array_at(LONGS, offsets, batch + 1),
        array_at(FLOATS, beside, (n_beside, r)),
        targets,
        array_at(FLOATS, output, batch * targets * (e + r)),
        array_at(FLOATS, weights, batch * targets * k),
    )
    _attend_found_in_parts(call, parts, part, team)


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


@njit(nogil=True)
def _attend_all(
    part, parts, query, keys, values, rows, offsets, bias, beside, targets, longest, output, norms, by
):  # fmt: skip
    """`attend_all` for one part."""
    b0, b1, t0, t1 = share_of(part, parts, by, offsets, targets)
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


_attend_all_in_parts = in_parts(_attend_all)
_ATTEND_ALL = void(
    _NUMBERS, _TABLE, _TABLE, _IDS, _LONG_IDS, _NUMBERS, _TABLE, _COUNT, _COUNT, _NUMBERS, _NUMBERS, _COUNT,
    _COUNT, _COUNT, _LONG_IDS,
)  # fmt: skip


@compiled([_ATTEND_ALL])
def attend_all(
    query, keys, values, rows, offsets, bias, beside, targets, longest, output, norms, by, parts, part, team
):  # fmt: skip
    """Fill `output` [B·T·(e + r)] with what pools all behaviours, in parts `by` what `threads` names.

    Arguments are those of `attend_kept`. `longest`, the length of the longest history, makes shorter ones weigh their
    padding as the reference does. `norms` [B·T·2] receives the greatest score and 1 / Σ e^(score - greatest), for the
    backward pass; empty where it is not wanted.
    """
    call = query, keys, values, rows, offsets, bias, beside, targets, longest, output, norms, by
    _attend_all_in_parts(call, parts, part, team)
