"""The pair written to be read: search, then pool what was found."""

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from recollect_kernels.behavior_search import reference as behavior_search
from recollect_kernels.tables import Table
from recollect_kernels.target_attention import reference as target_attention


@torch.no_grad()
def search_and_attend(
    query: Float[Tensor, "b t d"],
    keys: Table,
    values: Table,
    rows: Int[Tensor, " e"],
    offsets: Int[Tensor, " b+1"],
    k: int,
    recency_bias: Float[Tensor, " p"] | None,
    recency_values: Float[Tensor, "q r"] | None,
) -> tuple[Float[Tensor, "b t e_r"], Float[Tensor, "b t k"], Int64[Tensor, "b t k"], Float[Tensor, "b t k"]]:
    """Output, scores, positions and weights."""
    scores, positions = behavior_search.search(query, keys, rows, offsets, k, recency_bias)
    output, weights = target_attention.attend_kept(
        query, keys, values, rows, offsets, positions, recency_bias, recency_values
    )
    return output, scores, positions, weights
