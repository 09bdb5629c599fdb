"""Gradients of the pooling, in an order of additions that does not depend on how many threads there are.

Those of the tables are summed row by row: occurrences are grouped by row in the order in which they come, and each row
is written once. What is summed over histories is summed for fixed ranges of them first.
"""

import numpy as np
from numba import boolean, float32, int32, int64, njit, void

from recollect_kernels.compiled.attention import BLOCK, ask_for_kept, find, score_block, take_block
from recollect_kernels.compiled.building import LANES, ROWS, at, compiled, prefetch
from recollect_kernels.compiled.shares import cut, cut_weighted
from recollect_kernels.compiled.team import in_parts
from recollect_kernels.compiled.vectors import (
    ZERO,
    add_from,
    add_rows,
    exponentials,
    product,
    products,
    products_with,
    round_up,
    scale,
)

_NUMBERS, _TABLE, _CUBE = float32[::1], float32[:, ::1], float32[:, :, ::1]
_IDS, _LONG_IDS, _COUNT = int32[::1], int64[::1], int64

_AHEAD = 8
"""Occurrences of rows whose coefficients are asked for before they are used."""


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


@njit(nogil=True)
def _attend_kept_backward(
    part, parts, keys, values, rows, offsets, positions, beside, targets, weights, of_output, of_weights,
    borders, of_query, coefficients, owners, kept_rows, of_bias, of_beside,
):  # fmt: skip
    """`attend_kept_backward` for one part of the ranges of histories."""
    c0, c1 = cut(len(borders) - 1, part, parts), cut(len(borders) - 1, part + 1, parts)
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
                    ask_for_kept(keys, rows, begin, positions, (target + 1) * k, k)
                    ask_for_kept(values, rows, begin, positions, (target + 1) * k, k)
                elif b + 1 < borders[c1]:
                    ask_for_kept(keys, rows, offsets[b + 1], positions, (target + 1) * k, k)
                    ask_for_kept(values, rows, offsets[b + 1], positions, (target + 1) * k, k)
                n = find(rows, len(keys), begin, length, positions, target * k, k, found, recencies, places)
                for i in range(target * k, (target + 1) * k if len(owners) > 0 else 0):
                    owners[at(i)] = target
                    kept_rows[at(i)] = -1
                for j in range(n):
                    here[at(j)] = weights[at(places[at(j)])]
                    slopes[at(j)] = of_weights[at(places[at(j)])] if len(of_weights) > 0 else ZERO
                products_with(values, found, 0, n, of_output, target * width, slopes)
                for j in range(n):
                    entries[at(j)] = min(recencies[at(j)], beside.shape[0] - 1)
                products_with(beside, entries, 0, n, of_output, target * width + e, slopes)
                mean = product(here, 0, slopes, 0, n)
                for j in range(n):
                    slopes[at(j)] = here[at(j)] * (slopes[at(j)] - mean)
                if len(of_query) > 0:
                    add_from(keys, found, 0, n, slopes, of_query, target * d)
                if len(owners) > 0:
                    for j in range(n):
                        place = at(places[at(j)])
                        kept_rows[place] = found[at(j)]
                        coefficients[place, at(0)] = here[at(j)]
                        coefficients[place, at(1)] = slopes[at(j)]
                _add_kept_recency(here, slopes, n, recencies, of_output, target * width + e, of_bias, of_beside, c)


_attend_kept_backward_in_parts = in_parts(_attend_kept_backward)
_ATTEND_KEPT_BACKWARD = void(
    _TABLE, _TABLE, _IDS, _LONG_IDS, _LONG_IDS, _TABLE, _COUNT, _NUMBERS, _NUMBERS, _NUMBERS,
    _LONG_IDS, _NUMBERS, _TABLE, _IDS, _IDS, _TABLE, _CUBE, _COUNT, _COUNT, _LONG_IDS,
)  # fmt: skip


@compiled([_ATTEND_KEPT_BACKWARD])
def attend_kept_backward(
    keys, values, rows, offsets, positions, beside, targets, weights, of_output, of_weights,
    borders, of_query, coefficients, owners, kept_rows, of_bias, of_beside, parts, part, team,
):  # fmt: skip
    """Gradients of `attend_kept` in its arguments; parts, of the ranges of histories, and team as `team.in_parts` says.

    Given are those of its results; empty `of_weights` stand for 0. Ranges begin at `borders`. Filled are of_query
    [B·T·d], coefficients [B·T·K, 2], owners [B·T·K] and kept_rows [B·T·K] for `sum_rows`, and, for each range, of_bias
    [C, P] and of_beside [C, P, r]. Sums begin as 0; what is empty is not wanted.
    """
    call = (
        keys, values, rows, offsets, positions, beside, targets, weights, of_output, of_weights,
        borders, of_query, coefficients, owners, kept_rows, of_bias, of_beside,
    )  # fmt: skip
    _attend_kept_backward_in_parts(call, parts, part, team)


@njit(nogil=True)
def _keep_block(weights, slopes, n, target, targets, coefficients, owners, occurrence):
    """Hand what `sum_rows` needs of a block from its targets to its behaviours."""
    for j in range(n):
        owners[at(occurrence + j)] = target
        for t in range(targets):
            coefficients[at(occurrence + j), at(2 * t)] = weights[at(t * BLOCK + j)]
            coefficients[at(occurrence + j), at(2 * t + 1)] = slopes[at(t * BLOCK + j)]


