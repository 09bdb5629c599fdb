"""Know how busy a gateway is: how many calls it works on, on average, which is what its replicas are counted by."""

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]

from recollect.gateway.handlers import Behaviour, WrappingInterceptor, behaviour_of, generates, remade

_OURS = "/recollect"
"""How the methods of our services begin; probes of health are no load."""


class Load:
    """Calls in flight, averaged over time: a look at one moment would miss most of calls that take milliseconds.

    For one event loop.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._in_flight = 0
        self._changed = self._asked = clock()
        self._call_seconds = 0.0

    @contextmanager
    def call(self) -> Iterator[None]:
        """A call, for the time of the block."""
        self._change(1)
        try:
            yield
        finally:
            self._change(-1)

    def mean(self) -> float:
        """Mean of the calls in flight since this was last asked, or since the beginning."""
        self._change(0)
        seconds, self._asked = self._changed - self._asked, self._changed
        call_seconds, self._call_seconds = self._call_seconds, 0.0
        return call_seconds / seconds if seconds > 0 else float(self._in_flight)

    def _change(self, by: int) -> None:
        now = self._clock()
        self._call_seconds += self._in_flight * (now - self._changed)
        self._changed = now
        self._in_flight += by


class LoadInterceptor(WrappingInterceptor):
    """Count every call of our services until it is answered, and streams while they last."""

    def __init__(self, load: Load) -> None:
        super().__init__()
        self._load = load

    def wrap(self, method: str, handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
        """Wrap the handlers of our services."""
        if not method.startswith(_OURS):
            return handler
        return remade(handler, self._counted(behaviour_of(handler)))

    def _counted(self, behaviour: Behaviour) -> Behaviour:
        if generates(behaviour):

            async def stream(request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
                with self._load.call():
                    async for response in behaviour(request, context):
                        yield response

            return stream

        async def call(request: Any, context: grpc.aio.ServicerContext) -> Any:
            with self._load.call():
                return await behaviour(request, context)

        return call
