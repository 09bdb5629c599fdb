"""Stand around every call of a method: the method's handler is taken apart and put together again, once."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]

Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]]
Behaviour = Callable[..., Any]
"""What answers: an asynchronous function of the request, or of a stream of them, and the context; or a generator."""

HANDLERS = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}
"""Whether requests and answers are streams → where a handler has its behaviour, and how one is made."""


class WrappingInterceptor(grpc.aio.ServerInterceptor, ABC):  # type: ignore[misc]
    """Puts something around the handlers of methods.

    gRPC asks for the handler at each call, and gets the same one where what it is made of is the same, be it the
    service's own or the one that refuses: to make them anew for every call costs as much as to read a request. Methods
    are not told apart: each has a handler of its own, and those that callers make up have all the one that refuses.
    """

    def __init__(self) -> None:
        self._made: dict[grpc.RpcMethodHandler, grpc.RpcMethodHandler] = {}

    async def intercept_service(
        self, continuation: Continuation, details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler:
        """The handler of the method, wrapped."""
        handler = await continuation(details)
        return None if handler is None else self.wrapped(details.method, handler)

    def wrapped(self, method: str, handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
        """`handler` of `method` with what this puts around it."""
        made = self._made.get(handler)
        if made is None:
            made = self._made[handler] = self.wrap(method, handler)
        return made

    @abstractmethod
    def wrap(self, method: str, handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
        """Make the handler that is used for `method` instead of `handler`; or that one."""


def behaviour_of(handler: grpc.RpcMethodHandler) -> Behaviour:
    """What answers."""
    name, _ = HANDLERS[handler.request_streaming, handler.response_streaming]
    behaviour: Behaviour = getattr(handler, name)
    return behaviour


def generates(behaviour: Behaviour) -> bool:
    """Whether it is a generator of answers; otherwise it is awaited, and writes a stream of answers to the context."""
    return inspect.isasyncgenfunction(behaviour)


def remade(
    handler: grpc.RpcMethodHandler, behaviour: Behaviour, *, deserializer: Callable[[bytes], Any] | None = None
) -> grpc.RpcMethodHandler:
    """`handler` with another behaviour, and another `deserializer` of requests where one is given."""
    _, make = HANDLERS[handler.request_streaming, handler.response_streaming]
    return make(
        behaviour,
        request_deserializer=deserializer or handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )
