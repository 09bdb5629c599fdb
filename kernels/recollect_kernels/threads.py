"""Share work that lets go of the GIL among as many threads as torch was given, and no more."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import torch

_pools: dict[int, ThreadPoolExecutor] = {}
# A forked child has none of its parent's threads.
os.register_at_fork(after_in_child=_pools.clear)


def run_all(tasks: Sequence[Callable[[], None]]) -> None:
    """Run every task and return when all have ended; the first error is raised then. The last runs on this thread."""
    others = [_pool(len(tasks) - 1).submit(task) for task in tasks[:-1]]
    try:
        if tasks:
            tasks[-1]()
    finally:
        failures = [future.exception() for future in others]
    for failure in failures:
        if failure is not None:
            raise failure


def ranges(weights: torch.Tensor, parts: int) -> list[tuple[int, int]]:
    """Cut items of these weights [n] into at most `parts` ranges of about equal weight, none of them empty."""
    ends = weights.double().cumsum(0)
    if len(ends) == 0:
        return []
    goals = ends[-1] * torch.arange(1, parts, dtype=torch.float64) / parts
    cuts = torch.searchsorted(ends, goals) + 1
    borders = sorted({0, len(ends), *(min(cut, len(ends)) for cut in cuts.tolist())})
    return list(pairwise(borders))


def _pool(size: int) -> ThreadPoolExecutor:
    if size not in _pools:
        _pools[size] = ThreadPoolExecutor(size, thread_name_prefix="recollect-kernels")
    return _pools[size]
