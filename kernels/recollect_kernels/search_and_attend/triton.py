"""Search and pooling in one program a target, for serving: the scores that choose the behaviours also weigh them."""
# ruff: noqa: N803 - compile-time constants are written in capitals, as everywhere in Triton

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int, Int64
from torch import Tensor

from recollect_kernels import launch
from recollect_kernels.behavior_search.triton import find_best, group_maxima, prepare, register_limit, selection
from recollect_kernels.tables import ScaledTable, Table
from recollect_kernels.target_attention.kept_kernels import LOWEST
from recollect_kernels.tiles.ordering import ABSENT, score_of_key
from recollect_kernels.tiles.rows import load_rows
from recollect_kernels.tuning import SearchConfiguration, configuration

_TILE = 2_048
"""Numbers of value rows that four warps hold at a time."""


@triton.jit(do_not_specialize=["targets", "vocabulary", "behaviours", "recencies", "columns", "k", "recency_rows"])
def select_and_pool_kernel(
    query, keys, scales, rows, offsets, bias, maxima, scratch, kept, scores, positions,
    values, value_scales, recency_values, weights, output,
    targets, vocabulary, behaviours, recencies, columns, k, recency_rows,
    D: tl.constexpr, DP: tl.constexpr, GROUP: tl.constexpr, GROUPS: tl.constexpr, MOST_GROUPS: tl.constexpr,
    CANDIDATES: tl.constexpr, CHUNK: tl.constexpr, MOST: tl.constexpr, LANES: tl.constexpr, WIDTH: tl.constexpr,
    SCALED: tl.constexpr, BIASED: tl.constexpr, E: tl.constexpr, EP: tl.constexpr, R: tl.constexpr, RP: tl.constexpr,
    VALUES: tl.constexpr, VALUES_SCALED: tl.constexpr,
):  # fmt: skip
    """The k best of one history for one target, their softmax, and the sum of their value rows by it."""
    begin, length, key, rank = find_best(
        query, keys, scales, rows, offsets, bias, maxima, scratch, kept, scores, positions,
        targets, vocabulary, behaviours, recencies, columns, k,
        D, DP, GROUP, GROUPS, MOST_GROUPS, CANDIDATES, CHUNK, MOST, LANES, WIDTH, SCALED, BIASED,
    )  # fmt: skip
    program = tl.program_id(0).to(tl.int64)
    weight = _softmax(key, rank, k)
    tl.store(weights + program * k + rank, weight, mask=rank < k)
    tl.debug_barrier()
    kept = tl.sum(((key != ABSENT) & (rank < k)).to(tl.int32))
    pooled = tl.zeros([EP], tl.float32)
    recent = tl.zeros([RP], tl.float32)
    for first in range(0, kept, VALUES):
        place = first + tl.arange(0, VALUES)
        there = place < kept
        part = tl.load(weights + program * k + place, mask=there, other=0.0)
        position = tl.load(positions + program * k + place, mask=there, other=0)
        row = tl.load(rows + begin + position, mask=there, other=0)
        pooled += tl.sum(load_rows(values, value_scales, row, there, E, EP, VALUES_SCALED) * part[:, None], axis=0)
        if R > 0:
            recency = tl.minimum(length - 1 - position, recency_rows - 1)
            table = load_rows(recency_values, recency_values, recency, there, R, RP, False)
            recent += tl.sum(table * part[:, None], axis=0)
    column = tl.arange(0, EP)
    tl.store(output + program * (E + R) + column, pooled, mask=column < E)
    if R > 0:
        column = tl.arange(0, RP)
        tl.store(output + program * (E + R) + E + column, recent, mask=column < R)


@triton.jit
def _softmax(key, rank, k):
    """Weights of the behaviours of rank below k among themselves; 0 for a missing one.

    A missing one takes part as the lowest finite number, as in the reference: where all others are -inf, those have
    then weight 0 and not NaN.
    """
    there = key != ABSENT
    score = tl.where(there, score_of_key(key), LOWEST)
    score = tl.where(rank < k, score, float("-inf"))
    power = tl.where(rank < k, tl.exp(score - tl.max(score)), 0.0)
    return tl.where(rank < k, power / tl.sum(power) * there.to(tl.float32), 0.0)


def search_and_attend(
    query: Float[Tensor, "b t d"],
    keys: Table,
    values: Table,
    rows: Int[Tensor, " e"],
    offsets: Int[Tensor, " b+1"],
    k: int,
    recency_bias: Float[Tensor, " p"] | None,
    recency_values: Float[Tensor, "q r"] | None,
    longest: int,
    chosen: SearchConfiguration | None = None,
) -> tuple[Float[Tensor, "b t e_r"], Float[Tensor, "b t k"], Int64[Tensor, "b t k"], Float[Tensor, "b t k"]]:
    """Output, scores, positions and weights: `behavior_search` and `target_attention` at its positions, without a
    second look at the keys.

    Nothing is read on the host and nothing is differentiable. Otherwise as `behavior_search.triton.search`.
    """
    call = prepare(query, keys, rows, offsets, k, recency_bias, longest)
    chosen = chosen or configuration("search_and_attend", call.bucket, query.device)
    chosen.check(k, longest)
    table = values.rows if isinstance(values, ScaledTable) else values
    e = table.shape[1]
    r = 0 if recency_values is None else recency_values.shape[1]
    shape = (call.histories, call.targets)
    scores, weights = (launch.empty(*shape, k, like=query, dtype=torch.float32) for _ in range(2))
    positions = launch.empty(*shape, k, like=query, dtype=torch.int64)
    output = launch.empty(*shape, e + r, like=query, dtype=torch.float32)
    if scores.numel() == 0:
        return output, scores, positions, weights
    sizes = selection(call, chosen)
    programs = call.histories * call.targets
    padded = launch.padded(e, 16)
    with launch.on_device_of(query):
        maxima = group_maxima(call, chosen) if chosen.group else scores
        scratch = launch.empty(programs, sizes["WIDTH"], like=query, dtype=torch.int32)
        kept = launch.empty(programs, chosen.most, like=query, dtype=torch.int64)
        select_and_pool_kernel[(programs,)](
            *call.tensors, maxima, scratch, kept, scores, positions,
            table.contiguous(), values.scales.float().contiguous() if isinstance(values, ScaledTable) else scores,
            scores if recency_values is None else recency_values.contiguous(), weights, output,
            call.targets, call.vocabulary, call.behaviours, call.recencies, maxima.shape[-1], k,
            0 if recency_values is None else len(recency_values),
            **call.table, **sizes, E=e, EP=padded, R=r, RP=launch.padded(r, 16),
            VALUES=max(1, min(chosen.most, _TILE * chosen.select_warps // 4 // padded)),
            VALUES_SCALED=isinstance(values, ScaledTable),
            num_warps=chosen.select_warps, maxnreg=register_limit(sizes),
        )  # fmt: skip
    return output, scores, positions, weights
