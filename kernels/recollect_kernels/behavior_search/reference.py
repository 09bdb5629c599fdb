"""The search written to be read: score everything, order it, keep k."""

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from recollect_kernels.autocast import in_own_precision
from recollect_kernels.behavior_search.ordering import PADDING_KEY, sort_key
from recollect_kernels.ragged import pad_left
from recollect_kernels.tables import Table, at_least_fp32, gather_rows

_TILE = 1 << 24
"""Scores held at once; more targets than fit are taken in turns."""


@torch.no_grad()
@in_own_precision
def search(
    query: Float[Tensor, "b t d"],
    keys: Table,
    rows: Int[Tensor, " e"],
    offsets: Int[Tensor, " b+1"],
    k: int,
    recency_bias: Float[Tensor, " p"] | None,
) -> tuple[Float[Tensor, "b t k"], Int64[Tensor, "b t k"]]:
    """Scores and positions of the k best behaviours; -inf and -1 where a history holds fewer."""
    padded, real, width = pad_left(rows, offsets)
    batch, longest = padded.shape
    targets = query.shape[1]
    scores = query.new_full((batch, targets, k), -torch.inf, dtype=torch.float32)
    positions = torch.full((batch, targets, k), -1, dtype=torch.int64, device=query.device)
    kept = min(k, longest)
    if kept == 0 or targets == 0:
        return scores, positions
    behaviours = gather_rows(keys, padded)  # [B, L, d]
    bias = None if recency_bias is None else bias_by_column(recency_bias.to(behaviours.dtype), longest)  # [L]
    step = max(1, _TILE // max(1, batch * longest))
    for start in range(0, targets, step):
        part = slice(start, start + step)
        tile = torch.einsum("btd,bld->btl", at_least_fp32(query[:, part]), behaviours)
        if bias is not None:
            tile = tile + bias
        order = sort_key(tile).masked_fill(~real.unsqueeze(1), PADDING_KEY)  # [B, T, L]
        best, column = order.topk(kept, dim=-1)  # keys differ, so the order is total
        found = best != PADDING_KEY
        scores[:, part, :kept] = torch.where(found, tile.gather(-1, column).float(), -torch.inf)
        positions[:, part, :kept] = torch.where(found, column - width.view(-1, 1, 1), -1)
    return scores, positions


def bias_by_column(recency_bias: Float[Tensor, " p"], longest: int) -> Float[Tensor, " l"]:
    """`recency_bias` laid under columns that run from the oldest to the newest; its last entry serves all that are
    older."""
    recency = torch.arange(longest - 1, -1, -1, device=recency_bias.device)
    return recency_bias[recency.clamp(max=len(recency_bias) - 1)]
