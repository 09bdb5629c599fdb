"""The loops of the CPU, compiled by numba, over blocks that stay in cache; nothing imports this where numba is missing.

Importing takes the machine code from numba's cache on disk, and compiles it where that has none:
`recollect_kernels.prepare` sees to it before the first request. Every loop lets go of the GIL and starts no thread.
"""

from recollect_kernels.compiled.attention import attend_all, attend_kept, find_kept
from recollect_kernels.compiled.gradients import attend_all_backward, attend_kept_backward, group, sum_rows
from recollect_kernels.compiled.search import SCRATCH_A_TARGET, attend, longest_history, search

__all__ = [
    "SCRATCH_A_TARGET",
    "attend",
    "attend_all",
    "attend_all_backward",
    "attend_kept",
    "attend_kept_backward",
    "find_kept",
    "group",
    "longest_history",
    "search",
    "sum_rows",
]
