"""Check the arguments of the pooling and hand it to an implementation."""

from typing import NamedTuple

from jaxtyping import Float, Int, Int64
from torch import Tensor

from recollect_kernels.backend import Backend, check_backend
from recollect_kernels.behavior_search.op import check_search
from recollect_kernels.tables import Table
from recollect_kernels.target_attention import reference


class AttentionResult(NamedTuple):
    """A pooled history for each target."""

    output: Float[Tensor, "b t e_r"]
    """Weighted sum of value rows, and behind it that of recency value rows where they were given; 0 for an empty
    history."""
    weights: Float[Tensor, "b t n"]
    """[B, T, K] beside `positions`; without them [B, T, L], whose columns end with each history's newest behaviour."""


def target_attention(
    query: Float[Tensor, "b t d"],
    keys: Table,
    values: Table,
    rows: Int[Tensor, " e"],
    offsets: Int[Tensor, " b+1"],
    *,
    positions: Int64[Tensor, "b t k"] | None = None,
    recency_bias: Float[Tensor, " p"] | None = None,
    recency_values: Float[Tensor, "p r"] | None = None,
    backend: Backend = "auto",
) -> AttentionResult:
    """Softmax of `query · keys[row] + recency_bias[recency]` over the behaviours at `positions` alone, times their
    values.

    `positions` come from `behavior_search`; None pools the whole history. `recency_values` adds a value that depends on
    recency alone, concatenated behind the table's. Gradients reach query, keys, values and both recency arguments
    through the pooled behaviours only. Stage 2 of arXiv 2410.02604.

    Every backend is the plain torch one so far. Raises ValueError for shapes that do not fit.
    """
    check_backend(backend)
    check_search(query, keys, rows, offsets, recency_bias)
    if len(values.shape) != 2 or values.shape[0] != keys.shape[0]:
        raise ValueError(
            f"values must be [{keys.shape[0]}, e] to match keys {tuple(keys.shape)}, got {tuple(values.shape)}"
        )
    if positions is None:
        return AttentionResult(*reference.attend_all(query, keys, values, rows, offsets, recency_bias, recency_values))
    if positions.shape[:2] != query.shape[:2]:
        raise ValueError(f"positions must be [{query.shape[0]}, {query.shape[1]}, K], got {tuple(positions.shape)}")
    return AttentionResult(
        *reference.attend_kept(query, keys, values, rows, offsets, positions, recency_bias, recency_values)
    )
