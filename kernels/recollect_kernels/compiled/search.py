"""Search histories over blocks that stay in cache: a score is looked at only where it exceeds its target's bound.

A block of behaviours is gathered once and turned into columns, so that one instruction scores a whole vector of them
for each of four targets. The beginning of a long history is scored twice: the maxima of its groups give each target a
bound that few of its behaviours exceed. One target alone needs no columns.
"""

from collections import namedtuple

import numpy as np
from numba import boolean, int32, int64, njit

from recollect_kernels.compiled.building import LANES, LINE, ask_for, at, compiled
from recollect_kernels.compiled.kept import bound_of, clear, join, put, room, take
from recollect_kernels.compiled.lanes import TARGETS, TILE, above, raise_maxima, score_tile
from recollect_kernels.compiled.memory import FLOATS, INTS, LONGS, array_at
from recollect_kernels.compiled.shares import cut, share_of
from recollect_kernels.compiled.storage import STORED, lay_columns, score_rows
from recollect_kernels.compiled.team import in_parts
from recollect_kernels.threads import BY_BEHAVIOUR, BY_TARGET

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
_Stretch = namedtuple("_Stretch", "begin n position newer")
"""Behaviours at rows[begin : begin + n]: the position of the first in its history, and how many are newer than it."""
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


@compiled([int64(int64, int64, int64)])
def scratch(targets, k, d):
    """Numbers of fp32 that each part of `search` needs for so many targets at once."""
    if targets == 1:
        return 0
    sizes = _sizes(targets, k, d)
    return LANES + d * sizes.head + _rounded(targets) * sizes.groups


@njit(nogil=True)
def _lay_bias(bias, newer, first, n, scores):
    """Begin the scores of a block with the recency bias."""
    last = len(bias) - 1
    for j in range(n):
        scores[at(j)] = bias[at(min(newer - first - j, last))] if last >= 0 else np.float32(0)


@njit(nogil=True)
def _first_of(mask, n):
    """The first n behaviours of a mask."""
    return mask if n >= TILE else mask & ((np.int64(1) << n) - 1)


@njit(nogil=True)
def _search_one(source, sizes, space, stretch):
    """Find what one target keeps of a stretch."""
    for first in range(0, stretch.n, sizes.block):
        n = min(sizes.block, stretch.n - first)
        _lay_bias(source.bias, stretch.newer, first, n, space.begun)
        score_rows(
            source.table, source.scales, source.rows, stretch.begin + first, n, source.border,
            space.wanted, space.begun, space.gathered,
        )  # fmt: skip
        for j in range(0, n, LANES):
            mask = _first_of(above(space.begun, j, space.bounds[0]), min(n - j, LANES))
            if mask != 0:
                take(mask, space.bits, j, stretch.position + first + j, space.kept, 0, sizes.k, space.bounds)


@njit(nogil=True)
def _lay_block(source, space, begin, n, place, block):
    """Turn n behaviours at rows[begin:] into columns from `place` on."""
    lay_columns(source.table, source.scales, source.rows, begin, n, space.gathered, space.columns, place, block)


