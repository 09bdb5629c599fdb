"""Check the arguments of the search and hand it to an implementation."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from recollect_kernels.backend import Backend, check_backend
from recollect_kernels.behavior_search import cpu, reference
from recollect_kernels.ragged import check_ragged
from recollect_kernels.tables import Table


class SearchResult(NamedTuple):
    """The k best behaviours of each target, best first."""

    scores: Float[Tensor, "b t k"]
    """-inf where the history holds fewer than k behaviours."""
    positions: Int64[Tensor, "b t k"]
    """Index into the history as it was given, 0 = oldest; -1 where it holds fewer than k."""


@torch.no_grad()
def behavior_search(
    query: Float[Tensor, "b t d"],
    keys: Table,
    rows: Int[Tensor, " e"],
    offsets: Int[Tensor, " b+1"],
    *,
    k: int,
    recency_bias: Float[Tensor, " p"] | None = None,
    backend: Backend = "auto",
) -> SearchResult:
    """The k behaviours with the highest `query · keys[row] + recency_bias[recency]`, exactly.

    `query` holds T targets for each of B histories, already scaled. Recency 0 is a history's newest behaviour; the last
    entry of `recency_bias` serves everything older. The lowest position wins a tie and NaN loses to everything.
    Nothing is differentiated: `target_attention` scores the kept behaviours again with gradients. Stage 1 of arXiv
    2410.02604.

    Raises ValueError for shapes that do not fit, and for a backend that cannot run where the tensors are.
    """
    check_backend(backend)
    check_search(query, keys, rows, offsets, recency_bias)
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    on_cpu = query.device.type == "cpu"
    if backend == "cpu" and not on_cpu:
        raise ValueError(f"backend 'cpu' needs tensors on the CPU, got a query on {query.device}; use 'auto'")
    implementation = cpu if on_cpu and backend != "reference" else reference
    return SearchResult(*implementation.search(query, keys, rows, offsets, k, recency_bias))


def check_search(query: Tensor, keys: Table, rows: Tensor, offsets: Tensor, recency_bias: Tensor | None) -> None:
    """Raise ValueError unless the arguments that search and attention share fit together."""
    if query.dim() != 3:
        raise ValueError(f"query must be [B, T, d], got {tuple(query.shape)}; a single target is [1, 1, d]")
    if len(keys.shape) != 2 or keys.shape[1] != query.shape[2]:
        raise ValueError(
            f"keys must be [V, {query.shape[2]}] to match query {tuple(query.shape)}, got {tuple(keys.shape)}"
        )
    check_ragged(rows, offsets, query.shape[0])
    if recency_bias is not None and (recency_bias.dim() != 1 or len(recency_bias) == 0):
        raise ValueError(f"recency_bias must be [P] with P at least 1, got {tuple(recency_bias.shape)}")
