"""Read table rows as fp32, however they are stored: fp32, int8 with a scale a row, or fp16, whose bits are uint16.

numba chooses among the overloads by the type of the table, so that no loop asks how a table is stored.
"""

import numpy as np
from numba import float32, int8, int32, int64, njit, uint16
from numba.extending import overload

from recollect_kernels.compiled.building import LANES, ROWS, SUMS, ask_for, at
from recollect_kernels.compiled.lanes import add_lanes, score_lanes, turn_lanes
from recollect_kernels.compiled.vectors import add_from, add_rows, clear_rows, product, products_with, round_up

STORED = ((float32, int32), (float32, int64), (int8, int32), (uint16, int32))
"""Types of tables, and of the rows that name their rows, that there are loops for."""

_AHEAD = 2 * LANES
"""Behaviours from one that is scored to one that is asked for."""

# fp16: 5 bits of exponent, which are 112 less than those of fp32, above 10 bits.
_HALF_MAGNITUDE, _HALF_SIGN = np.int32(0x7FFF), np.int32(0x8000)
_HALF_INFINITY, _HALF_NORMAL = np.int32(0x7C00), np.int32(0x0400)
_HALF_SHIFT, _HALF_TO_SIGN = np.int32(13), np.int32(16)
_HALF_BIAS, _HALF_SPECIAL = np.int32(112 << 23), np.int32(224 << 23)
_HALF_SMALLEST = np.float32(2.0**-24)


@njit(nogil=True)
def _widened(half):
    """Bits of the fp32 number that 16 bits of fp16 stand for."""
    magnitude = half & _HALF_MAGNITUDE
    widened = (magnitude << _HALF_SHIFT) + (_HALF_SPECIAL if magnitude >= _HALF_INFINITY else _HALF_BIAS)
    small = np.float32(np.float32(magnitude) * _HALF_SMALLEST).view(np.int32)
    widened = small if magnitude < _HALF_NORMAL else widened
    return np.int32(widened | ((half & _HALF_SIGN) << _HALF_TO_SIGN))


def gather(table, scales, rows, first, n, gathered):
    """Copy the rows of n behaviours side by side, as fp32."""
    raise NotImplementedError("numba takes the overload")


@overload(gather)
def _gather_stored(table, scales, rows, first, n, gathered):
    """Choose how rows are read by how they are stored: fp32, int8 times a scale, or fp16, whose bits come as uint16."""

    def gather_fp32(table, scales, rows, first, n, gathered):
        d = table.shape[1]
        for j in range(n):
            row = at(rows[at(first + j)])
            for f in range(d):
                gathered[at(j * d + f)] = table[row, at(f)]

    def gather_int8(table, scales, rows, first, n, gathered):
        d = table.shape[1]
        for j in range(n):
            row = at(rows[at(first + j)])
            scale = scales[row]
            for f in range(d):
                gathered[at(j * d + f)] = scale * np.float32(table[row, at(f)])

    def gather_fp16(table, scales, rows, first, n, gathered):
        d = table.shape[1]
        bits = gathered.view(np.int32)
        for j in range(n):
            row = at(rows[at(first + j)])
            for f in range(d):
                bits[at(j * d + f)] = _widened(np.int32(table[row, at(f)]))

    return {int8: gather_int8, uint16: gather_fp16}.get(table.dtype, gather_fp32)


@njit(nogil=True)
def _turn(numbers, d, rows, first, n, columns, place, block):
    """Lay n rows of d numbers of fp32 out with one feature behind the other, `block` apart.

    They are those that rows[first:] names, or those from `first` on where `rows` is None.
    """
    whole, lanes = n // LANES * LANES, d // LANES * LANES
    flat = numbers.reshape(-1)
    for j in range(0, whole, LANES):
        for f in range(0, lanes, LANES):
            turn_lanes(flat, d, rows, first + j, f, columns, place + j, block)
    for j in range(n):
        begin = (first + j if rows is None else np.int64(rows[at(first + j)])) * d
        for f in range(lanes if j < whole else 0, d):
            columns[at(place + f * block + j)] = flat[at(begin + f)]


def lay_columns(table, scales, rows, first, n, gathered, columns, place, block):
    """Lay the rows of n behaviours out as fp32, from `place` on, the features `block` apart; `gathered` is scratch."""
    raise NotImplementedError("numba takes the overload")


