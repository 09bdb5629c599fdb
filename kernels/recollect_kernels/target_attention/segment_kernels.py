"""Kernels that add up what many occurrences of one row bring, always in the same order.

They read sorted occurrences as `segments.cut` lays them out: chunks of at most CHUNK occurrences of one id.
"""
# ruff: noqa: N803 - compile-time constants are written in capitals, as everywhere in Triton

import triton
import triton.language as tl

from recollect_kernels.tiles.rows import load_columns


@triton.jit
def chunk_bounds(starts, ids, chunk, count, n_ids):
    """Begin, end and id of a chunk; begin equals end where there is no such chunk or the id is nobody's."""
    begin = tl.load(starts + chunk)
    end = tl.load(starts + chunk + 1)
    owner = tl.load(ids + begin, mask=begin < count, other=n_ids)
    return begin, tl.where(owner < n_ids, end, begin), owner


@triton.jit
def chunk_place(ids, begin, end, owner, count, CHUNK: tl.constexpr):
    """Whether a chunk holds all occurrences of its id, and otherwise its row among the partial sums.

    Of an id with several chunks all but the last are full. Full chunks begin CHUNK apart at least, and so do the last
    ones of different such ids, hence `begin // CHUNK` never names two full or two last chunks.
    """
    before = tl.load(ids + begin - 1, mask=begin > 0, other=-1)
    behind = tl.load(ids + end, mask=end < count, other=-1)
    slot = begin // CHUNK
    if end - begin < CHUNK:
        slot += (count + CHUNK - 1) // CHUNK
    return (before != owner) & (behind != owner), slot


@triton.jit
def store_sum(total, sums, partial, alone, owner, slot, D: tl.constexpr, DP: tl.constexpr):
    """Write a chunk's sum [DP]: into row `owner` of `sums` [., D] if it is `alone`, else into row `slot` of
    `partial`."""
    column = tl.arange(0, DP)
    tl.store(sums + owner.to(tl.int64) * D + column, total.to(sums.dtype.element_ty), mask=(column < D) & alone)
    tl.store(partial + slot.to(tl.int64) * D + column, total, mask=(column < D) & (alone == 0))


@triton.jit(do_not_specialize=["count", "n_ids"])
def weighted_sum_kernel(
    coefficients, vectors, starts, ids, order, sums, partial, count, n_ids,
    SHARING: tl.constexpr, FIRST: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, WIDTH: tl.constexpr,
    CHUNK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Sum over one chunk of `coefficients[i] * vectors[i // SHARING, FIRST : FIRST + D]`."""
    begin, end, owner = chunk_bounds(starts, ids, tl.program_id(0), count, n_ids)
    if begin < end:
        total = tl.zeros([DP], dtype=tl.float32)
        for first in range(begin, end, BLOCK):
            place = first + tl.arange(0, BLOCK)
            there = place < end
            occurrence = tl.load(order + place, mask=there, other=0)
            coefficient = tl.load(coefficients + occurrence, mask=there, other=0.0)
            vector = load_columns(vectors, occurrence // SHARING, there, FIRST, D, DP, WIDTH)
            total += tl.sum(coefficient[:, None] * vector, axis=0)
        alone, slot = chunk_place(ids, begin, end, owner, count, CHUNK)
        store_sum(total, sums, partial, alone, owner, slot, D, DP)


@triton.jit(do_not_specialize=["count", "n_ids"])
def join_chunks_kernel(
    ids, sums, partial, count, n_ids,
    D: tl.constexpr, DP: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Add the partial sums of the one id, if any, that has several chunks and begins in this stretch of CHUNK."""
    stretch = tl.program_id(0)
    place = stretch.to(tl.int64) * CHUNK + tl.arange(0, CHUNK)
    here = tl.load(ids + place, mask=place < count, other=-1)
    before = tl.load(ids + place - 1, mask=(place > 0) & (place < count), other=-1)
    behind = tl.load(ids + place + CHUNK, mask=place + CHUNK < count, other=-1)
    heads = (here == behind) & (here != before) & (here >= 0) & (here < n_ids)
    begin = tl.min(tl.where(heads, place, count), axis=0)
    if begin < count:
        owner = tl.load(ids + begin)
        total = tl.zeros([DP], dtype=tl.float32)
        column = tl.arange(0, DP)
        tails = (count + CHUNK - 1) // CHUNK
        chunk_begin = begin
        more = True
        while more:
            first = chunk_begin + tl.arange(0, BLOCK).to(tl.int64) * CHUNK
            last = first + CHUNK - 1
            there = tl.load(ids + first, mask=first < count, other=-1) == owner
            full = tl.load(ids + last, mask=last < count, other=-1) == owner
            slot = first // CHUNK + tl.where(full, 0, tails)
            mask = there[:, None] & (column < D)[None, :]
            tile = tl.load(partial + slot[:, None] * D + column[None, :], mask=mask, other=0.0)
            total += tl.sum(tile, axis=0)
            chunk_begin += BLOCK * CHUNK
            more = tl.max(there.to(tl.int32), axis=0) > 0
        tl.store(sums + owner.to(tl.int64) * D + column, total.to(sums.dtype.element_ty), mask=column < D)
