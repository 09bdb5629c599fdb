"""The CPU's `target_attention` as compiled loops, forward and backward; needs numba.

Rows are asked for while those of the target, or of the block, before are computed with. Those of a whole history are
copied side by side, a block at a time, and each serves all targets; nothing of the size of the batch is held.

Gradients of the tables are summed row by row: occurrences are grouped by row in the order in which they come, and
each row is written once. What is summed over histories is summed for fixed ranges of them first. Neither depends on
how many threads there are. As in `compiled_loops`, importing compiles, and every function lets go of the GIL.
"""

import numpy as np
from numba import boolean, float32, int32, int64, njit, uint8, void

from recollect_kernels.compiled_loops import _ask_for, _compiled, _prefetch
from recollect_kernels.compiled_vectors import (
    LANES,
    ONE,
    ROWS,
    ZERO,
    add_from,
    add_rows,
    at,
    clear_rows,
    copy_rows,
    exponential,
    exponentials,
    maximum,
    product,
    products,
    products_with,
    round_up,
    scale,
    total_of,
)

_NUMBERS, _TABLE, _CUBE = float32[::1], float32[:, ::1], float32[:, :, ::1]
_IDS, _LONG_IDS, _COUNT, _BYTES = int32[::1], int64[::1], int64, uint8[:, ::1]

_BLOCK = 128
"""Behaviours of a whole history taken at a time; a multiple of LANES."""
_LINE = 64
"""Bytes in a cache line."""
_AHEAD = 8
"""Occurrences of rows whose coefficients are asked for before they are used."""

_LOWEST = np.finfo(np.float32).min
"""Score that stands for padding, as in `target_attention.reference.masked_softmax`."""


@njit(nogil=True)
def _find(rows, n_rows, begin, length, positions, first, k, found, recencies, places):
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
def _ask_for_kept(keys, values, rows, begin, positions, first, k):
    """Prefetch the rows of the behaviours at k positions, to be there when their turn comes."""
    for i in range(first, first + k):
        position = positions[at(i)]
        if position >= 0 and len(rows) > 0:
            row = at(rows[at(min(begin + position, len(rows) - 1))])
            for column in range(0, keys.shape[1], LANES):
                _prefetch(keys, row, at(column))
            for column in range(0, values.shape[1], LANES):
                _prefetch(values, row, at(column))


@_compiled([void(_BYTES, _BYTES, rows, _LONG_IDS, _LONG_IDS, _LONG_IDS) for rows in (_IDS, _LONG_IDS)])
def find_kept(keys, values, rows, offsets, positions, found):
    """Fill `found` [B·T·K] with the rows of the behaviours at `positions`, any for -1, and ask for what they hold.

    The tables are bytes [V, …], of types that torch gathers; one without columns is not asked for.
    """
    each = len(found) // (len(offsets) - 1)
    for b in range(len(offsets) - 1):
        for i in range(b * each, (b + 1) * each):
            row = at(rows[at(min(offsets[b] + max(positions[at(i)], 0), len(rows) - 1))])
            found[at(i)] = row
            for column in range(0, keys.shape[1], _LINE):
                _prefetch(keys, row, at(column))
            for column in range(0, values.shape[1], _LINE):
                _prefetch(values, row, at(column))


_ATTEND_KEPT = [
    void(
        _NUMBERS, _TABLE, _TABLE, rows, _LONG_IDS, _LONG_IDS, _NUMBERS, _TABLE, _COUNT, _NUMBERS, _NUMBERS,
        _LONG_IDS, _COUNT, _COUNT, _COUNT, _COUNT,
    )
    for rows in (_IDS, _LONG_IDS)
]  # fmt: skip


