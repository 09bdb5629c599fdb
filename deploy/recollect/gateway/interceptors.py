"""Stand around every call: a refusal becomes a status, a bug an incident."""

from typing import Any

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]

from recollect.gateway.errors import refusal
from recollect.gateway.handlers import WrappingInterceptor, behaviour_of, generates, remade
from recollect.gateway.request_ids import request_id
from recollect.gateway.statuses import abort


class ErrorInterceptor(WrappingInterceptor):
    """Let no exception reach gRPC's own handler, which would put its text on the wire."""

    def wrap(self, method: str, handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
        """Wrap the handlers of one answer, and of answers that are written to the context; generators, which only
        reflection has, stay as they are."""
        behaviour = behaviour_of(handler)
        if generates(behaviour):
            return handler

        async def guarded(request: Any, context: grpc.aio.ServicerContext) -> Any:
            try:
                return await behaviour(request, context)
            except grpc.aio.AbortError:
                raise
            except Exception as error:
                await abort(context, refusal(error, method=method, request_id=request_id.get()))

        return remade(handler, guarded)
