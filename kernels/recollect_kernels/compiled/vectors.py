"""Sums, products, maxima and exponentials of vectors in memory, as the attention inlines them.

Rows are taken four at a time, so that a vector that meets them is read and written once for all four.
"""

import numpy as np
from numba import njit

from recollect_kernels.compiled.building import LANES, ROWS, SUMS, at

ZERO = np.float32(0)
ONE = np.float32(1)

# e^x = 2^n · e^y with n = x / ln 2 rounded, by adding a number whose unit is 1, and ln 2 in two parts.
_LOG2_E = np.float32(1.44269504)
_ROUND = np.float32(12582912)
_LN2_HIGH = np.float32(0.693359375)
_LN2_LOW = np.float32(-2.12194440e-4)
_UNDERFLOW = np.float32(-88)
"""Where e^x is below the smallest normal number, and n = -127 makes the factor 0."""
_MANTISSA = np.int32(23)
_ONE_BITS = np.int32(0x3F800000)


@njit(nogil=True, fastmath={"contract"})
def exponential(x):
    """e^x for x of at most 0, within 2e-7 of itself; 0 from -88 on, NaN for NaN. Coefficients of Cephes' expf."""
    x = _UNDERFLOW if x < _UNDERFLOW else x
    shifted = x * _LOG2_E + _ROUND
    n = shifted - _ROUND
    y = (x - n * _LN2_HIGH) - n * _LN2_LOW
    p = np.float32(1.9875691500e-4)
    p = p * y + np.float32(1.3981999507e-3)
    p = p * y + np.float32(8.3334519073e-3)
    p = p * y + np.float32(4.1665795894e-2)
    p = p * y + np.float32(1.6666665459e-1)
    p = p * y + np.float32(5.0000001201e-1)
    p = p * y * y + (y + ONE)
    factor = np.int32((np.float32(shifted).view(np.int32) << _MANTISSA) + _ONE_BITS)
    return p * np.int32(factor).view(np.float32)


@njit(nogil=True)
def round_up(n, unit):
    """The first multiple of `unit` from n on."""
    return (n + unit - 1) // unit * unit


@njit(nogil=True)
def copy_rows(table, rows, first, n, gathered, width):
    """Copy the rows of n behaviours to the beginnings of rows of `width`."""
    d = table.shape[1]
    for j in range(n):
        row = at(rows[at(first + j)])
        for f in range(d):
            gathered[at(j * width + f)] = table[row, at(f)]


@njit(nogil=True)
def clear_rows(gathered, width, n):
    """Zero the rows behind n that are computed with it, so that what they hold is no NaN."""
    for f in range(n * width, round_up(n, ROWS) * width):
        gathered[at(f)] = ZERO


@njit(nogil=True, fastmath=SUMS)
def products(vectors, begin, width, gathered, n, products, place):
    """Products of the vector at `begin` with n rows, and with those that fill them up."""
    for j in range(0, n, ROWS):
        p0, p1, p2, p3 = ZERO, ZERO, ZERO, ZERO
        row = j * width
        for f in range(width):
            x = vectors[at(begin + f)]
            p0 += x * gathered[at(row + f)]
            p1 += x * gathered[at(row + width + f)]
            p2 += x * gathered[at(row + 2 * width + f)]
            p3 += x * gathered[at(row + 3 * width + f)]
        products[at(place + j)] = p0
        products[at(place + j + 1)] = p1
        products[at(place + j + 2)] = p2
        products[at(place + j + 3)] = p3


@njit(nogil=True, fastmath=SUMS)
def add_rows(weights, place, n, gathered, width, sums, begin):
    """Add n rows, and those that fill them up, by their weights to the vector at `begin`."""
    for j in range(0, n, ROWS):
        w0, w1 = weights[at(place + j)], weights[at(place + j + 1)]
        w2, w3 = weights[at(place + j + 2)], weights[at(place + j + 3)]
        row = j * width
        for f in range(width):
            sums[at(begin + f)] += (w0 * gathered[at(row + f)] + w1 * gathered[at(row + width + f)]) + (
                w2 * gathered[at(row + 2 * width + f)] + w3 * gathered[at(row + 3 * width + f)]
            )


@njit(nogil=True, fastmath=SUMS)
def product(first, begin, second, start, width):
    """Product of two vectors."""
    product = ZERO
    for f in range(width):
        product += first[at(begin + f)] * second[at(start + f)]
    return product


@njit(nogil=True)
def maximum(numbers, place, n, best, lanes):
    """The greatest of `best` and n numbers, a multiple of LANES; NaN counts for nothing."""
    for i in range(LANES):
        lanes[i] = best
    for j in range(place, place + n, LANES):
        for i in range(LANES):
            x = numbers[at(j + i)]
            lanes[i] = x if x > lanes[i] else lanes[i]
    for i in range(LANES):
        best = lanes[i] if lanes[i] > best else best
    return best


@njit(nogil=True)
def exponentials(numbers, place, n, shift):
    """Replace each of n numbers x by e^(x - shift)."""
    for j in range(place, place + n):
        numbers[at(j)] = exponential(numbers[at(j)] - shift)


@njit(nogil=True, fastmath=SUMS)
def total_of(numbers, place, n):
    """Sum of n numbers."""
    total = ZERO
    for j in range(place, place + n):
        total += numbers[at(j)]
    return total


@njit(nogil=True)
def scale(numbers, begin, n, factor):
    """Multiply n numbers by `factor`."""
    for f in range(begin, begin + n):
        numbers[at(f)] *= factor


@njit(nogil=True, fastmath=SUMS)
def products_with(table, found, first, n, vectors, begin, products):
    """Add the products of the vector at `begin` with the rows of `table` from `first` to n to `products`."""
    d = table.shape[1]
    whole = first + (n - first) // ROWS * ROWS
    for j in range(first, whole, ROWS):
        r0, r1, r2, r3 = at(found[at(j)]), at(found[at(j + 1)]), at(found[at(j + 2)]), at(found[at(j + 3)])
        p0, p1, p2, p3 = ZERO, ZERO, ZERO, ZERO
        for f in range(d):
            x = vectors[at(begin + f)]
            p0 += x * table[r0, at(f)]
            p1 += x * table[r1, at(f)]
            p2 += x * table[r2, at(f)]
            p3 += x * table[r3, at(f)]
        products[at(j)] += p0
        products[at(j + 1)] += p1
        products[at(j + 2)] += p2
        products[at(j + 3)] += p3
    for j in range(whole, n):
        row = at(found[at(j)])
        product = ZERO
        for f in range(d):
            product += vectors[at(begin + f)] * table[row, at(f)]
        products[at(j)] += product


@njit(nogil=True, fastmath=SUMS)
def add_from(table, found, first, n, weights, sums, begin):
    """Add the rows of `table` from `first` to n by their weights to the vector at `begin`."""
    d = table.shape[1]
    whole = first + (n - first) // ROWS * ROWS
    for j in range(first, whole, ROWS):
        r0, r1, r2, r3 = at(found[at(j)]), at(found[at(j + 1)]), at(found[at(j + 2)]), at(found[at(j + 3)])
        w0, w1, w2, w3 = weights[at(j)], weights[at(j + 1)], weights[at(j + 2)], weights[at(j + 3)]
        for f in range(d):
            sums[at(begin + f)] += (w0 * table[r0, at(f)] + w1 * table[r1, at(f)]) + (
                w2 * table[r2, at(f)] + w3 * table[r3, at(f)]
            )
    for j in range(whole, n):
        row, weight = at(found[at(j)]), weights[at(j)]
        for f in range(d):
            sums[at(begin + f)] += weight * table[row, at(f)]
