"""The search on a CPU: compiled loops where numba is installed, group maxima in torch otherwise."""

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from recollect_kernels import loops
from recollect_kernels.behavior_search import group_maxima
from recollect_kernels.ragged import longest_history
from recollect_kernels.tables import Table


def search(
    query: Float[Tensor, "b t d"],
    keys: Table,
    rows: Int[Tensor, " e"],
    offsets: Int[Tensor, " b+1"],
    k: int,
    recency_bias: Float[Tensor, " p"] | None,
) -> tuple[Float[Tensor, "b t k"], Int64[Tensor, "b t k"]]:
    """Scores and positions of the k best behaviours, in the reference's order.

    Raises ValueError where rows or offsets do not fit, as `ragged.longest_history` does.
    """
    if query.dtype == torch.float64 or loops.compiled() is None:
        longest_history(rows, offsets, keys.shape[0])
        return group_maxima.search(query, keys, rows, offsets, k, recency_bias)
    return loops.search(query, keys, rows, offsets, k, recency_bias)
