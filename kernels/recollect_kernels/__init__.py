"""Search and aggregate long behaviour histories on whatever device there is; needs torch and numpy.

    result = behavior_search(query, keys, rows, offsets, k=20, recency_bias=bias)
    pooled = target_attention(query, keys, values, rows, offsets, positions=result.positions, recency_bias=bias)
    both = search_and_attend(query, keys, values, rows, offsets, k=20, recency_bias=bias)  # for serving, in one pass

The ops read *ragged* histories: `rows` [E] are table rows of all histories one behind the other, oldest behaviour
first, and history b is `rows[offsets[b] : offsets[b + 1]]`.
"""

from recollect_kernels.backend import Backend
from recollect_kernels.behavior_search.op import SearchResult, behavior_search
from recollect_kernels.preparation import prepare
from recollect_kernels.search_and_attend.op import PooledSearch, search_and_attend
from recollect_kernels.tables import ScaledTable, Table, gather_rows, quantize_rows
from recollect_kernels.target_attention.op import AttentionResult, target_attention

__all__ = [
    "AttentionResult",
    "Backend",
    "PooledSearch",
    "ScaledTable",
    "SearchResult",
    "Table",
    "behavior_search",
    "gather_rows",
    "prepare",
    "quantize_rows",
    "search_and_attend",
    "target_attention",
]
