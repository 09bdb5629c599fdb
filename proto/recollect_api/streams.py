"""What the calls of the asyncio client share, and how a service says that it takes a stream."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

TAKEN = ("x-stream", "taken")
"""Initial metadata of a stream that the service takes; it comes before any answer."""
_REFUSAL_S = 1.0
"""How long after other initial metadata a refusal may take to arrive."""


async def accepted(call: Any) -> None:
    """Wait until the service takes the stream of `call`, or has refused it.

    grpc.aio answers with an error of its own, and never with the service's, where it writes to a call that was refused.
    """
    if TAKEN not in tuple(await call.initial_metadata()):
        with suppress(TimeoutError):
            await asyncio.wait_for(call.code(), _REFUSAL_S)


def is_cancelled() -> bool:
    """Whether somebody cancelled this task, where CancelledError was raised in it: grpc.aio raises that in every task
    that waits for a call of a channel which is closed."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


async def drawn(parts: AsyncIterable[T] | Iterable[T]) -> AsyncIterator[T]:
    """`parts`, of either kind."""
    if isinstance(parts, AsyncIterable):
        async for part in parts:
            yield part
    else:
        for part in parts:
            yield part
