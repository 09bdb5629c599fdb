"""The pair on a CPU: the scores of the search are those of the pooling, so no key is read twice."""

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from recollect_kernels import loops
from recollect_kernels.behavior_search import cpu as behavior_search
from recollect_kernels.tables import Table
from recollect_kernels.target_attention import reference as target_attention


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
    """Output, scores, positions and weights, in the reference's order."""
    scores, positions = behavior_search.search(query, keys, rows, offsets, k, recency_bias)
    if loops.compiled() is not None and query.dtype != torch.float64 and loops.is_stored(values):
        output, weights = loops.attend_found(scores, positions, values, rows, offsets, recency_values)
    else:
        with torch.no_grad():
            output, weights = target_attention.pool_scored(scores, values, rows, offsets, positions, recency_values)
    return output, scores, positions, weights