@_compiled(_ATTEND_KEPT)
def attend_kept(
    query, keys, values, rows, offsets, positions, bias, beside, targets, output, weights, wrong, b0, b1, t0, t1
):
    """Fill `output` [B·T·(e + r)] and `weights` [B·T·K] of histories b0 … b1 and targets t0 … t1.

    query [B·T·d], keys [V, d], values [V, e], rows [E], offsets [B + 1], positions [B·T·K], bias [P] or empty,
    beside [P, r] with r = 0 for none. Empty `rows` stand for tables [B·T·K, …] that hold the row of each position.
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
    found, recencies, places = np.empty(k, np.int64), np.empty(k, np.int64), np.empty(k, np.int64)
    for b in range(b0, b1):
        begin = offsets[b]
        length = offsets[b + 1] - begin
        for t in range(t0, t1):
            target = b * targets + t
            if t + 1 < t1:
                _ask_for_kept(keys, values, rows, begin, positions, (target + 1) * k, k)
            elif b + 1 < b1:
                _ask_for_kept(keys, values, rows, offsets[b + 1], positions, ((b + 1) * targets + t0) * k, k)
            n = _find(rows, len(keys), begin, length, positions, target * k, k, found, recencies, places)
            if n < 0:
                wrong[0] = 1
                return
            padded = round_up(n, LANES)
            last = len(bias) - 1
            for j in range(n):
                scores[at(j)] = bias[at(min(recencies[at(j)], last))] if last >= 0 else ZERO
            products_with(keys, found, n, query, target * d, scores)
            for j in range(n, padded):
                scores[at(j)] = -np.inf
            best = maximum(scores, 0, padded, _LOWEST if n < k else np.float32(-np.inf), lanes)
            exponentials(scores, 0, padded, best)
            total = total_of(scores, 0, n) + np.float32(k - n) * exponential(_LOWEST - best)
            for i in range(target * k, (target + 1) * k):
                weights[at(i)] = ZERO / total  # NaN among the scores makes every weight NaN
            for j in range(n):
                scores[at(j)] /= total
                weights[at(places[at(j)])] = scores[at(j)]
            for f in range(target * width, (target + 1) * width):
                output[at(f)] = ZERO
            add_from(values, found, n, scores, output, target * width)
            for j in range(n):
                recencies[at(j)] = min(recencies[at(j)], beside.shape[0] - 1)
            add_from(beside, recencies, n, scores, output, target * width + e)


@njit(nogil=True)
def _add_kept_recency(weights, slopes, n, recencies, of_output, begin, of_bias, of_beside, c):
    """Add the share of n behaviours to the sums of the recency tables for the range c of histories, where wanted."""
    last = of_bias.shape[1] - 1
    for j in range(n if last >= 0 else 0):
        of_bias[at(c), at(min(recencies[at(j)], last))] += slopes[at(j)]
    last = of_beside.shape[1] - 1
    for j in range(n if last >= 0 else 0):
        recency = at(min(recencies[at(j)], last))
        for f in range(of_beside.shape[2]):
            of_beside[at(c), recency, at(f)] += weights[at(j)] * of_output[at(begin + f)]


_ATTEND_KEPT_BACKWARD = void(
    _TABLE, _TABLE, _IDS, _LONG_IDS, _LONG_IDS, _TABLE, _COUNT, _NUMBERS, _NUMBERS, _NUMBERS,
    _LONG_IDS, _NUMBERS, _TABLE, _IDS, _IDS, _TABLE, _CUBE, _COUNT, _COUNT,
)  # fmt: skip


@_compiled([_ATTEND_KEPT_BACKWARD])
def attend_kept_backward(
    keys, values, rows, offsets, positions, beside, targets, weights, of_output, of_weights,
    borders, of_query, coefficients, owners, kept_rows, of_bias, of_beside, c0, c1,
):  # fmt: skip
    """Gradients of `attend_kept` in its arguments for the ranges c0 … c1 of histories, which begin at `borders`.

    Given are those of its results; empty `of_weights` stand for 0. Filled are of_query [B·T·d], coefficients
    [B·T·K, 2], owners [B·T·K] and kept_rows [B·T·K] for `sum_rows`, and, for each range, of_bias [C, P] and
    of_beside [C, P, r]. Sums begin as 0; what is empty is not wanted.
    """
    k = len(weights) // ((len(offsets) - 1) * targets)
    d, e = keys.shape[1], values.shape[1]
    width = e + beside.shape[1]
    slopes, here = np.empty(k, np.float32), np.empty(k, np.float32)
    found, places = np.empty(k, np.int64), np.empty(k, np.int64)
    recencies, entries = np.empty(k, np.int64), np.empty(k, np.int64)
    for c in range(c0, c1):
        for b in range(borders[c], borders[c + 1]):
            begin = offsets[b]
            length = offsets[b + 1] - begin
            for t in range(targets):
                target = b * targets + t
                if t + 1 < targets:
                    _ask_for_kept(keys, values, rows, begin, positions, (target + 1) * k, k)
                elif b + 1 < borders[c1]:
                    _ask_for_kept(keys, values, rows, offsets[b + 1], positions, (target + 1) * k, k)
                n = _find(rows, len(keys), begin, length, positions, target * k, k, found, recencies, places)
                for i in range(target * k, (target + 1) * k if len(owners) > 0 else 0):
                    owners[at(i)] = target
                    kept_rows[at(i)] = -1
                for j in range(n):
                    here[at(j)] = weights[at(places[at(j)])]
                    slopes[at(j)] = of_weights[at(places[at(j)])] if len(of_weights) > 0 else ZERO
                products_with(values, found, n, of_output, target * width, slopes)
                for j in range(n):
                    entries[at(j)] = min(recencies[at(j)], beside.shape[0] - 1)
                products_with(beside, entries, n, of_output, target * width + e, slopes)
                mean = product(here, 0, slopes, 0, n)
                for j in range(n):
                    slopes[at(j)] = here[at(j)] * (slopes[at(j)] - mean)
                if len(of_query) > 0:
                    add_from(keys, found, n, slopes, of_query, target * d)
                if len(owners) > 0:
                    for j in range(n):
                        place = at(places[at(j)])
                        kept_rows[place] = found[at(j)]
                        coefficients[place, at(0)] = here[at(j)]
                        coefficients[place, at(1)] = slopes[at(j)]
                _add_kept_recency(here, slopes, n, recencies, of_output, target * width + e, of_bias, of_beside, c)


@njit(nogil=True)
def _take_block(keys, values, beside, rows, begin, end, older, n, key_rows, value_rows):
    """Copy the rows of n behaviours, of which the oldest has `older` behind it, and ask for those of the next block.

    Recency values stand behind the values in `value_rows`; `begin` and `end` are places in `rows`.
    """
    d, e, r = keys.shape[1], values.shape[1], beside.shape[1]
    _ask_for(keys, rows, begin + n, min(begin + n + _BLOCK, end))
    _ask_for(values, rows, begin + n, min(begin + n + _BLOCK, end))
    copy_rows(keys, rows, begin, n, key_rows, d)
    copy_rows(values, rows, begin, n, value_rows, e + r)
    for j in range(n if r > 0 else 0):
        recency = at(min(older - j, beside.shape[0] - 1))
        for f in range(r):
            value_rows[at(j * (e + r) + e + f)] = beside[recency, at(f)]
    clear_rows(key_rows, d, n)
    clear_rows(value_rows, e + r, n)


@njit(nogil=True)
def _score_block(query, begin, targets, key_rows, d, bias, older, n, padded, scores):
    """Scores [targets, _BLOCK] of a block of n behaviours; -inf for what fills it up to `padded`."""
    last = len(bias) - 1
    for t in range(targets):
        place = t * _BLOCK
        products(query, begin + t * d, d, key_rows, n, scores, place)
        for j in range(n if last >= 0 else 0):
            scores[at(place + j)] += bias[at(min(older - j, last))]
        for j in range(n, padded):
            scores[at(place + j)] = -np.inf


_ATTEND_ALL = void(
    _NUMBERS, _TABLE, _TABLE, _IDS, _LONG_IDS, _NUMBERS, _TABLE, _COUNT, _COUNT, _NUMBERS, _NUMBERS,
    _COUNT, _COUNT, _COUNT, _COUNT,
)  # fmt: skip


@_compiled([_ATTEND_ALL])
def attend_all(query, keys, values, rows, offsets, bias, beside, targets, longest, output, norms, b0, b1, t0, t1):
    """Fill `output` [B·T·(e + r)] of histories b0 … b1 and targets t0 … t1, which pool all behaviours.

    Arguments are those of `attend_kept`. `longest`, the length of the longest history, makes shorter ones weigh their
    padding as the reference does. `norms` [B·T·2] receives the greatest score and 1 / Σ e^(score - greatest), for the
    backward pass; empty where it is not wanted.
    """
    d, width, here = keys.shape[1], values.shape[1] + beside.shape[1], t1 - t0
    key_rows, value_rows = np.empty(_BLOCK * d, np.float32), np.empty(_BLOCK * width, np.float32)
    scores = np.empty(here * _BLOCK, np.float32)
    best, total = np.empty(here, np.float32), np.empty(here, np.float32)
    lanes = np.empty(LANES, np.float32)
    for b in range(b0, b1):
        begin = offsets[b]
        length = offsets[b + 1] - begin
        target = b * targets + t0
        for f in range(target * width, (target + here) * width):
            output[at(f)] = ZERO
        for t in range(here):
            best[t] = _LOWEST if length < longest else np.float32(-np.inf)
            total[t] = np.float32(longest - length)
        for first in range(0, length, _BLOCK):
            n, older = min(_BLOCK, length - first), length - 1 - first
            padded = round_up(n, LANES)
            _take_block(keys, values, beside, rows, begin + first, offsets[b1], older, n, key_rows, value_rows)
            _score_block(query, target * d, here, key_rows, d, bias, older, n, padded, scores)
            for t in range(here):
                place, sums = t * _BLOCK, (target + t) * width
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


@njit(nogil=True)
def _keep_block(weights, slopes, n, target, targets, coefficients, owners, occurrence):
    """Hand what `sum_rows` needs of a block from its targets to its behaviours."""
    for j in range(n):
        owners[at(occurrence + j)] = target
        for t in range(targets):
            coefficients[at(occurrence + j), at(2 * t)] = weights[at(t * _BLOCK + j)]
            coefficients[at(occurrence + j), at(2 * t + 1)] = slopes[at(t * _BLOCK + j)]


@njit(nogil=True)
def _add_recency(weights, slopes, n, older, targets, of_output, begin, width, of_bias, of_beside, c):
    """Add a block's share to the sums of the recency tables for the range c of histories, where they are wanted."""
    last = of_bias.shape[1] - 1
    for t in range(targets if last >= 0 else 0):
        for j in range(n):
            of_bias[at(c), at(min(older - j, last))] += slopes[at(t * _BLOCK + j)]
    r, last = of_beside.shape[2], of_beside.shape[1] - 1
    for j in range(n if last >= 0 else 0):
        recency = at(min(older - j, last))
        for t in range(targets):
            weight, values = weights[at(t * _BLOCK + j)], begin + (t + 1) * width - r
            for f in range(r):
                of_beside[at(c), recency, at(f)] += weight * of_output[at(values + f)]


