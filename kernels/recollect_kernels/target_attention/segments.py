"""Sum what the occurrences of one row bring without atomics, in an order that never changes.

Occurrences are sorted by row, ties by number, and each row's run of them is cut into chunks, so that no program walks
far however popular a row is. A chunk's sum is final where it is its row's only one; otherwise a second pass adds the
chunks' partial sums in turn. Nothing here reads a value on the host.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int, Int32, Int64
from torch import Tensor

from recollect_kernels import launch
from recollect_kernels.target_attention.segment_kernels import join_chunks_kernel, weighted_sum_kernel

WALK = 256
"""Vectors that one program adds up, a power of two; more only where _SHORTEST occurrences bring more."""
_SHORTEST = 16
"""Occurrences that a chunk has room for at least, however many vectors each brings: partial sums stay few."""
_WIDE = 128
"""Width from which a program takes four warps instead of one."""


class Segments(NamedTuple):
    """Occurrences in the order of their ids, cut into chunks."""

    ids: Int32[Tensor, " n"]
    """Ascending."""
    order: Int64[Tensor, " n"]
    """Number of the occurrence at each place."""
    starts: Int64[Tensor, " c_and_one"]
    """Place where each chunk begins, and n behind the last; c is an upper bound known without the device."""
    chunk: int
    """Longest chunk, a power of two."""
    n_ids: int
    """Ids run from 0 to here; this number itself is nobody's."""


def cut(ids: Int32[Tensor, " n"], n_ids: int, vectors_each: int = 1) -> Segments:
    """Sort occurrences of `ids` in 0 … n_ids, where n_ids marks those that count for nobody, and cut them.

    `vectors_each`: how many vectors one occurrence brings; chunks are shorter the more they are.
    """
    chunk = min(WALK, max(_SHORTEST, WALK // launch.padded(vectors_each)))
    count = len(ids)
    ascending, order = torch.sort(ids, stable=True)
    place = torch.arange(count, device=ids.device)
    begin = torch.searchsorted(ascending, ascending)  # where each place's id begins
    number = ((place - begin) % chunk == 0).cumsum(0)  # of the chunk that each place is in, from 1
    most = min(count, count // chunk + n_ids + 1)  # each id, and nobody, has one chunk that may not be full
    starts = torch.searchsorted(number, torch.arange(1, most + 2, device=ids.device))
    return Segments(ascending, order, starts, chunk, n_ids)


def room_for_sums(
    segments: Segments, width: int, dtype: torch.dtype
) -> tuple[Float[Tensor, "n_ids w"], Float[Tensor, "p w"]]:
    """Zeros for the sum of each id, and memory for the sums of chunks that are not their id's only one: a row for each
    full chunk, and one for each last chunk."""
    count = 2 * -(-len(segments.ids) // segments.chunk)
    partial = launch.empty(count, width, like=segments.ids, dtype=torch.float32)
    return torch.zeros(segments.n_ids, width, dtype=dtype, device=segments.ids.device), partial


def join_chunks(segments: Segments, sums: Float[Tensor, "n_ids w"], partial: Float[Tensor, "p w"]) -> None:
    """Write into `sums` the rows of ids that have several chunks."""
    count, width = len(segments.ids), sums.shape[1]
    join_chunks_kernel[(-(-count // segments.chunk),)](
        segments.ids, sums, partial, count, segments.n_ids,
        D=width, DP=launch.padded(width), CHUNK=segments.chunk, BLOCK=16, num_warps=1 if width < _WIDE else 4,
    )  # fmt: skip


def weighted_sums(
    segments: Segments,
    coefficients: Float[Tensor, "..."],
    vectors: Float[Tensor, "m w"],
    columns: slice,
    dtype: torch.dtype,
) -> Float[Tensor, "n_ids d"]:
    """Sum of `coefficients[i] * vectors[i // sharing, columns]` over each id's occurrences i, 0 for ids without any.

    `coefficients` has an entry for each occurrence; so many of them as fit share a vector.
    """
    count, width = len(segments.ids), columns.stop - columns.start
    sums, partial = room_for_sums(segments, width, dtype)
    weighted_sum_kernel[(len(segments.starts) - 1,)](
        coefficients, vectors, segments.starts, segments.ids, segments.order, sums, partial, count, segments.n_ids,
        SHARING=count // len(vectors), FIRST=columns.start, D=width, DP=launch.padded(width), WIDTH=vectors.shape[1],
        CHUNK=segments.chunk, BLOCK=16, num_warps=1 if width < _WIDE else 4,
    )  # fmt: skip
    join_chunks(segments, sums, partial)
    return sums


def fold_recency(by_recency: Float[Tensor, "l w"], count: int) -> Float[Tensor, "p w"]:
    """Sums of `count` entries from those of each recency: the last entry serves everything older."""
    own = min(len(by_recency), count - 1)
    sums = by_recency.new_zeros(count, by_recency.shape[1])
    sums[:own] = by_recency[:own]
    sums[-1] += by_recency[own:].sum(0)
    return sums


def histories_of(rows: Int[Tensor, " e"], offsets: Int[Tensor, " b_and_one"]) -> Int32[Tensor, " e"]:
    """The history that each behaviour belongs to; -1 and B before the first and behind the last."""
    place = torch.arange(len(rows), device=rows.device, dtype=offsets.dtype)
    return torch.searchsorted(offsets, place, right=True, out_int32=True) - 1