@njit(nogil=True)
def _bound_by_head(source, sizes, space, stretch, head):
    """Lay out the first `head` behaviours, and find a bound for each target that at least k of them exceed."""
    d, block, groups = source.table.shape[1], sizes.block, sizes.groups
    run = max(head // (groups // TILE) // TILE, 1) * TILE
    space.maxima[:] = -np.inf
    share = block * TARGETS // len(space.bounds) + 1
    for first in range(0, head, block):
        asked = stretch.begin + first + block
        ahead = min(asked + block, source.border)
        _lay_block(source, space, stretch.begin + first, block, first * d, block)
        _lay_bias(source.bias, stretch.newer, first, block, space.begun)
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
def _search_many(source, sizes, space, stretch):
    """Find what targets keep of a stretch."""
    d, block = source.table.shape[1], sizes.block
    head = min(sizes.head, stretch.n // block * block) if stretch.n >= 2 * sizes.groups else 0
    if head > 0:
        _bound_by_head(source, sizes, space, stretch, head)
    share = block * TARGETS // len(space.bounds) + 1
    for first in range(0, stretch.n, block):
        n = min(block, stretch.n - first)
        place = first * d if first < head else 0
        if first >= head:
            _lay_block(source, space, stretch.begin + first, n, place, block)
        asked = stretch.begin + first + n
        ahead = min(asked + block, source.border) if first + n >= head else asked
        _lay_bias(source.bias, stretch.newer, first, n, space.begun)
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
                        position = stretch.position + first + j
                        take(mask, space.bits, i * TILE, position, space.kept, t + i, sizes.k, space.bounds)


@njit(nogil=True)
def _longest_of(offsets, end):
    """Length of the longest history; -1 unless offsets ascend from 0 to `end`."""
    longest = np.int64(0)
    ascending = offsets[0] == 0 and offsets[len(offsets) - 1] == end
    for b in range(len(offsets) - 1):
        length = offsets[at(b + 1)] - offsets[at(b)]
        ascending &= length >= 0
        longest = max(longest, length)
    return longest if ascending else np.int64(-1)


@njit(nogil=True)
def _within(rows, begin, end, n_rows):
    """Whether rows[begin:end] lie within [0, n_rows)."""
    smallest, largest = np.int64(0), np.int64(-1)
    for i in range(begin, end):
        smallest = min(smallest, np.int64(rows[at(i)]))
        largest = max(largest, np.int64(rows[at(i)]))
    return smallest >= 0 and largest < n_rows


@compiled([int64(row[::1], int64[::1], int64) for row in (int32, int64)])
def longest_history(rows, offsets, n_rows):
    """Length of the longest history; -1 unless offsets ascend from 0 to E and rows [E] lie within [0, n_rows)."""
    return _longest_of(offsets, len(rows)) if _within(rows, 0, len(rows), n_rows) else np.int64(-1)


@njit(nogil=True)
def _search(
    part, parts, query, table, scales, rows, offsets, bias, scores, positions, numbers, by, kept, wrong
):  # fmt: skip
    """`search` for one part, which leaves what it keeps in kept[part] where the call is cut by behaviours.

    It looks at the rows that no other part searches, and ends with wrong[0] = 1 where one is outside the table.
    """
    b0, b1, t0, t1 = share_of(part, parts, by, offsets, query.shape[1])
    d, targets = table.shape[1], t1 - t0
    sizes = _sizes(targets, scores.shape[2], d)
    rounded = _rounded(targets)
    one = targets == 1
    source = _Source(table, scales, rows, offsets[b1], bias)
    begun, tile = np.empty(sizes.block, np.float32), np.empty(TARGETS * TILE, np.float32)
    numbers = numbers[part]
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
        kept[part] if by == BY_BEHAVIOUR else np.empty((rounded, room(sizes.k)), np.int64),
        np.empty(rounded, np.float32),
    )
    for b in range(b0, b1):
        length = offsets[b + 1] - offsets[b]
        first, end = (cut(length, part, parts), cut(length, part + 1, parts)) if by == BY_BEHAVIOUR else (0, length)
        if by != BY_TARGET and not _within(rows, offsets[b] + first, offsets[b] + end, len(table)):
            wrong[0] = 1
            return
        for t in range(targets):
            for f in range(d):
                space.wanted[at(t * d + f)] = query[b, t0 + t, at(f)]
        clear(space.kept, space.bounds, targets)
        stretch = _Stretch(offsets[b] + first, end - first, first, length - 1 - first)
        if one:
            _search_one(source, sizes, space, stretch)
        else:
            _search_many(source, sizes, space, stretch)
        for t in range(targets if by != BY_BEHAVIOUR else 0):
            put(space.kept, t, scores[b, t0 + t], positions[b, t0 + t])


_search_in_parts = in_parts(_search)
_SEARCH = [int64(table[::1], row[::1], *[int64] * 16, boolean, *[int64] * 3, int64[::1]) for table, row in STORED]


@compiled(_SEARCH)
def search(
    table_kind, row_kind, query, table, scales, rows, offsets, bias, scores, positions, numbers,
    batch, targets, d, k, n_rows, n_behaviours, n_bias, scaled, by, parts, part, team,
):  # fmt: skip
    """Fill `scores` [B, T, k] and `positions` [B, T, k]; parts and team as `team.in_parts` takes them.

    Arrays are given by their addresses: query [B, T, d] in fp32, table [V, d] as `storage` reads it, scales [V] in fp32
    where it is `scaled`, rows [E], offsets [B + 1] and positions in int64, bias [P] in fp32, P being 0 for none, and
    `numbers` [parts, scratch(T, k, d)] of fp32 that nobody else uses. Arrays of no size tell the types of table and
    rows.
    A call is cut `by` what `threads` names; by behaviours only where there is one history and all parts are done at
    once. Returns what `longest_history` does; where that is -1, nothing that was filled counts.
    """
    rows = array_at(row_kind, rows, n_behaviours)
    offsets = array_at(LONGS, offsets, batch + 1)
    longest = _longest_of(offsets, n_behaviours)
    if longest < 0 or (by == BY_TARGET and not _within(rows, 0, n_behaviours, n_rows)):
        return np.int64(-1)
    scores = array_at(INTS, scores, (batch, targets, k))
    positions = array_at(LONGS, positions, (batch, targets, k))
    wrong = np.zeros(1, np.int64)
    kept = np.empty((parts if by == BY_BEHAVIOUR else 0, _rounded(targets), room(k)), np.int64)
    call = (
        array_at(FLOATS, query, (batch, targets, d)),
        array_at(table_kind, table, (n_rows, d)),
        array_at(FLOATS, scales, n_rows if scaled else 0),
        rows,
        offsets,
        array_at(FLOATS, bias, n_bias),
        scores,
        positions,
        array_at(FLOATS, numbers, (parts, scratch(targets, k, d))),
        by,
        kept,
        wrong,
    )
    _search_in_parts(call, parts, part, team)
    if wrong[0] != 0:
        return np.int64(-1)
    if by == BY_BEHAVIOUR:
        for other in range(1, parts):
            join(kept[0], kept[other], targets, k)
        for t in range(targets):
            put(kept[0], t, scores[0, t], positions[0, t])
    return longest