_ATTEND_ALL_BACKWARD = void(
    _NUMBERS, _TABLE, _TABLE, _IDS, _LONG_IDS, _NUMBERS, _TABLE, _COUNT, _NUMBERS, _NUMBERS, _NUMBERS,
    _COUNT, _COUNT, _LONG_IDS, _NUMBERS, _TABLE, _IDS, _TABLE, _CUBE, _COUNT, _COUNT,
)  # fmt: skip


@_compiled([_ATTEND_ALL_BACKWARD])
def attend_all_backward(
    query, keys, values, rows, offsets, bias, beside, targets, output, norms, of_output,
    t0, t1, borders, of_query, coefficients, owners, of_bias, of_beside, c0, c1,
):  # fmt: skip
    """Gradients of `attend_all` in its arguments for targets t0 … t1 and the ranges c0 … c1 of histories.

    Filled are, as by `attend_kept_backward`, of_query, coefficients [E', 2 (t1 - t0)] and owners [E'], each behaviour's
    first target, of the behaviours between the first of `borders` and the last, of_bias and of_beside.
    """
    d, width, here = keys.shape[1], values.shape[1] + beside.shape[1], t1 - t0
    key_rows, value_rows = np.empty(_BLOCK * d, np.float32), np.empty(_BLOCK * width, np.float32)
    scores, slopes = np.empty(here * _BLOCK, np.float32), np.empty(here * _BLOCK, np.float32)
    for c in range(c0, c1):
        for b in range(borders[c], borders[c + 1]):
            begin = offsets[b]
            length = offsets[b + 1] - begin
            target = b * targets + t0
            for first in range(0, length, _BLOCK):
                n, older = min(_BLOCK, length - first), length - 1 - first
                padded, end = round_up(n, LANES), offsets[borders[c1]]
                _take_block(keys, values, beside, rows, begin + first, end, older, n, key_rows, value_rows)
                _score_block(query, target * d, here, key_rows, d, bias, older, n, padded, scores)
                for t in range(here):
                    place, sums = t * _BLOCK, (target + t) * width
                    exponentials(scores, place, padded, norms[at((target + t) * 2)])
                    scale(scores, place, padded, norms[at((target + t) * 2 + 1)])
                    products(of_output, sums, width, value_rows, n, slopes, place)
                    mean = product(of_output, sums, output, sums, width)
                    for j in range(place, place + n):
                        slopes[at(j)] = scores[at(j)] * (slopes[at(j)] - mean)
                    for j in range(place + n, place + round_up(n, ROWS)):
                        slopes[at(j)] = ZERO
                    if len(of_query) > 0:
                        add_rows(slopes, place, n, key_rows, d, of_query, (target + t) * d)
                if len(owners) > 0:
                    occurrence = begin + first - offsets[borders[0]]
                    _keep_block(scores, slopes, n, target, here, coefficients, owners, occurrence)
                _add_recency(scores, slopes, n, older, here, of_output, target * width, width, of_bias, of_beside, c)


