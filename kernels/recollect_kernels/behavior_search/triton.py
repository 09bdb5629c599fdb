"""The search on a GPU: a pass over the history that leaves maxima of groups, then one program a target that selects.

Both are exact, see this folder's README for why. A program of the long pass owns a stretch of one history and some of
its targets, so that a few very long histories still occupy the whole device: the maxima are what other searches have
to merge after they split a history. They take 4 bytes for each target and group, 1/8 byte a score at 32 behaviours a
group. A history that one program can score whole goes straight to the selection.
"""
# ruff: noqa: N803, N806 - compile-time constants are written in capitals, as everywhere in Triton

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int, Int64
from torch import Tensor

from recollect_kernels import launch
from recollect_kernels.tables import ScaledTable, Table
from recollect_kernels.tiles.keep import keep_best, scratch_width
from recollect_kernels.tiles.ordering import ABSENT, score_of_key, split_sort_key
from recollect_kernels.tiles.rows import load_row, load_rows
from recollect_kernels.tiles.scoring import load_operand, load_queries, split_query, tile_scores
from recollect_kernels.tiles.selection import rank_of
from recollect_kernels.tiles.work_list import first_piece, history_bounds, history_of, pieces
from recollect_kernels.tuning import Bucket, SearchConfiguration, bucket_of, configuration

_SIZES = ["histories", "targets", "vocabulary", "behaviours", "recencies", "columns", "k"]
"""Arguments whose value no kernel is compiled for: a new length of a history must not cost a compilation."""


