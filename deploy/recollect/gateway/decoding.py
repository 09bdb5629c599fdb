"""Answer bytes that are no message of the contract as any other wrong request, whatever method they are sent to."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError

from recollect.gateway.errors import InvalidCall, Violation
from recollect.gateway.handlers import WrappingInterceptor, behaviour_of, generates, remade
from recollect.gateway.statuses import abort

_UNREADABLE = object()
"""Stands for a request that could not be read."""


class DecodingInterceptor(WrappingInterceptor):
    """Let no DecodeError reach gRPC, which would answer it with UNKNOWN and the names of Python's classes."""

    def wrap(self, method: str, handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:  # noqa: ARG002 - of all
        """Read the requests of every method so that what cannot be read is refused."""
        if handler.request_deserializer is None:
            return handler
        answer = _streaming if handler.response_streaming else _unary
        return remade(handler, answer(behaviour_of(handler)), deserializer=_lenient(handler.request_deserializer))


def _lenient(read: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def lenient(data: bytes) -> Any:
        try:
            return read(data)
        except DecodeError:
            return _UNREADABLE

    return lenient


def _unary(behaviour: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def checked(given: Any, context: grpc.aio.ServicerContext) -> Any:
        return await behaviour(await _readable(given, context), context)

    return checked


def _streaming(behaviour: Callable[..., Any]) -> Callable[..., Any]:
    if not generates(behaviour):  # it writes its answers to the context
        return _unary(behaviour)

    async def checked(given: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        async for response in behaviour(await _readable(given, context), context):
            yield response

    return checked


async def _readable(given: Any, context: grpc.aio.ServicerContext) -> Any:
    """The request, or the requests as they come; ends the call at one that cannot be read."""
    if given is _UNREADABLE:
        await _refuse(context)
    return _each_readable(given, context) if hasattr(given, "__aiter__") else given


async def _each_readable(given: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
    async for request in given:
        if request is _UNREADABLE:
            await _refuse(context)
        yield request


async def _refuse(context: grpc.aio.ServicerContext) -> None:
    problem = "cannot be read as the message of this method; send it as the contract has it, in protobuf's binary form"
    await abort(context, InvalidCall([Violation(field="", description=problem)]))
