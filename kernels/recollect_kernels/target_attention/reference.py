"""The pooling written to be read: score the kept behaviours, softmax over them alone, sum their values."""

import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor
from torch.nn.functional import embedding

from recollect_kernels.autocast import in_own_precision
from recollect_kernels.behavior_search.reference import bias_by_column
from recollect_kernels.ragged import pad_left
from recollect_kernels.tables import Table, at_least_fp32, gather_rows


@in_own_precision
def attend_all(
    query: Float[Tensor, "b t d"],
    keys: Table,
    values: Table,
    rows: Int[Tensor, " e"],
    offsets: Int[Tensor, " b+1"],
    recency_bias: Float[Tensor, " p"] | None,
    recency_values: Float[Tensor, "q r"] | None,
) -> Float[Tensor, "b t e_r"]:
    """Pool every behaviour."""
    padded, real, _ = pad_left(rows, offsets)
    longest = padded.shape[1]
    scores = torch.einsum("btd,bld->btl", at_least_fp32(query), gather_rows(keys, padded))
    if recency_bias is not None:
        scores = scores + bias_by_column(recency_bias.to(scores.dtype), longest)
    weights = masked_softmax(scores, real.unsqueeze(1))
    # Whatever row stands for padding may be infinite, and 0 · inf is NaN.
    pooled = torch.einsum("btl,ble->bte", weights, gather_rows(values, padded).masked_fill(~real.unsqueeze(2), 0.0))
    if recency_values is not None:
        recency = torch.arange(longest - 1, -1, -1, device=rows.device).clamp(max=len(recency_values) - 1)
        pooled = torch.cat([pooled, weights @ embedding(recency, recency_values.to(weights.dtype))], dim=-1)
    return pooled


@in_own_precision
def attend_kept(
    query: Float[Tensor, "b t d"],
    keys: Table,
    values: Table,
    rows: Int[Tensor, " e"],
    offsets: Int[Tensor, " b+1"],
    positions: Int64[Tensor, "b t k"],
    recency_bias: Float[Tensor, " p"] | None,
    recency_values: Float[Tensor, "q r"] | None,
) -> tuple[Float[Tensor, "b t e_r"], Float[Tensor, "b t k"]]:
    """Pool the behaviours at `positions`, those outside the history left out."""
    found = found_rows(rows, offsets, positions)
    scores = torch.einsum("btd,btkd->btk", at_least_fp32(query), gather_rows(keys, found))
    if recency_bias is not None:
        at = found_recency(offsets, positions, len(recency_bias))
        scores = scores + embedding(at, recency_bias.to(scores.dtype).unsqueeze(1)).squeeze(-1)
    return pool_scored(scores, values, rows, offsets, positions, recency_values)


@in_own_precision
def pool_scored(
    scores: Float[Tensor, "b t k"],
    values: Table,
    rows: Int[Tensor, " e"],
    offsets: Int[Tensor, " b_and_one"],
    positions: Int64[Tensor, "b t k"],
    recency_values: Float[Tensor, "q r"] | None,
) -> tuple[Float[Tensor, "b t e_r"], Float[Tensor, "b t k"]]:
    """Pool the behaviours at `positions` by these scores, those outside the history left out."""
    kept = (positions >= 0) & (positions < offsets.diff().view(-1, 1, 1))
    weights = masked_softmax(scores, kept)
    found = gather_rows(values, found_rows(rows, offsets, positions)).masked_fill(~kept.unsqueeze(3), 0.0)
    pooled = torch.einsum("btk,btke->bte", weights, found)
    if recency_values is not None:
        at = found_recency(offsets, positions, len(recency_values))
        beside = embedding(at, recency_values.to(weights.dtype))
        pooled = torch.cat([pooled, torch.einsum("btk,btkr->btr", weights, beside)], dim=-1)
    return pooled, weights


def found_rows(
    rows: Int[Tensor, " e"], offsets: Int[Tensor, " b_and_one"], positions: Int64[Tensor, "b t k"]
) -> Int64[Tensor, "b t k"]:
    """Table rows of the behaviours at `positions`; any row of the table for those outside the history."""
    flat = (offsets[:-1].view(-1, 1, 1) + positions.clamp(min=0)).clamp(max=max(len(rows) - 1, 0))
    return rows[flat].long() if len(rows) else torch.zeros_like(positions)


def found_recency(
    offsets: Int[Tensor, " b_and_one"], positions: Int64[Tensor, "b t k"], known: int
) -> Int64[Tensor, "b t k"]:
    """Recency of the behaviours at `positions`, at most that of the last of the `known` entries."""
    recency = offsets.diff().view(-1, 1, 1) - 1 - positions.clamp(min=0)
    return recency.clamp(min=0, max=known - 1)


def masked_softmax(scores: Float[Tensor, "*dims n"], mask: Bool[Tensor, "*#dims n"]) -> Float[Tensor, "*dims n"]:
    """Softmax over the last dimension where `mask` holds, 0 elsewhere; a row without any is all 0, and so are its
    gradients."""
    lowest = torch.finfo(scores.dtype).min
    return torch.softmax(scores.masked_fill(~mask, lowest), dim=-1) * mask
