"""Check the arguments of the pooling and hand it to an implementation."""

from typing import NamedTuple

from jaxtyping import Float, Int, Int64
from torch import Tensor

from recollect_kernels.arguments import bound_lengths, check_history, check_positions, check_values
from recollect_kernels.backend import Backend, choose_backend
from recollect_kernels.tables import Table
from recollect_kernels.target_attention import cpu, reference


class AttentionResult(NamedTuple):
    """A pooled history for each target."""

    output: Float[Tensor, "b t e_r"]
    """Weighted sum of value rows, and behind it that of recency value rows where they were given; 0 for an empty
    history."""
    weights: Float[Tensor, "b t k"] | None
    """Weight of each of `positions`; None where the whole history was pooled, since [B, T, L] is never held."""


def target_attention(
    query: Float[Tensor, "b t d"],
    keys: Table,
    values: Table,
    rows: Int[Tensor, " e"],
    offsets: Int[Tensor, " b+1"],
    *,
    positions: Int64[Tensor, "b t k"] | None = None,
    recency_bias: Float[Tensor, " p"] | None = None,
    recency_values: Float[Tensor, "q r"] | None = None,
    longest: int | None = None,
    backend: Backend = "auto",
) -> AttentionResult:
    """Softmax of `query · keys[row] + recency_bias[recency]` over the behaviours at `positions` alone, times their
    values.

    `positions` come from `behavior_search`, and those outside a history are left out; None pools the whole history.
    `recency_values` adds a value that depends on recency alone, concatenated behind the table's. Gradients reach query,
    keys, values and both recency arguments through the pooled behaviours only, in an order of additions that is the
    same each time. Stage 2 of arXiv 2410.02604. `longest` is that of `behavior_search`.

    Raises ValueError for arguments that do not fit, and for a backend that cannot run where the tensors are.
    """
    k = 1 if positions is None else positions.shape[-1]
    chosen = choose_backend(backend, query, keys, values, k=k)
    check_history(query, keys, rows, offsets, recency_bias)
    check_values(query, keys, values, recency_values)
    if positions is not None:
        check_positions(query, positions)
    arguments = (query, keys, values, rows, offsets)
    beside = (recency_bias, recency_values)
    if chosen == "cpu":
        if positions is None:
            return AttentionResult(cpu.attend_all(*arguments, *beside), None)
        return AttentionResult(*cpu.attend_kept(*arguments, positions, *beside))
    longest = bound_lengths(keys, rows, offsets, longest)
    if chosen == "triton":
        from recollect_kernels.target_attention import triton

        if positions is None:
            return AttentionResult(triton.attend_all(*arguments, *beside, longest), None)
        return AttentionResult(*triton.attend_kept(*arguments, positions, *beside, longest))
    if positions is None:
        return AttentionResult(reference.attend_all(*arguments, *beside), None)
    return AttentionResult(*reference.attend_kept(*arguments, positions, *beside))
