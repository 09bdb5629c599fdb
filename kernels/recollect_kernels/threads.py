"""Share work that lets go of the GIL among as many threads as torch was given, and no more."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar

import torch

from recollect_kernels.team import ALONE, Team, exists, processor

SHARED_FROM = 1 << 24
"""Multiplications from which threads share a call: some 0.8 ms of work, well above what waking them costs."""
_AWAKE_FROM = 1 << 19
"""The same for threads that are awake: some 40 µs."""
READING = 64
"""Multiplications that take as long as it takes to read a row."""
POOLING = 256
"""The same for all that pooling a kept behaviour takes besides its products."""
BY_HISTORY, BY_TARGET, BY_BEHAVIOUR = range(3)
"""What a call is cut by; see `compiled.shares`."""
_PARTS_A_THREAD = 4
"""Parts of a call for each thread of a team, so that one that comes late takes fewer."""
_TARGETS_A_SHARE = 32
"""Targets for which it is worth it that a thread gathers a history that others gather as well."""

T = TypeVar("T")

_team = Team()

_pools: dict[int, ThreadPoolExecutor] = {}
# A forked child has none of its parent's threads.
os.register_at_fork(after_in_child=_pools.clear)


def run_all(tasks: Sequence[Callable[[], T]]) -> list[T]:
    """What every task gives, when all have ended; the first error is raised then.

    The calling thread waits: beside one that goes on computing, the kernel often wakes a worker on the same core.
    """
    if len(tasks) == 1:
        return [tasks[0]()]
    pool = _pool(len(tasks))
    futures = [pool.submit(_apart, task, place) for task, place in zip(tasks, _places(len(tasks)), strict=True)]
    wait(futures)
    return [future.result() for future in futures]


def ranges(weights: torch.Tensor, parts: int) -> list[tuple[int, int]]:
    """Cut items of these weights [n] into at most `parts` ranges of about equal weight, none of them empty."""
    ends = weights.double().cumsum(0)
    if len(ends) == 0:
        return []
    goals = ends[-1] * torch.arange(1, parts, dtype=torch.float64, device=ends.device) / parts
    cuts = torch.searchsorted(ends, goals) + 1
    borders = sorted({0, len(ends), *(min(cut, len(ends)) for cut in cuts.tolist())})
    return list(pairwise(borders))


def parts_of(cost: int, most: int, *, a_thread: int = _PARTS_A_THREAD) -> int:
    """Parts that a call of `cost` multiplications is cut into, at most `most`; 1 where threads are not worth it."""
    count = torch.get_num_threads()
    if count == 1 or most < 2 or cost < min(_AWAKE_FROM, SHARED_FROM):
        return 1
    if exists():
        return min(most, a_thread * count) if _team.takes(cost, count, woken_from=SHARED_FROM) else 1
    return min(most, count) if cost >= SHARED_FROM else 1


def plan(batch: int, targets: int, cost: int, *, behaviours: bool = False) -> tuple[int, int]:
    """What a call for whole histories is cut by, and into how many parts; by `behaviours` where that is possible."""
    count = torch.get_num_threads()
    if batch < 2 * count and targets >= 2 * _TARGETS_A_SHARE:
        return BY_TARGET, parts_of(cost, targets // _TARGETS_A_SHARE, a_thread=1)
    if batch == 1 and behaviours and exists():
        parts = parts_of(cost, count)
        return (BY_BEHAVIOUR if parts > 1 else BY_HISTORY), parts
    return BY_HISTORY, parts_of(cost, batch)


def run_parts(loop: Callable[..., T], call: tuple[Any, ...], parts: int) -> T:
    """What `loop(*call, parts, part, team)` gives, done for each part; `parts` is what `parts_of` has just said."""
    if parts == 1:
        return loop(*call, 1, 0, ALONE)
    if exists():
        return _team.run(loop, call, parts)
    return run_all([partial(loop, *call, parts, part, ALONE) for part in range(parts)])[0]


def _apart(task: Callable[[], T], place: int | None) -> T:
    """Begin `task` on a processor of its own, by its place among those that this thread may use; then let it move.

    The kernel wakes threads on the processor that woke them, and takes milliseconds to notice that another is idle.
    """
    if place is not None:
        with suppress(OSError):
            allowed = os.sched_getaffinity(0)
            os.sched_setaffinity(0, {sorted(allowed)[place % len(allowed)]})
            os.sched_setaffinity(0, allowed)
    return task()


def _places(count: int) -> list[int | None]:
    """Places for so many threads among the processors that this one may use; None where none is known."""
    here = processor()
    if here is None:
        return [None] * count
    own = sum(each < here for each in os.sched_getaffinity(0))
    return [own + i for i in range(count)]


def _pool(size: int) -> ThreadPoolExecutor:
    if size not in _pools:
        _pools[size] = ThreadPoolExecutor(size, thread_name_prefix="recollect-kernels")
    return _pools[size]
