"""Give every call a name, which is in the logs and comes back: the caller's own, where it has one.

The name is `request_id` of the request, where its message has the field and it is set; else metadata `x-request-id`;
else one that is made here. It comes back as trailing metadata `x-request-id`, of answers and of refusals alike: as
initial metadata it would tell gRPC's retries that a call which is about to be refused has begun to be answered.
"""

import inspect
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]

KEY = "x-request-id"
"""Of metadata in both directions."""
NAMES = re.compile(r"[\x20-\x7e]{1,128}")
"""What the logs take as a name; HTTP/2 carries nothing else anyway."""

Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]]

HANDLERS = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}
"""Whether requests and answers are streams → where a handler has its behaviour, and how one is made."""

_current: ContextVar[str] = ContextVar("request_id", default="")


def request_id() -> str:
    """The name of the call that this task answers; empty outside of calls."""
    return _current.get()


class RequestIdInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Name every call; comes before all that log or refuse."""

    async def intercept_service(
        self, continuation: Continuation, details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler:
        """Have the name sent back by whatever answers."""
        given = dict(details.invocation_metadata or ()).get(KEY, "")
        _current.set(given if _is_name(given) else uuid.uuid4().hex)
        handler = await continuation(details)
        if handler is None:
            return handler
        name, wrap = HANDLERS[handler.request_streaming, handler.response_streaming]
        behaviour = getattr(handler, name)
        named = _generating(behaviour) if inspect.isasyncgenfunction(behaviour) else _answering(behaviour)
        return wrap(
            named, request_deserializer=handler.request_deserializer, response_serializer=handler.response_serializer
        )


def _answering(behaviour: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def named(given: Any, context: grpc.aio.ServicerContext) -> Any:
        _name(given, context)
        return await behaviour(given, context)

    return named


def _generating(behaviour: Callable[..., AsyncIterator[Any]]) -> Callable[..., AsyncIterator[Any]]:
    async def named(given: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        _name(given, context)
        async for response in behaviour(given, context):
            yield response

    return named


def _name(given: Any, context: grpc.aio.ServicerContext) -> None:
    own = getattr(given, "request_id", "")
    if _is_name(own):
        _current.set(own)
    context.set_trailing_metadata(((KEY, request_id()),))


def _is_name(text: object) -> bool:
    return isinstance(text, str) and NAMES.fullmatch(text) is not None
