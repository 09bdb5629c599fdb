"""The threads that OpenMP keeps for torch: while they are awake, they take up a share of a loop at once.

Every thread that calls torch has a team of its own, which is torch's as well. For some milliseconds after its work a
team looks again and again whether there is more, and keeps its processors whoever else could use them; then it sleeps.
"""

import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")

_FOLLOWING_S = 0.01
"""Seconds after which a call does not follow on the one before."""
REGION, NUMBER, ID, THREADS, IDS = range(5)
"""What a team's array holds: addresses of what starts a region of OpenMP's, and tells a thread its number there and its
id; how many threads there are; and from IDS on, by number, the ids of those that were in the last region."""

ALONE = np.zeros(0, np.int64)
"""The array for loops that do all of their work, or a part of it, in the thread that calls them."""


def _functions() -> list[int]:
    """The addresses that a team's array begins with; empty where one is missing."""
    names = ("GOMP_parallel", "omp_get_thread_num", "gettid")
    process = ctypes.CDLL(None)
    found = [getattr(process, name, None) for name in names] if sys.platform == "linux" else [None]
    return [int(ctypes.cast(each, ctypes.c_void_p).value or 0) for each in found if each is not None and all(found)]


_found = _functions()
# A forked child has none of its parent's threads, and OpenMP would wait for them.
os.register_at_fork(after_in_child=_found.clear)

# Python tells it from 3.13 on, and no other system than Linux moves threads.
_sched_getcpu = getattr(ctypes.CDLL(None), "sched_getcpu", None) if hasattr(os, "sched_setaffinity") else None


def processor() -> int | None:
    """The processor that this thread runs on, where threads can be moved; None elsewhere."""
    return None if _sched_getcpu is None else int(_sched_getcpu())


def exists() -> bool:
    """Whether there are teams here: on Linux, where torch has OpenMP, except in a forked child."""
    return bool(_found)


class Team(threading.local):
    """The team of the calling thread."""

    def __init__(self) -> None:
        self._array = ALONE
        self._awake = False
        self._missed, self._asked = 0, 0.0

    def takes(self, cost: int, count: int, *, woken_from: int) -> bool:
        """Whether so many threads should share a call of that cost.

        They should where they are awake. They are woken for `woken_from`, of this call and those that it follows on.
        """
        if len(self._array) != IDS + count:
            self._array = np.array([*_found, count, *[0] * count], np.int64)
        self._awake = self._is_awake()
        if self._awake:
            self._missed = 0
            return True
        now = time.monotonic()
        self._missed = cost + (self._missed if now - self._asked < _FOLLOWING_S else 0)
        self._asked = now
        return self._missed >= woken_from

    def run(self, loop: Callable[..., T], call: tuple[Any, ...], parts: int) -> T:
        """What `loop(*call, parts, -1, array)` gives, which the team does; after `takes`."""
        if self._awake:
            return loop(*call, parts, -1, self._array)
        with self._sent_away():
            return loop(*call, parts, -1, self._array)

    def _is_awake(self) -> bool:
        """Whether the others look for work: what they have used of processors goes on from one look to the next."""
        others = self._others()
        try:
            for thread in others:
                clock = (~thread << 3) | 6  # as Linux numbers the clocks of threads
                if time.clock_gettime_ns(clock) == time.clock_gettime_ns(clock):
                    return False
            return bool(others)
        except OSError:  # one has ended, and its id may become another's
            self._array[IDS:] = 0
            return False

    def _others(self) -> list[int]:
        """Ids of the threads that took part in the last region, but for this one."""
        return [thread for thread in self._array[IDS + 1 :].tolist() if thread]

    @contextmanager
    def _sent_away(self) -> Iterator[None]:
        """Keep the others from this thread's processor while they wake.

        The kernel wakes threads on the processor that woke them, and takes milliseconds to notice that another is idle.
        """
        moved: list[tuple[int, set[int]]] = []
        here = processor()
        try:
            for thread in self._others():
                with suppress(OSError):  # none may be moved
                    allowed = os.sched_getaffinity(thread)
                    if len(allowed) > 1 and here in allowed:
                        os.sched_setaffinity(thread, allowed - {here})
                        moved.append((thread, allowed))
            yield
        finally:
            for thread, allowed in moved:
                with suppress(OSError):
                    os.sched_setaffinity(thread, allowed)
