"""Read table rows as fp32, however they are stored: fp32, int8 with a scale a row, or fp16, whose bits are uint16.

numba chooses among the overloads by the type of the table, so that no loop asks how a table is stored.
"""

import numpy as np
from numba import float32, int8, int32, int64, njit, uint16
from numba.extending import overload

from recollect_kernels.compiled.building import ROWS, SUMS, at

STORED = ((float32, int32), (float32, int64), (int8, int32), (uint16, int32))
"""Types of tables, and of the rows that name their rows, that there are loops for."""

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


@njit(nogil=True, fastmath=SUMS)
def _score_gathered(gathered, d, n, query, scores):
    for j in range(n):
        product = np.float32(0)
        for f in range(d):
            product += gathered[at(j * d + f)] * query[f]
        scores[j] += product


def score_rows(table, scales, rows, first, n, gathered, query, scores):
    """Add the products of one target with n behaviours to their scores."""
    raise NotImplementedError("numba takes the overload")


@overload(score_rows, jit_options={"fastmath": SUMS})
def _score_stored_rows(table, scales, rows, first, n, gathered, query, scores):
    """Read rows in fp32 where they are; others are gathered first."""

    def score_fp32(table, scales, rows, first, n, gathered, query, scores):
        d = table.shape[1]
        whole = n // ROWS * ROWS
        # Four at a time: their sums wait for memory and for one another less than one sum after the other would.
        for j in range(0, whole, ROWS):
            r0, r1 = at(rows[at(first + j)]), at(rows[at(first + j + 1)])
            r2, r3 = at(rows[at(first + j + 2)]), at(rows[at(first + j + 3)])
            p0, p1, p2, p3 = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
            for f in range(d):
                x = query[at(f)]
                p0 += table[r0, at(f)] * x
                p1 += table[r1, at(f)] * x
                p2 += table[r2, at(f)] * x
                p3 += table[r3, at(f)] * x
            scores[at(j)] += p0
            scores[at(j + 1)] += p1
            scores[at(j + 2)] += p2
            scores[at(j + 3)] += p3
        for j in range(whole, n):
            row = at(rows[at(first + j)])
            product = np.float32(0)
            for f in range(d):
                product += table[row, at(f)] * query[f]
            scores[j] += product

    def score_others(table, scales, rows, first, n, gathered, query, scores):
        gather(table, scales, rows, first, n, gathered)
        _score_gathered(gathered, table.shape[1], n, query, scores)

    return score_fp32 if table.dtype == float32 else score_others


def add_value(table, scales, row, weight, output, b, t):
    """Add a row of `table` by its weight to output[b, t]."""
    raise NotImplementedError("numba takes the overload")


@overload(add_value)
def _add_stored_value(table, scales, row, weight, output, b, t):
    """Choose by how rows are stored, as `gather` does."""

    def add_fp32(table, scales, row, weight, output, b, t):
        for f in range(table.shape[1]):
            output[b, t, at(f)] += weight * table[row, at(f)]

    def add_int8(table, scales, row, weight, output, b, t):
        scaled = weight * scales[row]
        for f in range(table.shape[1]):
            output[b, t, at(f)] += scaled * np.float32(table[row, at(f)])

    def add_fp16(table, scales, row, weight, output, b, t):
        for f in range(table.shape[1]):
            output[b, t, at(f)] += weight * np.int32(_widened(np.int32(table[row, at(f)]))).view(np.float32)

    return {int8: add_int8, uint16: add_fp16}.get(table.dtype, add_fp32)