@_compiled([void(_IDS, _IDS, _LONG_IDS, _IDS, _IDS)])
def group(rows, owners, starts, order, ordered_owners):
    """Sort the occurrences of `rows` [N] by row, stable, and their owners with them.

    Those of row v are order[starts[v] : starts[v + 1]]. `starts` [V + 2] begins as 0; negative rows belong nowhere.
    """
    for i in range(len(rows)):
        if rows[at(i)] >= 0:
            starts[at(np.int64(rows[at(i)]) + 2)] += 1
    for v in range(2, len(starts)):
        starts[at(v)] += starts[at(v - 1)]
    for i in range(len(rows)):
        if rows[at(i)] >= 0:
            cursor = at(np.int64(rows[at(i)]) + 1)
            place = at(starts[cursor])
            order[place] = i
            ordered_owners[place] = owners[at(i)]
            starts[cursor] += 1


_SUM_ROWS = void(
    _TABLE, _LONG_IDS, _IDS, _IDS, _NUMBERS, _NUMBERS, _COUNT, boolean, _TABLE, _TABLE, _COUNT, _COUNT
)  # fmt: skip


@_compiled([_SUM_ROWS])
def sum_rows(coefficients, starts, order, owners, query, of_output, width, added, of_keys, of_values, v0, v1):
    """Fill the rows v0 … v1 of `of_keys` [V, d] and `of_values` [V, e], or add to them; no columns if not wanted.

    `starts`, `order` and `owners` come from `group`. Each pair of the coefficients of an occurrence is a weight for
    its next row of `of_output` [B·T·width] and a slope for its next row of `query` [B·T·d], beginning at its owner.
    """
    d, e = of_keys.shape[1], of_values.shape[1]
    end = starts[at(v1)]
    for v in range(v0, v1):
        if not added:
            for f in range(d):
                of_keys[at(v), at(f)] = ZERO
            for f in range(e):
                of_values[at(v), at(f)] = ZERO
        for place in range(starts[at(v)], starts[at(v + 1)]):
            _prefetch(coefficients, at(order[at(min(place + _AHEAD, end - 1))]), at(0))
            i, target = at(order[at(place)]), np.int64(owners[at(place)])
            for j in range(coefficients.shape[1] // 2):
                weight, slope = coefficients[i, at(2 * j)], coefficients[i, at(2 * j + 1)]
                for f in range(d):
                    of_keys[at(v), at(f)] += slope * query[at((target + j) * d + f)]
                for f in range(e):
                    of_values[at(v), at(f)] += weight * of_output[at((target + j) * width + f)]
