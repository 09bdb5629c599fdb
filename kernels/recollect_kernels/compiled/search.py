"""Search histories over blocks that stay in cache: a score is looked at only where it exceeds its target's bound.

A block of behaviours is gathered once and turned into columns, so that one instruction scores a whole vector of them
for each of four targets. The beginning of a long history is scored twice: the maxima of its groups give each target a
bound that few of its behaviours exceed. One target alone needs no columns.
"""

from collections import namedtuple

import numpy as np
from numba import boolean, float32, int32, int64, njit

from recollect_kernels.compiled.building import LANES, LINE, ask_for, at, compiled
from recollect_kernels.compiled.kept import bound_of, clear, put, room, take
from recollect_kernels.compiled.lanes import TARGETS, TILE, above, raise_maxima, score_tile
from recollect_kernels.compiled.storage import STORED, lay_columns, score_rows

_MOST_A_BLOCK = 256
"""Behaviours gathered at a time at most."""
_COLUMNS = 1 << 12
"""Numbers of a block, which stay in the first cache: 16 KB."""
_HEAD = 1 << 15
"""Numbers of the beginning of a history, which stay in the second cache: 128 KB."""
_GROUPS_A_KEPT = 4
"""Groups of the beginning for each of the k: most of its k best then stand in groups of their own."""

_Source = namedtuple("_Source", "table scales rows border bias")
"""What is searched; rows before `border` may be asked for ahead of time."""
_Sizes = namedtuple("_Sizes", "targets k block groups head")
"""Of a share of the work; `head` is how many behaviours a long history begins with."""
_Space = namedtuple("_Space", "wanted begun gathered columns maxima scores bits masks kept bounds")
"""Memory that is used for one block after the other."""


