"""Know how busy a gateway is: how many calls it works on, on average, which is what its replicas are counted by."""

import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]

Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]]

_OURS = "/recollect"
"""How the methods of our services begin; probes of health are no load."""
_WRAPS = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}


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


class LoadInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Count every call of our services until it is answered, and streams while they last."""

    def __init__(self, load: Load) -> None:
        self._load = load

    async def intercept_service(
        self, continuation: Continuation, details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler:
        """Wrap the handlers of our services."""
        handler = await continuation(details)
        if handler is None or not details.method.startswith(_OURS):
            return handler
        name, wrap = _WRAPS[handler.request_streaming, handler.response_streaming]
        return wrap(
            self._counted(getattr(handler, name)),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _counted(self, behaviour: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.isasyncgenfunction(behaviour):

            async def stream(request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
                with self._load.call():
                    async for response in behaviour(request, context):
                        yield response

            return stream

        async def call(request: Any, context: grpc.aio.ServicerContext) -> Any:
            with self._load.call():
                return await behaviour(request, context)

        return call
