"""Refuse a call before its request is read: an interceptor gives `refusing` in place of what would answer."""

from contextvars import ContextVar
from typing import Any

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]

from recollect.gateway.errors import CallError
from recollect.gateway.statuses import abort

_error: ContextVar[CallError] = ContextVar("_error")
"""What the call that this task answers is refused with."""


def refusing(error: CallError) -> grpc.RpcMethodHandler:
    """What ends the present call with `error`; one handler for all, so that what wraps it is made once."""
    _error.set(error)
    return _REFUSING


async def _refuse(_requests: Any, context: grpc.aio.ServicerContext) -> None:
    await abort(context, _error.get())


# Of streams, whatever the method has: this answers before anything is read.
_REFUSING = grpc.stream_stream_rpc_method_handler(_refuse)
