"""Score tiles of behaviours for targets, so exactly that only the order of a sum sets them apart from fp32 arithmetic.

A tensor core multiplies 11 significant bits, a query has 24. So the query is cut into two parts of 11 bits each,
hi + lo, and one product of each with the key rows is summed in fp32; the 2 bits that are lost weigh 2^-22. A table's
row is exact as it stands: fp16, int8 and float8_e4m3fn in fp16, bf16 in tf32. fp32 rows are cut by the compiler.
"""
# ruff: noqa: N803 - compile-time constants are written in capitals, as everywhere in Triton

import triton
import triton.language as tl

_HALF_TOP = tl.constexpr(15)
"""A query row is scaled to lie below 2 to this power, next to the largest fp16."""


@triton.jit
def load_queries(query, first, wanted, D: tl.constexpr, DP: tl.constexpr):
    """Query rows `first` [N] as fp32 [N, DP]; 0 where not `wanted` [N]."""
    column = tl.arange(0, DP)
    mask = wanted[:, None]
    if DP > D:
        mask = mask & (column < D)[None, :]
    return tl.load(query + first[:, None] * D + column[None, :], mask=mask, other=0.0).to(tl.float32)


@triton.jit
def split_query(query, HALF: tl.constexpr):
    """`query` fp32 [N, DP] as (hi, lo, unscale), query = (hi + lo) * unscale[:, None], in fp16 with HALF, else in fp32
    numbers that tf32 holds.

    hi and lo have one sign, and neither is 0 unless the query is: an infinite key then gives the infinity that fp32
    arithmetic gives, where a lo of 0 would make it NaN. Hence hi is cut off from the next number towards 0, not
    rounded, and each is the least normal number at least, or with HALF the least of all. fp16 has few exponents: each
    row is scaled by a power of two, and what is below 2^-38 of its largest number counts as that much.
    """
    size = tl.abs(query)
    finite = size < float("inf")  # neither infinite nor NaN
    if HALF:
        largest = tl.max(tl.where(finite, size, 0.0), axis=1)
        # Twice, because the power itself may be no fp32 number. Of 0 and of subnormal numbers the exponent is -127.
        shift = _HALF_TOP - 1 - ((largest.to(tl.int32, bitcast=True) >> 23) - 127)
        size = size * _power_of_two(shift // 2)[:, None] * _power_of_two(shift - shift // 2)[:, None]
        unscale = _power_of_two(-(shift // 2)) * _power_of_two(shift // 2 - shift)
        least = 2.0**-24
        cut = tl.where(size < 2.0**-14, least, _cut(size))  # below, fp16 has fewer bits
    else:
        unscale = tl.full([query.shape[0]], 1.0, tl.float32)
        least = 2.0**-126
        cut = _cut(size)
    hi = tl.maximum(cut, least)
    lo = tl.maximum(size - hi, least)
    hi = tl.where(query < 0.0, -hi, hi)
    lo = tl.where(query < 0.0, -lo, lo)
    plain = finite & (query != 0.0)
    hi = tl.where(plain, hi, query)  # 0 stays 0, and of infinity only one half would be left
    lo = tl.where(plain, lo, query)
    if HALF:
        hi = hi.to(tl.float16)
        lo = lo.to(tl.float16)
    return hi, lo, unscale


@triton.jit
def _cut(size):
    """The number before a positive `size`, cut off after 11 significant bits."""
    return ((size.to(tl.int32, bitcast=True) - 1) & -0x2000).to(tl.float32, bitcast=True)


@triton.jit
def _power_of_two(exponent):
    """2 to an int32 power between -126 and 127."""
    return ((exponent + 127) << 23).to(tl.float32, bitcast=True)


@triton.jit
def load_operand(table, row, there, D: tl.constexpr, DP: tl.constexpr, HALF: tl.constexpr):
    """Rows `row` [N] of `table` as [N, DP] in the type that `tile_scores` multiplies, without their scales.

    An absent behaviour (not `there` [N]) has a row of NaN, so that no score needs a mask of its own; in a table of 8
    bits, which has no NaN or no use for it, the caller makes the scale NaN instead.
    """
    column = tl.arange(0, DP)
    mask = there[:, None]
    absent = tl.full([1, DP], 0.0 if table.dtype.element_ty.primitive_bitwidth == 8 else float("nan"), tl.float32)
    if DP > D:
        mask = mask & (column < D)[None, :]
        absent = tl.where((column < D)[None, :], absent, 0.0)
    at = table + row.to(tl.int64)[:, None] * D + column[None, :]
    tile = tl.load(at, mask=mask, other=absent.to(table.dtype.element_ty))
    return tile.to(tl.float16) if HALF else tile.to(tl.float32)


@triton.jit
def tile_scores(hi, lo, whole, keys, HALF: tl.constexpr, EXACT: tl.constexpr):
    """`query · keys` fp32 [T, N] before any scale: from the split query where the table is EXACT in 11 bits, else from
    the `whole` one."""
    across = tl.trans(keys)
    if HALF:
        scores = tl.dot(hi, across, tl.dot(lo, across))
    elif EXACT:
        scores = tl.dot(hi, across, tl.dot(lo, across, input_precision="tf32"), input_precision="tf32")
    else:
        scores = tl.dot(whole, across, input_precision="tf32x3")
    return scores
