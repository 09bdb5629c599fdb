"""Check the arguments of the search and hand it to an implementation."""

from typing import NamedTuple

from jaxtyping import Float, Int, Int64
from torch import Tensor

from recollect_kernels.arguments import bound_lengths, check_history, check_k
from recollect_kernels.backend import Backend, choose_backend
from recollect_kernels.behavior_search import cpu, reference
from recollect_kernels.tables import Table


class SearchResult(NamedTuple):
    """The k best behaviours of each target, best first."""

    scores: Float[Tensor, "b t k"]
    """-inf where the history holds fewer than k behaviours."""
    positions: Int64[Tensor, "b t k"]
    """Index into the history as it was given, 0 = oldest; -1 where it holds fewer than k."""


def behavior_search(
    query: Float[Tensor, "b t d"],
    keys: Table,
    rows: Int[Tensor, " e"],
    offsets: Int[Tensor, " b+1"],
    *,
    k: int,
    recency_bias: Float[Tensor, " p"] | None = None,
    longest: int | None = None,
    backend: Backend = "auto",
) -> SearchResult:
    """The k behaviours with the highest `query · keys[row] + recency_bias[recency]`, exactly.

    `query` holds T targets for each of B histories, already scaled. Recency 0 is a history's newest behaviour; the last
    entry of `recency_bias` serves everything older. The lowest position wins a tie and NaN loses to everything.
    Nothing is differentiated: `target_attention` scores the kept behaviours again with gradients. Stage 1 of arXiv
    2410.02604.

    `longest` is a bound on the histories' lengths that the caller knows. With it nothing on a GPU is waited for and the
    call can be captured in a CUDA graph, and rows are trusted: one outside the table is never found. Without it, and
    always on a CPU, rows and offsets are read first and refused where they do not fit.

    Raises ValueError for arguments that do not fit, and for a backend that cannot run where the tensors are.
    """
    chosen = choose_backend(backend, query, keys, k=k)
    check_history(query, keys, rows, offsets, recency_bias)
    check_k(k)
    if chosen == "cpu":
        return SearchResult(*cpu.search(query, keys, rows, offsets, k, recency_bias))
    longest = bound_lengths(keys, rows, offsets, longest)
    if chosen == "triton":
        from recollect_kernels.behavior_search import triton

        return SearchResult(*triton.search(query, keys, rows, offsets, k, recency_bias, longest))
    return SearchResult(*reference.search(query, keys, rows, offsets, k, recency_bias))
