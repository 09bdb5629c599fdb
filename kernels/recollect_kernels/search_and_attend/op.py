"""Check the arguments of the pair and hand it to an implementation."""

from typing import NamedTuple

from jaxtyping import Float, Int, Int64
from torch import Tensor

from recollect_kernels.arguments import bound_lengths, check_history, check_k, check_values
from recollect_kernels.backend import Backend, choose_backend
from recollect_kernels.search_and_attend import cpu, reference
from recollect_kernels.tables import Table


class PooledSearch(NamedTuple):
    """The k best behaviours of each target, best first, and their pooled values."""

    output: Float[Tensor, "b t e_r"]
    """Weighted sum of value rows, and behind it that of recency value rows where they were given; 0 for an empty
    history."""
    scores: Float[Tensor, "b t k"]
    """-inf where the history holds fewer than k behaviours."""
    positions: Int64[Tensor, "b t k"]
    """Index into the history as it was given, 0 = oldest; -1 where it holds fewer than k."""
    weights: Float[Tensor, "b t k"]
    """Softmax of the scores; those of a target add up to 1 unless its history is empty."""


def search_and_attend(
    query: Float[Tensor, "b t d"],
    keys: Table,
    values: Table,
    rows: Int[Tensor, " e"],
    offsets: Int[Tensor, " b+1"],
    *,
    k: int,
    recency_bias: Float[Tensor, " p"] | None = None,
    recency_values: Float[Tensor, "q r"] | None = None,
    longest: int | None = None,
    backend: Backend = "auto",
) -> PooledSearch:
    """`behavior_search` and `target_attention` over what it found, as one: for serving, without gradients.

    Arguments, order, exactness and errors are those of the two. Both stages of arXiv 2410.02604.
    """
    chosen = choose_backend(backend, query, keys, values, k=k)
    check_history(query, keys, rows, offsets, recency_bias)
    check_values(query, keys, values, recency_values)
    check_k(k)
    arguments = (query, keys, values, rows, offsets, k, recency_bias, recency_values)
    if chosen == "cpu":
        return PooledSearch(*cpu.search_and_attend(*arguments))
    longest = bound_lengths(keys, rows, offsets, longest)
    if chosen == "triton":
        from recollect_kernels.search_and_attend import triton

        return PooledSearch(*triton.search_and_attend(*arguments, longest))
    return PooledSearch(*reference.search_and_attend(*arguments))