@njit(nogil=True)
def _add_recency(weights, slopes, n, older, targets, of_output, begin, width, of_bias, of_beside, c):
    """Add a block's share to the sums of the recency tables for the range c of histories, where they are wanted."""
    last = of_bias.shape[1] - 1
    for t in range(targets if last >= 0 else 0):
        for j in range(n):
            of_bias[at(c), at(min(older - j, last))] += slopes[at(t * BLOCK + j)]
    r, last = of_beside.shape[2], of_beside.shape[1] - 1
    for j in range(n if last >= 0 else 0):
        recency = at(min(older - j, last))
        for t in range(targets):
            weight, values = weights[at(t * BLOCK + j)], begin + (t + 1) * width - r
            for f in range(r):
                of_beside[at(c), recency, at(f)] += weight * of_output[at(values + f)]


@njit(nogil=True)
def _attend_all_backward(
    part, parts, query, keys, values, rows, offsets, bias, beside, targets, output, norms, of_output,
    t0, t1, borders, of_query, coefficients, owners, of_bias, of_beside,
):  # fmt: skip
    """`attend_all_backward` for one part of the ranges of histories."""
    c0, c1 = cut(len(borders) - 1, part, parts), cut(len(borders) - 1, part + 1, parts)
    d, width, here = keys.shape[1], values.shape[1] + beside.shape[1], t1 - t0
    key_rows, value_rows = np.empty(BLOCK * d, np.float32), np.empty(BLOCK * width, np.float32)
    scores, slopes = np.empty(here * BLOCK, np.float32), np.empty(here * BLOCK, np.float32)
    for c in range(c0, c1):
        for b in range(borders[c], borders[c + 1]):
            begin = offsets[b]
            length = offsets[b + 1] - begin
            target = b * targets + t0
            for first in range(0, length, BLOCK):
                n, older = min(BLOCK, length - first), length - 1 - first
                padded, end = round_up(n, LANES), offsets[borders[c1]]
                take_block(keys, values, beside, rows, begin + first, end, older, n, key_rows, value_rows)
                score_block(query, target * d, here, key_rows, d, bias, older, n, padded, scores)
                for t in range(here):
                    place, sums = t * BLOCK, (target + t) * width
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


_attend_all_backward_in_parts = in_parts(_attend_all_backward)
_ATTEND_ALL_BACKWARD = void(
    _NUMBERS, _TABLE, _TABLE, _IDS, _LONG_IDS, _NUMBERS, _TABLE, _COUNT, _NUMBERS, _NUMBERS, _NUMBERS,
    _COUNT, _COUNT, _LONG_IDS, _NUMBERS, _TABLE, _IDS, _TABLE, _CUBE, _COUNT, _COUNT, _LONG_IDS,
)  # fmt: skip


@compiled([_ATTEND_ALL_BACKWARD])
def attend_all_backward(
    query, keys, values, rows, offsets, bias, beside, targets, output, norms, of_output,
    t0, t1, borders, of_query, coefficients, owners, of_bias, of_beside, parts, part, team,
):  # fmt: skip
    """Gradients of `attend_all` in its arguments for targets t0 … t1, in parts as `attend_kept_backward`.

    Filled are, as there, of_query, coefficients [E', 2 (t1 - t0)] and owners [E'], each behaviour's first target, of
    the behaviours between the first of `borders` and the last, of_bias and of_beside.
    """
    call = (
        query, keys, values, rows, offsets, bias, beside, targets, output, norms, of_output,
        t0, t1, borders, of_query, coefficients, owners, of_bias, of_beside,
    )  # fmt: skip
    _attend_all_backward_in_parts(call, parts, part, team)


@compiled([void(_IDS, _IDS, _LONG_IDS, _IDS, _IDS)])
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


@njit(nogil=True)
def _sum_rows(part, parts, coefficients, starts, order, owners, query, of_output, width, added, of_keys, of_values):
    """`sum_rows` for one part of the rows: each costs a write, each of its occurrences its pairs."""
    n, pairs = len(starts) - 2, coefficients.shape[1] // 2
    v0, v1 = cut_weighted(starts, n, pairs, part, parts), cut_weighted(starts, n, pairs, part + 1, parts)
    d, e = of_keys.shape[1], of_values.shape[1]
    end = starts[at(v1)]
    for v in range(v0, v1):
        if not added:
            for f in range(d):
                of_keys[at(v), at(f)] = ZERO
            for f in range(e):
                of_values[at(v), at(f)] = ZERO
        for place in range(starts[at(v)], starts[at(v + 1)]):
            prefetch(coefficients, at(order[at(min(place + _AHEAD, end - 1))]), at(0))
            i, target = at(order[at(place)]), np.int64(owners[at(place)])
            for j in range(pairs):
                weight, slope = coefficients[i, at(2 * j)], coefficients[i, at(2 * j + 1)]
                for f in range(d):
                    of_keys[at(v), at(f)] += slope * query[at((target + j) * d + f)]
                for f in range(e):
                    of_values[at(v), at(f)] += weight * of_output[at((target + j) * width + f)]


_sum_rows_in_parts = in_parts(_sum_rows)
_SUM_ROWS = void(
    _TABLE, _LONG_IDS, _IDS, _IDS, _NUMBERS, _NUMBERS, _COUNT, boolean, _TABLE, _TABLE, _COUNT, _COUNT, _LONG_IDS
)  # fmt: skip


@compiled([_SUM_ROWS])
def sum_rows(
    coefficients, starts, order, owners, query, of_output, width, added, of_keys, of_values, parts, part, team
):  # fmt: skip
    """Fill `of_keys` [V, d] and `of_values` [V, e], or add to them, in parts of their rows; no columns if not wanted.

    `starts`, `order` and `owners` come from `group`. Each pair of the coefficients of an occurrence is a weight for
    its next row of `of_output` [B·T·width] and a slope for its next row of `query` [B·T·d], beginning at its owner.
    """
    call = coefficients, starts, order, owners, query, of_output, width, added, of_keys, of_values
    _sum_rows_in_parts(call, parts, part, team)