@triton.jit(do_not_specialize=_SIZES[:-1])
def maxima_kernel(
    query, keys, scales, rows, offsets, bias, maxima,
    histories, targets, vocabulary, behaviours, recencies, columns,
    D: tl.constexpr, DP: tl.constexpr, GROUP: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_L: tl.constexpr,
    TILES: tl.constexpr, HALF: tl.constexpr, EXACT: tl.constexpr, SCALED: tl.constexpr, BIASED: tl.constexpr,
):  # fmt: skip
    """Maxima of each GROUP behaviours for BLOCK_T targets, on tensor cores.

    Columns of the product are no positions: the columns that one thread holds are laid over one group, so that a
    group's maximum needs no exchange between threads. Where the whole tile is older than the recencies that the bias
    tells apart, one maximum is all that a score costs: scale and bias are monotone and wait for the groups.
    """
    GROUPS: tl.constexpr = BLOCK_L // GROUP
    TOGETHER: tl.constexpr = GROUPS if GROUPS < 4 else 4  # four neighbouring threads hold one row of the product
    SPAN: tl.constexpr = TOGETHER * GROUP
    piece = tl.program_id(0)
    b = history_of(offsets, piece, histories, BLOCK_L * TILES)
    begin, length = history_bounds(offsets, b, behaviours)
    start = ((piece - first_piece(begin, b, BLOCK_L * TILES)) * (BLOCK_L * TILES)).to(tl.int32)
    if start < length:
        target = tl.program_id(1) * BLOCK_T + tl.arange(0, BLOCK_T)
        wanted = target < targets
        whole = load_queries(query, b.to(tl.int64) * targets + target, wanted, D, DP)
        hi, lo, unscale = split_query(whole, HALF)
        column = tl.arange(0, BLOCK_L)
        inner = column % SPAN
        place = (column // SPAN) * SPAN + (inner // 2 % TOGETHER) * GROUP + inner // (2 * TOGETHER) * 2 + column % 2
        of_target = maxima + target.to(tl.int64) * columns + first_piece(begin, b, GROUP)
        oldest = 0.0
        if BIASED:
            oldest = tl.load(bias + recencies - 1)
        for at in range(start, tl.minimum(start + BLOCK_L * TILES, length), BLOCK_L):
            position = at + place
            inside = position < length
            row = tl.load(rows + begin + position, mask=inside, other=-1)
            there = (row >= 0) & (row < vocabulary)
            operand = load_operand(keys, row, there, D, DP, HALF)
            scores = tile_scores(hi, lo, whole, operand, HALF, EXACT)
            if SCALED:
                scores = scores * tl.load(scales + row, mask=there, other=float("nan"))[None, :]
            near = length - at < recencies + BLOCK_L
            if BIASED and near:
                recency = tl.minimum(length - 1 - position, recencies - 1)
                addend = tl.load(bias + recency, mask=inside, other=0.0)
                best = _best_of_groups(scores * unscale[:, None] + addend[None, :], GROUP, TOGETHER)
            else:
                best = _best_of_groups(scores, GROUP, TOGETHER) * unscale[:, None] + oldest
            group = at // GROUP + tl.arange(0, GROUPS)
            filled = wanted[:, None] & (group * GROUP < length)[None, :]
            tl.store(of_target[:, None] + group[None, :], best, mask=filled)


@triton.jit
def _best_of_groups(scores, GROUP: tl.constexpr, TOGETHER: tl.constexpr):
    """Maxima [T, N / GROUP] of scores [T, N] whose columns `maxima_kernel` placed; NaN for a group of NaN alone."""
    ROWS: tl.constexpr = scores.shape[0]
    GROUPS: tl.constexpr = scores.shape[1] // GROUP
    parts = tl.reshape(scores, [ROWS, GROUPS // TOGETHER, GROUP // 2, TOGETHER, 2])
    return tl.reshape(tl.max(tl.max(parts, 4), 2), [ROWS, GROUPS])


@triton.jit(do_not_specialize=_SIZES[:-1])
def few_maxima_kernel(
    query, keys, scales, rows, offsets, bias, maxima,
    histories, targets, vocabulary, behaviours, recencies, columns,
    D: tl.constexpr, DP: tl.constexpr, GROUP: tl.constexpr, BLOCK_L: tl.constexpr, ABREAST: tl.constexpr,
    SCALED: tl.constexpr, BIASED: tl.constexpr,
):  # fmt: skip
    """Maxima of each GROUP behaviours for a few targets, in fp32: a tensor core would mostly multiply padding.

    The key rows are read once for all targets. The ABREAST rows that the program's threads load at a time lie
    BLOCK_L / ABREAST positions apart, so that a thread's own rows are neighbours, of one group.
    """
    RUN: tl.constexpr = BLOCK_L // ABREAST
    piece = tl.program_id(0)
    b = history_of(offsets, piece, histories, BLOCK_L)
    begin, length = history_bounds(offsets, b, behaviours)
    start = ((piece - first_piece(begin, b, BLOCK_L)) * BLOCK_L).to(tl.int32)
    if start < length:
        place = tl.arange(0, BLOCK_L)
        position = start + (place % ABREAST) * RUN + place // ABREAST
        inside = position < length
        row = tl.load(rows + begin + position, mask=inside, other=-1)
        there = (row >= 0) & (row < vocabulary)
        tile = load_rows(keys, scales, row, there, D, DP, SCALED)
        addend = tl.where(there, 0.0, float("nan"))
        if BIASED:
            recency = tl.minimum(length - 1 - position, recencies - 1)
            addend += tl.load(bias + recency, mask=inside, other=0.0)
        group = start // GROUP + tl.arange(0, BLOCK_L // GROUP)
        of_history = maxima + first_piece(begin, b, GROUP) + group
        for t in range(targets):
            vector = load_row(query, query, b.to(tl.int64) * targets + t, D, DP, False)
            scores = tl.sum(tile * vector[None, :], axis=1) + addend
            parts = tl.reshape(scores, [RUN, BLOCK_L // GROUP, GROUP // RUN])
            best = tl.max(tl.max(parts, 0), 1)
            tl.store(of_history + tl.cast(t, tl.int64) * columns, best, mask=group * GROUP < length)


@triton.jit(do_not_specialize=_SIZES[1:])
def select_kernel(
    query, keys, scales, rows, offsets, bias, maxima, scratch, kept, scores, positions,
    targets, vocabulary, behaviours, recencies, columns, k,
    D: tl.constexpr, DP: tl.constexpr, GROUP: tl.constexpr, GROUPS: tl.constexpr, MOST_GROUPS: tl.constexpr,
    CANDIDATES: tl.constexpr, CHUNK: tl.constexpr, MOST: tl.constexpr, LANES: tl.constexpr, WIDTH: tl.constexpr,
    SCALED: tl.constexpr, BIASED: tl.constexpr,
):  # fmt: skip
    """The k best of one history for one target, best first."""
    find_best(
        query, keys, scales, rows, offsets, bias, maxima, scratch, kept, scores, positions,
        targets, vocabulary, behaviours, recencies, columns, k,
        D, DP, GROUP, GROUPS, MOST_GROUPS, CANDIDATES, CHUNK, MOST, LANES, WIDTH, SCALED, BIASED,
    )  # fmt: skip


@triton.jit
def find_best(
    query, keys, scales, rows, offsets, bias, maxima, scratch, kept, scores, positions,
    targets, vocabulary, behaviours, recencies, columns, k,
    D: tl.constexpr, DP: tl.constexpr, GROUP: tl.constexpr, GROUPS: tl.constexpr, MOST_GROUPS: tl.constexpr,
    CANDIDATES: tl.constexpr, CHUNK: tl.constexpr, MOST: tl.constexpr, LANES: tl.constexpr, WIDTH: tl.constexpr,
    SCALED: tl.constexpr, BIASED: tl.constexpr,
):  # fmt: skip
    """Write scores and positions of the k best for this program's target, each where its rank says.

    Returns (begin, length, key, rank): the history's bounds, and the key of the score and the rank of MOST behaviours,
    of which those of rank k and more are superfluous and those of key ABSENT missing.
    """
    program = tl.program_id(0).to(tl.int64)
    b = (program // targets).to(tl.int32)
    begin, length = history_bounds(offsets, b, behaviours)
    target = load_row(query, query, program, D, DP, False)
    of_target = maxima
    if GROUP > 0:
        of_target = maxima + (program % targets) * columns + first_piece(begin, b, GROUP)
    order = keep_best(
        target, keys, scales, rows, begin, length, bias, of_target, scratch + program * WIDTH, kept + program * MOST,
        k, vocabulary, recencies,
        D, DP, GROUP, GROUPS, MOST_GROUPS, CANDIDATES, CHUNK, MOST, LANES, SCALED, BIASED,
    )  # fmt: skip
    rank = rank_of(order)
    key, position = split_sort_key(order)
    tl.store(scores + program * k + rank, score_of_key(key), mask=rank < k)
    tl.store(positions + program * k + rank, tl.where(key == ABSENT, -1, position).to(tl.int64), mask=rank < k)
    return begin, length, key, rank


class Call(NamedTuple):
    """What the kernels of one call are given: their arguments, and those that they are compiled for."""

    tensors: tuple[Tensor, ...]
    """query, keys, scales, rows, offsets, bias."""
    histories: int
    targets: int
    vocabulary: int
    behaviours: int
    recencies: int
    table: dict[str, int]
    """D, DP, SCALED and BIASED."""
    bucket: Bucket


def prepare(
    query: Tensor, keys: Table, rows: Tensor, offsets: Tensor, k: int, recency_bias: Tensor | None, longest: int
) -> Call:
    """Lay the arguments of the search out for its kernels; a contiguous fp32 query and bias are taken as they are."""
    table = keys.rows if isinstance(keys, ScaledTable) else keys
    query = query.float().contiguous()
    scales = keys.scales.float().contiguous() if isinstance(keys, ScaledTable) else query
    bias = query if recency_bias is None else recency_bias.float().contiguous()
    d = query.shape[2]
    return Call(
        tensors=(query, table.contiguous(), scales, rows.contiguous(), offsets.contiguous(), bias),
        histories=query.shape[0],
        targets=query.shape[1],
        vocabulary=table.shape[0],
        behaviours=len(rows),
        recencies=0 if recency_bias is None else len(recency_bias),
        table={
            "D": d,
            "DP": max(16, triton.next_power_of_2(d)),
            "SCALED": isinstance(keys, ScaledTable),
            "BIASED": recency_bias is not None,
        },
        bucket=bucket_of(query, keys, k, longest),
    )


def group_maxima(call: Call, chosen: SearchConfiguration) -> Tensor:
    """Maxima [T, columns] fp32 of the groups of all histories; those of history b begin at `first_piece`."""
    query, keys = call.tensors[:2]
    columns = pieces(call.behaviours, call.histories, chosen.group)
    maxima = launch.empty(call.targets, columns, like=query, dtype=torch.float32)
    sizes = (call.histories, call.targets, call.vocabulary, call.behaviours, call.recencies, columns)
    if chosen.block_t:
        grid = (
            pieces(call.behaviours, call.histories, chosen.block_l * chosen.tiles),
            triton.cdiv(call.targets, chosen.block_t),
        )
        maxima_kernel[grid](
            *call.tensors, maxima, *sizes, **call.table,
            GROUP=chosen.group, BLOCK_T=chosen.block_t, BLOCK_L=chosen.block_l, TILES=chosen.tiles,
            **precision(keys.dtype), num_warps=chosen.warps,
        )  # fmt: skip
    else:
        few_maxima_kernel[(pieces(call.behaviours, call.histories, chosen.block_l),)](
            *call.tensors, maxima, *sizes, **call.table,
            GROUP=chosen.group, BLOCK_L=chosen.block_l,
            ABREAST=abreast(call.table["DP"], keys.element_size(), chosen), num_warps=chosen.warps,
        )  # fmt: skip
    return maxima


def precision(dtype: torch.dtype) -> dict[str, bool]:
    """Arithmetic of `tile_scores` in which rows of `dtype` are exact."""
    return {"HALF": dtype not in (torch.float32, torch.bfloat16), "EXACT": dtype != torch.float32}


def abreast(padded: int, item_bytes: int, chosen: SearchConfiguration) -> int:
    """Key rows that a program of `few_maxima_kernel` loads at a time, at 16 bytes a thread."""
    threads_a_row = max(1, padded * item_bytes // 16)
    at_once = max(1, 32 * chosen.warps // threads_a_row)
    return min(chosen.block_l, max(at_once, chosen.block_l // chosen.group))


def selection(call: Call, chosen: SearchConfiguration) -> dict[str, int]:
    """Compile-time sizes of `find_best`."""
    longest = call.bucket.longest
    groups = max(1, longest // chosen.group) if chosen.group else 1
    most_groups = chosen.most_groups if chosen.group else 1
    candidates = most_groups * chosen.group if chosen.group else max(16, longest)
    return {
        "GROUP": chosen.group,
        "GROUPS": groups,
        "MOST_GROUPS": most_groups,
        "CANDIDATES": candidates,
        "CHUNK": chosen.chunk,
        "MOST": chosen.most,
        "LANES": 32 * chosen.select_warps,
        "WIDTH": scratch_width(most_groups, candidates, chosen.chunk),
    }


def register_limit(sizes: dict[str, int]) -> int:
    """Registers that a thread of the selection may take.

    128 let four programs of four warps share a multiprocessor. Without a limit the assembler spills some to come down
    to 64, and where a thread holds much it cannot do with 128.
    """
    lanes = sizes["LANES"]
    keys = max(sizes["GROUPS"], sizes["CANDIDATES"]) // lanes
    pairs = sizes["MOST"] ** 2 // lanes
    return 128 if lanes == 512 or (keys <= 16 and pairs <= 32) else 255


def search(
    query: Float[Tensor, "b t d"],
    keys: Table,
    rows: Int[Tensor, " e"],
    offsets: Int[Tensor, " b+1"],
    k: int,
    recency_bias: Float[Tensor, " p"] | None,
    longest: int,
    chosen: SearchConfiguration | None = None,
) -> tuple[Float[Tensor, "b t k"], Int64[Tensor, "b t k"]]:
    """Scores and positions of the k best behaviours, in the reference's order.

    `longest` bounds the lengths of the histories, and behaviours whose row is
    outside the table are absent. Nothing is read on the host, so that a CUDA graph can hold the call. `chosen` is for
    tuning. Raises ValueError for histories longer than the kernels choose among.
    """
    call = prepare(query, keys, rows, offsets, k, recency_bias, longest)
    chosen = chosen or configuration("behavior_search", call.bucket, query.device)
    chosen.check(k, longest)
    scores = launch.empty(call.histories, call.targets, k, like=query, dtype=torch.float32)
    positions = launch.empty(call.histories, call.targets, k, like=query, dtype=torch.int64)
    if scores.numel() == 0:
        return scores, positions
    programs = call.histories * call.targets
    sizes = selection(call, chosen)
    with launch.on_device_of(query):
        maxima = group_maxima(call, chosen) if chosen.group else scores
        scratch = launch.empty(programs, sizes["WIDTH"], like=query, dtype=torch.int32)
        kept = launch.empty(programs, chosen.most, like=query, dtype=torch.int64)
        select_kernel[(programs,)](
            *call.tensors, maxima, scratch, kept, scores, positions, call.targets, call.vocabulary, call.behaviours,
            call.recencies, maxima.shape[-1], k,
            **call.table, **sizes, num_warps=chosen.select_warps, maxnreg=register_limit(sizes),
        )  # fmt: skip
    return scores, positions
