"""Stand around every call: a refusal becomes a status, a bug an incident."""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]

from recollect.errors import RemoteError
from recollect.gateway.errors import CallError, abort, artifacts_down, incident
from recollect.gateway.request_ids import request_id

log = logging.getLogger(__name__)

Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]]


class ErrorInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Let no exception reach gRPC's own handler, which would put its text on the wire."""

    async def intercept_service(
        self, continuation: Continuation, details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler:
        """Wrap the handlers of one answer; the streams of health and reflection stay as they are."""
        handler = await continuation(details)
        if handler is None or handler.response_streaming:
            return handler
        method = details.method
        behaviour, wrap = handler.unary_unary, grpc.unary_unary_rpc_method_handler
        if handler.request_streaming:
            behaviour, wrap = handler.stream_unary, grpc.stream_unary_rpc_method_handler

        async def guarded(request: Any, context: grpc.aio.ServicerContext) -> Any:
            try:
                return await behaviour(request, context)
            except (asyncio.CancelledError, grpc.aio.AbortError):
                raise
            except CallError as error:
                await abort(context, error)
            except RemoteError as error:
                await abort(context, artifacts_down(error))
            except Exception:
                name = uuid.uuid4().hex
                log.exception("incident %s in %s, request_id %r", name, method, request_id.get())
                await abort(context, incident(name))

        return wrap(
            guarded,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
