"""The pooling written to be read: score the kept behaviours, softmax over them alone, sum their values."""

import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor
from torch.nn.functional import embedding

from recollect_kernels.behavior_search.reference import bias_by_column
from recollect_kernels.ragged import pad_left
from recollect_kernels.tables import Table, at_least_fp32, gather_rows


def attend_all(
    query: Float[Tensor, "b t d"],
    keys: Table,
    values: Table,
    rows: Int[Tensor, " e"],
    offsets: Int[Tensor, " b+1"],
    recency_bias: Float[Tensor, " p"] | None,
    recency_values: Float[Tensor, "p r"] | None,
) -> tuple[Float[Tensor, "b t e_r"], Float[Tensor, "b t l"]]:
    """Pool every behaviour; the weights' columns end with each history's newest behaviour."""
    padded, real, _ = pad_left(rows, offsets)
    longest = padded.shape[1]
    scores = torch.einsum("btd,bld->btl", at_least_fp32(query), gather_rows(keys, padded))
    if recency_bias is not None:
        scores = scores + bias_by_column(at_least_fp32(recency_bias), longest)
    weights = masked_softmax(scores, real.unsqueeze(1))
    pooled = torch.einsum("btl,ble->bte", weights, gather_rows(values, padded))
    if recency_values is not None:
        recency = torch.arange(longest - 1, -1, -1, device=rows.device).clamp(max=len(recency_values) - 1)
        pooled = torch.cat([pooled, weights @ embedding(recency, recency_values)], dim=-1)
    return pooled, weights


def attend_kept(
    query: Float[Tensor, "b t d"],
    keys: Table,
    values: Table,
    rows: Int[Tensor, " e"],
    offsets: Int[Tensor, " b+1"],
    positions: Int64[Tensor, "b t k"],
    recency_bias: Float[Tensor, " p"] | None,
    recency_values: Float[Tensor, "p r"] | None,
) -> tuple[Float[Tensor, "b t e_r"], Float[Tensor, "b t k"]]:
    """Pool the behaviours at `positions`, those at -1 left out."""
    kept = positions >= 0
    place = positions.clamp(min=0)
    flat = (offsets[:-1].view(-1, 1, 1) + place).clamp(max=max(len(rows) - 1, 0))
    found = rows[flat].long() if len(rows) else torch.zeros_like(place)  # [B, T, K]
    recency = (offsets.diff().view(-1, 1, 1) - 1 - place).clamp(min=0)
    scores = torch.einsum("btd,btkd->btk", at_least_fp32(query), gather_rows(keys, found))
    if recency_bias is not None:
        at = recency.clamp(max=len(recency_bias) - 1)
        scores = scores + embedding(at, at_least_fp32(recency_bias).unsqueeze(1)).squeeze(-1)
    weights = masked_softmax(scores, kept)
    pooled = torch.einsum("btk,btke->bte", weights, gather_rows(values, found))
    if recency_values is not None:
        at = recency.clamp(max=len(recency_values) - 1)
        pooled = torch.cat([pooled, torch.einsum("btk,btkr->btr", weights, embedding(at, recency_values))], dim=-1)
    return pooled, weights


def masked_softmax(scores: Float[Tensor, "*dims n"], mask: Bool[Tensor, "*#dims n"]) -> Float[Tensor, "*dims n"]:
    """Softmax over the last dimension where `mask` holds, 0 elsewhere; a row without any is all 0, and so are its
    gradients."""
    lowest = torch.finfo(scores.dtype).min
    return torch.softmax(scores.masked_fill(~mask, lowest), dim=-1) * mask