@njit(nogil=True)
def _sizes(targets, k, d):
    block = max(TILE, min(_MOST_A_BLOCK, _COLUMNS // d // TILE * TILE))
    groups = TILE
    while groups < _GROUPS_A_KEPT * k:
        groups *= 2
    head = max(_HEAD // d, groups)
    return _Sizes(targets, k, block, groups, (head + block - 1) // block * block)


@njit(nogil=True)
def _rounded(targets):
    return (targets + TARGETS - 1) // TARGETS * TARGETS


def scratch(targets, k, d):
    """Numbers of fp32 that `search` needs for so many targets at once."""
    if targets == 1:
        return 0
    sizes = _sizes.py_func(targets, k, d)
    return LANES + d * sizes.head + _rounded.py_func(targets) * sizes.groups


@njit(nogil=True)
def _lay_bias(bias, length, first, n, scores):
    """Begin the scores of a block with the recency bias."""
    last = len(bias) - 1
    for j in range(n):
        scores[at(j)] = bias[at(min(length - 1 - first - j, last))] if last >= 0 else np.float32(0)


@njit(nogil=True)
def _first_of(mask, n):
    """The first n behaviours of a mask."""
    return mask if n >= TILE else mask & ((np.int64(1) << n) - 1)


@njit(nogil=True)
def _search_one(source, sizes, space, begin, length):
    """Find what one target keeps of the behaviours at rows[begin : begin + length]."""
    for first in range(0, length, sizes.block):
        n = min(sizes.block, length - first)
        _lay_bias(source.bias, length, first, n, space.begun)
        score_rows(
            source.table, source.scales, source.rows, begin + first, n, source.border,
            space.wanted, space.begun, space.gathered,
        )  # fmt: skip
        for j in range(0, n, LANES):
            mask = _first_of(above(space.begun, j, space.bounds[0]), min(n - j, LANES))
            if mask != 0:
                take(mask, space.bits, j, first + j, space.kept, 0, sizes.k, space.bounds)


@njit(nogil=True)
def _lay_block(source, space, begin, n, place, block):
    """Turn n behaviours at rows[begin:] into columns from `place` on."""
    lay_columns(source.table, source.scales, source.rows, begin, n, space.gathered, space.columns, place, block)


@njit(nogil=True)
def _bound_by_head(source, sizes, space, begin, length, head):
    """Lay out the first `head` behaviours, and find a bound for each target that at least k of them exceed."""
    d, block, groups = source.table.shape[1], sizes.block, sizes.groups
    run = max(head // (groups // TILE) // TILE, 1) * TILE
    space.maxima[:] = -np.inf
    share = block * TARGETS // len(space.bounds) + 1
    for first in range(0, head, block):
        asked = begin + first + block
        ahead = min(asked + block, source.border)
        _lay_block(source, space, begin + first, block, first * d, block)
        _lay_bias(source.bias, length, first, block, space.begun)
        for t in range(0, sizes.targets, TARGETS):
            ask_for(source.table, source.rows, asked, min(asked + share, ahead))
            asked += share
            for j in range(0, block, TILE):
                group = t * groups + min((first + j) // run, groups // TILE - 1) * TILE
                raise_maxima(
                    space.columns, first * d, block, d, space.wanted, t * d, space.begun, j,
                    space.maxima, group, groups,
                )  # fmt: skip
    for t in range(sizes.targets):
        space.bounds[at(t)] = bound_of(space.maxima, t * groups, groups, sizes.k)


@njit(nogil=True)
def _search_many(source, sizes, space, begin, length):
    """Find what targets keep of the behaviours at rows[begin : begin + length]."""
    d, block = source.table.shape[1], sizes.block
    head = min(sizes.head, length // block * block) if length >= 2 * sizes.groups else 0
    if head > 0:
        _bound_by_head(source, sizes, space, begin, length, head)
    share = block * TARGETS // len(space.bounds) + 1
    for first in range(0, length, block):
        n = min(block, length - first)
        place = first * d if first < head else 0
        if first >= head:
            _lay_block(source, space, begin + first, n, place, block)
        asked = begin + first + n
        ahead = min(asked + block, source.border) if first + n >= head else asked
        _lay_bias(source.bias, length, first, n, space.begun)
        for t in range(0, sizes.targets, TARGETS):
            ask_for(source.table, source.rows, asked, min(asked + share, ahead))
            asked += share
            for j in range(0, n, TILE):
                if not score_tile(
                    space.columns, place, block, d, space.wanted, t * d, space.begun, j,
                    space.bounds, t, space.scores, space.masks,
                ):  # fmt: skip
                    continue
                for i in range(min(TARGETS, sizes.targets - t)):
                    mask = _first_of(space.masks[i], n - j)
                    if mask != 0:
                        take(mask, space.bits, i * TILE, first + j, space.kept, t + i, sizes.k, space.bounds)


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
        float32[::1],
        boolean,
        int64,
        int64,
        int64,
        int64,
    )
    for table, row in STORED
]


@compiled(_SEARCH)
def search(query, table, scales, rows, offsets, bias, scores, positions, numbers, check, b0, b1, t0, t1):
    """Fill `scores` (the bits of fp32) and `positions`, both [B, T, k], for histories b0 … b1 and targets t0 … t1.

    query [B, T, d], table [V, d] as `storage` reads it, scales [V] or empty, rows [E], offsets [B + 1]; an empty
    `bias` stands for none. `numbers` is scratch, as many as the function `scratch` says for t1 - t0 targets. With
    `check`, returns what `longest_history` does, and has done nothing where that is -1; without it, 0.
    """
    longest = longest_history(rows, offsets, len(table)) if check else np.int64(0)
    if longest < 0:
        return longest
    d, targets = table.shape[1], t1 - t0
    sizes = _sizes(targets, scores.shape[2], d)
    rounded = _rounded(targets)
    one = targets == 1
    source = _Source(table, scales, rows, offsets[b1], bias)
    begun, tile = np.empty(sizes.block, np.float32), np.empty(TARGETS * TILE, np.float32)
    columns = (LINE - numbers.ctypes.data % LINE) // 4 % LANES
    maxima = columns + (0 if one else d * sizes.head)
    space = _Space(
        np.zeros(rounded * d, np.float32),
        begun,
        np.empty(d * sizes.block, np.float32),
        numbers[columns:maxima],
        numbers[maxima : maxima + (0 if one else rounded * sizes.groups)],
        tile,
        begun.view(np.int32) if one else tile.view(np.int32),
        np.empty(TARGETS, np.int64),
        np.empty((rounded, room(sizes.k)), np.int64),
        np.empty(rounded, np.float32),
    )
    for b in range(b0, b1):
        for t in range(targets):
            for f in range(d):
                space.wanted[at(t * d + f)] = query[b, t0 + t, at(f)]
        clear(space.kept, space.bounds, targets)
        if one:
            _search_one(source, sizes, space, offsets[b], offsets[b + 1] - offsets[b])
        else:
            _search_many(source, sizes, space, offsets[b], offsets[b + 1] - offsets[b])
        for t in range(targets):
            put(space.kept, t, scores[b, t0 + t], positions[b, t0 + t])
    return longest
