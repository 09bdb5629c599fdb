"""From a history, or the maxima of its groups, to the few behaviours that may be the best: one target a program."""
# ruff: noqa: N803 - compile-time constants are written in capitals, as everywhere in Triton

import triton
import triton.language as tl

from recollect_kernels.tiles.ordering import ABSENT, NAN, key_of_score, sort_key
from recollect_kernels.tiles.rows import load_rows
from recollect_kernels.tiles.selection import bracket, count_of, first_of, narrow, slots_of, tile_index


@triton.jit
def keep_best(
    target, keys, scales, rows, begin, length, bias, maxima, scratch, kept, k, vocabulary, recencies,
    D: tl.constexpr, DP: tl.constexpr, GROUP: tl.constexpr, GROUPS: tl.constexpr, MOST_GROUPS: tl.constexpr,
    CANDIDATES: tl.constexpr, CHUNK: tl.constexpr, MOST: tl.constexpr, LANES: tl.constexpr, SCALED: tl.constexpr,
    BIASED: tl.constexpr,
):  # fmt: skip
    """Return the sort keys int64 [MOST] of the best behaviours for `target` fp32 [DP], in no order: at least k where
    there are as many, and below theirs, each another one, the keys of none.

    With GROUP the `maxima` (a pointer to the first of this history and target, GROUPS at most) choose groups of that
    many behaviours, and those alone are scored; without, the whole history is, CANDIDATES at most. The maxima may
    have been rounded otherwise than the scores here, so they choose groups and nothing more. This program's own are
    `scratch`, of `scratch_width` int32, and `kept`, of MOST int64.
    """
    groups = scratch
    candidates = scratch + MOST_GROUPS
    total = tl.minimum(length, CANDIDATES)  # a history longer than promised must not overrun the scratch
    if GROUP > 0:
        count, bound = _choose_groups(
            groups, maxima, rows, begin, length, k, vocabulary, GROUP, GROUPS, MOST_GROUPS, LANES
        )
        total = count * GROUP
        tl.debug_barrier()
    place = tile_index(CANDIDATES, LANES)
    if CANDIDATES <= CHUNK:
        position = _position(groups, tl.arange(0, CANDIDATES), total, GROUP)
        key = _score(
            target, keys, scales, rows, begin, length, bias, position, vocabulary, recencies, D, DP, SCALED, BIASED
        )
        key = tl.reshape(key, place.shape)
    else:
        for first in range(0, total, CHUNK):
            part = first + tl.arange(0, CHUNK)
            position = _position(groups, part, total, GROUP)
            key = _score(
                target, keys, scales, rows, begin, length, bias, position, vocabulary, recencies, D, DP, SCALED, BIASED
            )
            tl.store(candidates + part, key)
        tl.debug_barrier()
        key = tl.load(candidates + place, mask=place < total, other=ABSENT)
    if GROUP > 0:
        low, high, reach = _bracket_from(key, k, bound, MOST)
    else:
        low, high, reach = bracket(key)
    low, reach = narrow(key, k, low, high, reach, MOST)
    taken = key >= low
    if reach > MOST:
        above = key > low
        wanted = k - count_of(above)
        taken = above | first_of(key == low, _position(groups, place, total, GROUP), wanted, length)
        reach = tl.cast(k, tl.int32)
    position = _position(groups, place, tl.where(taken, total, 0), GROUP)
    tl.store(kept + slots_of(taken), sort_key(key, position), mask=taken)
    tl.debug_barrier()
    index = tl.arange(0, MOST)
    return tl.load(kept + index, mask=index < reach, other=sort_key(tl.full([MOST], ABSENT, tl.int32), index))


@triton.jit
def _choose_groups(
    groups, maxima, rows, begin, length, k, vocabulary,
    GROUP: tl.constexpr, GROUPS: tl.constexpr, MOST_GROUPS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Write the numbers of the best groups; return how many, and a key that k of the maxima reach.

    A maximum of NaN stands for a group of NaN or of absent behaviours. The two need telling apart only where there
    are too few numbers, so the rows are looked up then and not otherwise.
    """
    group = tile_index(GROUPS, LANES)
    inside = group * GROUP < length
    key = key_of_score(tl.load(maxima + group, mask=inside, other=0.0), inside)
    low, high, reach = bracket(key)
    if (low == NAN) & (reach > MOST_GROUPS):  # noqa: SIM102 - a kernel would evaluate both sides of an `and`
        if count_of(key > NAN) < k:
            some = tl.zeros_like(group)
            for i in range(GROUP):
                position = group * GROUP + i
                row = tl.load(rows + begin + position, mask=(key == NAN) & (position < length), other=-1)
                some = some | ((row >= 0) & (row < vocabulary)).to(tl.int32)
            key = tl.where((key == NAN) & (some == 0), ABSENT, key)
            low, high, reach = bracket(key)
    low, reach = narrow(key, k, low, high, reach, MOST_GROUPS)
    taken = key >= low
    if reach > MOST_GROUPS:
        above = key > low
        taken = above | first_of(key == low, group, k - count_of(above), GROUPS)
        reach = tl.cast(k, tl.int32)
    tl.store(groups + slots_of(taken), group, mask=taken)
    return reach, low


@triton.jit
def _bracket_from(key, least, bound, MOST: tl.constexpr):
    """What `narrow` begins with, where `bound` is thought to be near the threshold.

    As many candidates reach the bound that chose their groups as groups did, or more, but not many more: most often
    nothing is left to narrow. Where rounding proves it too high the keys are bracketed anew.
    """
    low = bound
    high = bound + 1
    reach = count_of(key >= bound)
    if (reach < least) | (reach > MOST):
        low_of_all, high, reach_of_all = bracket(key)
        low = tl.where(reach < least, low_of_all, bound)
        reach = tl.where(reach < least, reach_of_all, reach)
    return low, high, reach


@triton.jit
def _position(groups, place, total, GROUP: tl.constexpr):
    """Positions of the candidates `place` in the history; -1 from `total` on."""
    if GROUP > 0:
        group = tl.load(groups + place // GROUP, mask=place < total, other=0)
        position = group * GROUP + place % GROUP
    else:
        position = place
    return tl.where(place < total, position, -1)


@triton.jit
def _score(
    target, keys, scales, rows, begin, length, bias, position, vocabulary, recencies,
    D: tl.constexpr, DP: tl.constexpr, SCALED: tl.constexpr, BIASED: tl.constexpr,
):  # fmt: skip
    """Order keys of the behaviours at `position` [N], scored in fp32; ABSENT where that is outside the history."""
    inside = (position >= 0) & (position < length)
    row = tl.load(rows + begin + position, mask=inside, other=-1)
    there = (row >= 0) & (row < vocabulary)
    score = tl.sum(load_rows(keys, scales, row, there, D, DP, SCALED) * target[None, :], axis=1)
    if BIASED:
        score += tl.load(bias + tl.minimum(length - 1 - position, recencies - 1), mask=inside, other=0.0)
    return key_of_score(score, there)


def scratch_width(most_groups: int, candidates: int, chunk: int) -> int:
    """int32 of scratch that `keep_best` needs a target.

    Odd, so that no program's own begins at a multiple of 16 bytes for certain: the compiler then lays every tile out
    alike, one number a thread and load, where wider loads would have neighbours of a column in several threads.
    """
    return (most_groups + (candidates if candidates > chunk else 0)) | 1
