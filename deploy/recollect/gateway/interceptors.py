"""Stand around every call: a refusal becomes a status, a bug an incident."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]

from recollect.gateway.decoding import HANDLERS
from recollect.gateway.errors import abort, refusal
from recollect.gateway.request_ids import request_id

Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]]


class ErrorInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Let no exception reach gRPC's own handler, which would put its text on the wire."""

    async def intercept_service(
        self, continuation: Continuation, details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler:
        """Wrap the handlers of one answer, and of answers that are written to the context; generators, which only
        reflection has, stay as they are."""
        handler = await continuation(details)
        if handler is None:
            return handler
        method = details.method
        name, wrap = HANDLERS[handler.request_streaming, handler.response_streaming]
        behaviour = getattr(handler, name)
        if inspect.isasyncgenfunction(behaviour):
            return handler

        async def guarded(request: Any, context: grpc.aio.ServicerContext) -> Any:
            try:
                return await behaviour(request, context)
            except grpc.aio.AbortError:
                raise
            except Exception as error:
                await abort(context, refusal(error, method=method, request_id=request_id.get()))

        return wrap(
            guarded,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
