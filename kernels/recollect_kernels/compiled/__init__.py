"""The loops of the CPU, compiled by numba, over blocks that stay in cache; nothing imports this where numba is missing.

Importing takes the machine code from numba's cache on disk, and compiles it where that has none:
`recollect_kernels.prepare` sees to it before the first request. Every loop lets go of the GIL and starts no thread.
"""

from recollect_kernels.compiled.attention import attend_all, attend_found, attend_kept, find_kept
from recollect_kernels.compiled.gradients import attend_all_backward, attend_kept_backward, group, sum_rows
from recollect_kernels.compiled.search import longest_history, scratch, search

__all__ = [
    "attend_all",
    "attend_all_backward",
    "attend_found",
    "attend_kept",
    "attend_kept_backward",
    "find_kept",
    "group",
    "longest_history",
    "scratch",
    "search",
    "sum_rows",
]
