"""Pick the best of many keys by one threshold, found by bisection, instead of sorting any but the few that reach it.

Keys stand in tiles [N, LANES] whose columns are a program's threads: what is done along the first axis stays in a
thread's registers, and only one number a thread is left to exchange.
"""
# ruff: noqa: N803, N806 - compile-time constants are written in capitals, as everywhere in Triton

import triton
import triton.language as tl

from recollect_kernels.tiles.ordering import ABSENT


@triton.jit
def tile_index(COUNT: tl.constexpr, LANES: tl.constexpr):
    """0 … COUNT - 1 as a tile: neighbours lie in neighbouring columns."""
    WIDTH: tl.constexpr = LANES if LANES < COUNT else COUNT
    return tl.arange(0, COUNT // WIDTH)[:, None] * WIDTH + tl.arange(0, WIDTH)[None, :]


@triton.jit
def count_of(mask):
    """How many of a tile's entries are true."""
    return tl.sum(tl.sum(mask.to(tl.int32), axis=0), axis=0)


@triton.jit
def bracket(key):
    """(low, high, reach): the least key present in the tile, one above the greatest, and how many are present."""
    present = key != ABSENT
    low = tl.min(tl.min(tl.where(present, key, 0x7FFFFFFF), axis=0), axis=0)
    return low, tl.max(tl.max(key, axis=0), axis=0) + 1, count_of(present)


@triton.jit
def narrow(key, least, low, high, reach, MOST: tl.constexpr):
    """Raise `low`, which `reach` of the keys reach, until MOST of them do, but never so far that fewer than `least` do.

    No key reaches `high`. Returns (low, reach). Where reach is still above MOST, too many keys equal `low`, and fewer
    than `least` are above it.
    """
    while (reach > MOST) & (low + 1 < high):
        middle = (low & high) + ((low ^ high) >> 1)  # their mean, where their sum may not fit
        above = count_of(key >= middle)
        enough = above >= least
        low = tl.where(enough, middle, low)
        reach = tl.where(enough, above, reach)
        high = tl.where(enough, high, middle)
    return low, reach


@triton.jit
def first_of(equal, index, wanted, limit):
    """Of the entries that are `equal`, those of the `wanted` lowest `index`; indices are below `limit`."""
    begin = tl.cast(0, tl.int32)
    end = tl.cast(limit, tl.int32)
    while begin + 1 < end:
        middle = (begin + end) // 2
        enough = count_of(equal & (index < middle)) >= wanted
        end = tl.where(enough, middle, end)
        begin = tl.where(enough, begin, middle)
    return equal & (index < end)


@triton.jit
def slots_of(taken):
    """A slot of its own for each entry that is true, from 0 on, in no order that means anything."""
    flag = taken.to(tl.int32)
    of_thread = tl.sum(flag, axis=0)
    before = tl.cumsum(of_thread, 0) - of_thread
    return before[None, :] + tl.cumsum(flag, 0) - 1


@triton.jit
def rank_of(order):
    """Rank of each of the sort keys [N], no two alike, 0 for the greatest, by comparing all pairs.

    For the few that are left this takes fewer dependent steps than a sorting network.
    """
    return tl.sum((order[:, None] > order[None, :]).to(tl.int32), axis=0)
