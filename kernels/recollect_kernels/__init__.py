"""Search and aggregate long behaviour histories on whatever device there is; needs torch and nothing else.

    result = behavior_search(query, keys, rows, offsets, k=20, recency_bias=bias)
    pooled = target_attention(query, keys, values, rows, offsets, positions=result.positions, recency_bias=bias)

Both ops read *ragged* histories: `rows` [E] are table rows of all histories one behind the other, oldest behaviour
first, and history b is `rows[offsets[b] : offsets[b + 1]]`.
"""

from recollect_kernels.backend import Backend
from recollect_kernels.behavior_search.op import SearchResult, behavior_search
from recollect_kernels.tables import ScaledTable, Table, gather_rows, quantize_rows
from recollect_kernels.target_attention.op import AttentionResult, target_attention

__all__ = [
    "AttentionResult",
    "Backend",
    "ScaledTable",
    "SearchResult",
    "Table",
    "behavior_search",
    "gather_rows",
    "quantize_rows",
    "target_attention",
]
