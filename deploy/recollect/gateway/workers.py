"""Run blocking work off the event loop, in a few threads, and not at all for a caller who has gone."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import grpc.aio  # type: ignore[import-untyped]

from recollect.gateway.errors import DeadlinePassed

T = TypeVar("T")


class Workers:
    """A small pool of threads for ranking.

    gRPC cancels the coroutine of a call whose deadline passes or whose caller leaves; work of that call which still
    waits for a thread is then never begun.
    """

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="ranking", initializer=use_one_torch_thread)

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work()`."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def close(self) -> None:
        """Begin no more work."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def require_time(context: grpc.aio.ServicerContext) -> None:
    """Raise DeadlinePassed where the caller no longer waits."""
    remaining = context.time_remaining()
    if remaining is not None and remaining <= 0:
        raise DeadlinePassed("the deadline passed before the work began; allow more time or send fewer calls at once")


def use_one_torch_thread() -> None:
    """Keep torch to the calling thread: replicas and their pools already use every core, more threads only wait."""
    import torch

    torch.set_num_threads(1)