@overload(lay_columns)
def _lay_stored_columns(table, scales, rows, first, n, gathered, columns, place, block):
    """Turn rows in fp32 from where they are; others are gathered first."""

    def lay_fp32(table, scales, rows, first, n, gathered, columns, place, block):
        _turn(table, table.shape[1], rows, first, n, columns, place, block)

    def lay_others(table, scales, rows, first, n, gathered, columns, place, block):
        gather(table, scales, rows, first, n, gathered)
        _turn(gathered, table.shape[1], None, 0, n, columns, place, block)

    return lay_fp32 if table.dtype == float32 else lay_others


@njit(nogil=True, fastmath=SUMS)
def _score_gathered(gathered, d, n, query, scores):
    for j in range(n):
        product = np.float32(0)
        for f in range(d):
            product += gathered[at(j * d + f)] * query[f]
        scores[j] += product


def score_rows(table, scales, rows, first, n, border, query, scores, gathered):
    """Add the products of one target with n behaviours to their scores, and ask for those that follow before `border`.

    `gathered` [n, d] is scratch.
    """
    raise NotImplementedError("numba takes the overload")


@overload(score_rows, jit_options={"fastmath": SUMS})
def _score_stored_rows(table, scales, rows, first, n, border, query, scores, gathered):
    """Read rows in fp32 where they are; others are gathered first."""

    def score_fp32(table, scales, rows, first, n, border, query, scores, gathered):
        d = table.shape[1]
        whole = n // LANES * LANES if d % LANES == 0 else 0
        for j in range(0, whole, LANES):
            score_lanes(table, rows, first + j, min(first + j + _AHEAD, border - LANES), query, scores, j)
        if d % LANES != 0:
            ask_for(table, rows, first + n, min(first + 2 * n, border))
        for j in range(whole, n):
            row = at(rows[at(first + j)])
            product = np.float32(0)
            for f in range(d):
                product += table[row, at(f)] * query[at(f)]
            scores[at(j)] += product

    def score_others(table, scales, rows, first, n, border, query, scores, gathered):
        ask_for(table, rows, first + n, min(first + 2 * n, border))
        gather(table, scales, rows, first, n, gathered)
        _score_gathered(gathered, table.shape[1], n, query, scores)

    return score_fp32 if table.dtype == float32 else score_others


def score_found(table, scales, found, n, vectors, begin, scores, gathered):
    """Add the products of the vector at `begin` with the n rows `found` to `scores`; `gathered` is scratch."""
    raise NotImplementedError("numba takes the overload")


@overload(score_found, inline="always")
def _score_stored_found(table, scales, found, n, vectors, begin, scores, gathered):
    """Read rows in fp32 where they are; others are gathered first."""

    def score_fp32(table, scales, found, n, vectors, begin, scores, gathered):
        d = table.shape[1]
        whole = n // LANES * LANES if d % LANES == 0 else 0
        for j in range(0, whole, LANES):
            score_lanes(table, found, j, j, vectors[begin : begin + d], scores, j)
        products_with(table, found, whole, n, vectors, begin, scores)

    def score_others(table, scales, found, n, vectors, begin, scores, gathered):
        d = table.shape[1]
        gather(table, scales, found, 0, n, gathered)
        for j in range(n):
            scores[at(j)] += product(gathered, j * d, vectors, begin, d)

    return score_fp32 if table.dtype == float32 else score_others


def add_found(table, scales, found, n, weights, sums, begin, gathered):
    """Add the n rows `found` by their weights to the vector at `begin`; `gathered` is scratch."""
    raise NotImplementedError("numba takes the overload")


@overload(add_found, inline="always")
def _add_stored_found(table, scales, found, n, weights, sums, begin, gathered):
    """Read rows in fp32 where they are; others are gathered first."""

    def add_fp32(table, scales, found, n, weights, sums, begin, gathered):
        whole = n // ROWS * ROWS if table.shape[1] % LANES == 0 else 0
        for f in range(0, table.shape[1] if whole > 0 else 0, LANES):
            add_lanes(table, found, whole, weights, f, sums, begin + f)
        add_from(table, found, whole, n, weights, sums, begin)

    def add_others(table, scales, found, n, weights, sums, begin, gathered):
        d = table.shape[1]
        gather(table, scales, found, 0, n, gathered)
        clear_rows(gathered, d, n)
        for j in range(n, round_up(n, ROWS)):
            weights[at(j)] = np.float32(0)
        add_rows(weights, 0, n, gathered, d, sums, begin)

    return add_fp32 if table.dtype == float32 else add_others
