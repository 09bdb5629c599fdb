"""What the streams of the asyncio client share, and how a service says that it takes one."""

import asyncio
import itertools
import math
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
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


def drawn_in_time(parts: Iterable[T], most: int, seconds: float) -> Iterator[T]:
    """`parts`; no further one is asked for after `most`, or after one that came later than `seconds` from now."""
    until = time.monotonic() + seconds
    for part in itertools.islice(parts, most):
        yield part
        if time.monotonic() >= until:
            return


async def drawn(
    parts: AsyncIterable[T] | Iterable[T], most: int | None = None, seconds: float = math.inf
) -> AsyncIterator[T]:
    """`parts`, of either kind; no further one is asked for after `most`, or after one that came later than `seconds`
    from now."""
    if most == 0:
        return
    until, count = time.monotonic() + seconds, 0
    async for part in _either(parts):
        yield part
        count += 1
        if count == most or time.monotonic() >= until:
            return


async def _either(parts: AsyncIterable[T] | Iterable[T]) -> AsyncIterator[T]:
    if isinstance(parts, AsyncIterable):
        async for part in parts:
            yield part
    else:
        for part in parts:
            yield part
