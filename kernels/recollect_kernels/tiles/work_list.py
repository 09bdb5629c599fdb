"""Cut ragged histories into pieces of work that a grid of known size can find on its own, without a prefix kernel."""
# ruff: noqa: N803 - compile-time constants are written in capitals, as everywhere in Triton

import triton
import triton.language as tl

_WIDTH = tl.constexpr(128)
"""Histories that one step of the search for a history looks at."""


def pieces(behaviours: int, histories: int, extent: int) -> int:
    """Pieces of `extent` behaviours that any `histories` with together `behaviours` have room in."""
    return behaviours // extent + histories


@triton.jit
def first_piece(offset, b, EXTENT: tl.constexpr):
    """Number of the first piece of history b, which begins at `offset`.

    It ascends strictly with b, and b's room, up to the first piece of b + 1, holds ceil(L_b / EXTENT) pieces or one
    more: floor((o + L) / x) - floor(o / x) + 1 >= L / x. Nothing but `offset` is needed to say so, where an exact
    count would take a sum over all histories before.
    """
    return tl.cast(offset, tl.int64) // EXTENT + b


@triton.jit
def history_of(offsets, piece, histories, EXTENT: tl.constexpr):
    """The history that `piece` belongs to: the last b whose first piece is not above it.

    Each step narrows the histories down 128-fold by one load a thread, so that 16,384 take two; halving would take
    fourteen loads, one waiting for the other.
    """
    lane = tl.arange(0, _WIDTH)
    first = tl.cast(0, tl.int32)
    span = tl.cast(histories, tl.int32)
    while span > 1:
        step = (span + _WIDTH - 1) // _WIDTH
        inside = lane * step < span
        b = first + lane * step
        begin = first_piece(tl.load(offsets + b, mask=inside, other=0), b, EXTENT)
        skipped = tl.sum((inside & (begin <= piece)).to(tl.int32)) - 1
        first += skipped * step
        span = tl.minimum(step, span - skipped * step)
    return first


@triton.jit
def history_bounds(offsets, b, behaviours):
    """Where history b begins in the rows, as int64, and its length, as int32; never outside the `behaviours` given."""
    end = tl.minimum(tl.load(offsets + b + 1).to(tl.int64), behaviours)
    begin = tl.minimum(tl.maximum(tl.load(offsets + b).to(tl.int64), 0), behaviours)
    return begin, tl.maximum(end - begin, 0).to(tl.int32)
