"""Share work that lets go of the GIL among as many threads as torch was given, and no more."""

import ctypes
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import pairwise
from typing import Any

import torch

SHARED_FROM = 1 << 24
"""Multiplications from which threads share a call: some 0.8 ms of work, well above what waking them costs."""
READING = 64
"""Multiplications that take as long as it takes to read a row."""
_TARGETS_A_SHARE = 32
"""Targets for which it is worth it that a thread gathers a history that others gather as well."""

# Python tells it from 3.13 on, and no other system than Linux moves threads like this.
_sched_getcpu = getattr(ctypes.CDLL(None), "sched_getcpu", None) if hasattr(os, "sched_setaffinity") else None

_pools: dict[int, ThreadPoolExecutor] = {}
# A forked child has none of its parent's threads.
os.register_at_fork(after_in_child=_pools.clear)


def run_all(tasks: Sequence[Callable[[], None]]) -> None:
    """Run every task and return when all have ended; the first error is raised then.

    The calling thread waits: beside one that goes on computing, the kernel often wakes a worker on the same core.
    """
    if len(tasks) == 1:
        tasks[0]()
        return
    here = _processor()
    futures = [_pool(len(tasks)).submit(_apart, task, here + place) for place, task in enumerate(tasks)]
    failures = [future.exception() for future in futures]
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


def run_shares(loop: Callable[..., None], call: tuple[Any, ...], shares: list[tuple[int, int, int, int]]) -> None:
    """Run `loop(*call, b0, b1, t0, t1)` for each share."""
    if len(shares) == 1:
        loop(*call, *shares[0])
    else:
        run_all([partial(loop, *call, *share) for share in shares])


def shares(offsets: Any, batch: int, targets: int, cost: int) -> list[tuple[int, int, int, int]]:
    """Histories b0 … b1 and targets t0 … t1 of each thread that a call of `cost` multiplications is worth.

    `offsets` [B + 1] is an array; None lets histories weigh alike.
    """
    threads = torch.get_num_threads()
    if threads == 1 or cost < SHARED_FROM:
        return [(0, batch, 0, targets)]
    if batch >= 2 * threads or targets < 2 * _TARGETS_A_SHARE:
        lengths = torch.ones(batch) if offsets is None else torch.from_numpy(offsets).diff() + 1
        return [(b0, b1, 0, targets) for b0, b1 in ranges(lengths, threads)]
    parts = min(threads, targets // _TARGETS_A_SHARE)
    borders = [round(part * targets / parts / 4) * 4 for part in range(parts)] + [targets]
    return [(0, batch, t0, t1) for t0, t1 in pairwise(borders)]


def _apart(task: Callable[[], None], processor: int) -> None:
    """Begin `task` on a processor of its own, by its number among those that this thread may use; then let it move.

    The kernel wakes threads on the processor that woke them, and takes milliseconds to notice that another is idle.
    """
    if _sched_getcpu is not None:
        with suppress(OSError):
            allowed = os.sched_getaffinity(0)
            os.sched_setaffinity(0, {sorted(allowed)[processor % len(allowed)]})
            os.sched_setaffinity(0, allowed)
    task()


def _processor() -> int:
    """The number of the processor that this thread runs on, among those that it may use; 0 where that is not known."""
    if _sched_getcpu is None:
        return 0
    return sum(processor < _sched_getcpu() for processor in os.sched_getaffinity(0))


def _pool(size: int) -> ThreadPoolExecutor:
    if size not in _pools:
        _pools[size] = ThreadPoolExecutor(size, thread_name_prefix="recollect-kernels")
    return _pools[size]
