"""Stand outermost around every call: count and time it, trace it, give it an id, write its line of log."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]

from recollect.gateway.handlers import (
    Behaviour,
    Continuation,
    WrappingInterceptor,
    behaviour_of,
    generates,
    remade,
)
from recollect.gateway.request_ids import id_of, request_id
from recollect.telemetry import tracing
from recollect.telemetry.current import Call, current, method_of
from recollect.telemetry.metrics import CALL_SECONDS, CALLS, CALLS_IN_FLIGHT, of
from recollect_api.request_ids import METADATA_KEY, fits_metadata

log = logging.getLogger("recollect.calls")
"""A line a call: at the level `info`, and at `warning` where one was slow."""

_UNCOUNTED = ("/grpc.",)
"""Health and reflection: asked all the time by what watches the service, and streams of theirs last for ever."""
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_OUR_FAULT = ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
"""Statuses that OpenTelemetry counts as errors of a server."""
_watching: ContextVar["_Watch"] = ContextVar("_watching")
"""What sees the call that this task answers."""


class CallsInterceptor(WrappingInterceptor):
    """Comes first, so that calls without a token and bytes that are no message are seen as well."""

    def __init__(self, *, slow_s: float | None = None) -> None:
        """Calls that take more than `slow_s` seconds are written down as warnings; None: none is."""
        super().__init__()
        self._slow_s = slow_s

    async def intercept_service(
        self, continuation: Continuation, details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler:
        """Wrap the handler of every method of the contract, and begin to watch the call."""
        path: str = details.method
        if path.startswith(_UNCOUNTED):
            return await continuation(details)
        arrived = time.perf_counter()
        metadata = details.invocation_metadata
        call = Call(method_of(path))
        current.set(call)
        request_id.set(id_of(metadata))
        span = tracing.begin_call(call.method, path, metadata)
        if span is None:
            call.trace_id = tracing.trace_id_of(metadata)
        else:
            call.trace_id = tracing.shown_trace_id(span.get_span_context().trace_id)
        handler = await continuation(details)
        watch = _Watch(call, span, arrived, self._slow_s)
        if handler is None:  # nobody answers it, which gRPC says
            watch.ended("UNIMPLEMENTED")
            return None
        if handler.request_streaming or handler.response_streaming:
            watch.slow_s = None  # a stream lasts as long as its caller sends
        _watching.set(watch)
        return self.wrapped(path, handler)

    def wrap(self, method: str, handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:  # noqa: ARG002 - of all
        """Have the call watched until it ends."""
        behaviour = behaviour_of(handler)
        return remade(handler, (_generating if generates(behaviour) else _awaiting)(behaviour))


def _awaiting(behaviour: Behaviour) -> Behaviour:
    async def watched(request: Any, context: grpc.aio.ServicerContext) -> Any:
        with _watching.get().over(request, context):
            return await behaviour(request, context)

    return watched


def _generating(behaviour: Behaviour) -> Behaviour:
    async def watched(request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        with _watching.get().over(request, context):
            async for response in behaviour(request, context):
                yield response

    return watched


class _Watch:
    """Sees one call from its arrival to its end."""

    __slots__ = ("_arrived", "_call", "_context", "_span", "slow_s")

    def __init__(self, call: Call, span: Any, arrived: float, slow_s: float | None) -> None:
        self._call = call
        self._span = span
        self._arrived = arrived
        self.slow_s = slow_s

    def over(self, request: Any, context: grpc.aio.ServicerContext) -> Self:
        """The same, as the context of the handler's work."""
        self._context = context
        given = getattr(request, "request_id", "")
        if given and fits_metadata(given):
            request_id.set(given)
        context.set_trailing_metadata(((METADATA_KEY, request_id.get()),))
        return self

    def __enter__(self) -> None:
        of(CALLS_IN_FLIGHT, self._call.method).inc()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        of(CALLS_IN_FLIGHT, self._call.method).dec()
        self.ended("OK" if error is None else _code_of(error, self._context))

    def ended(self, code: str) -> None:
        """Count, trace and write down the end."""
        method, seconds = self._call.method, time.perf_counter() - self._arrived
        of(CALLS, method, code).inc()
        of(CALL_SECONDS, method).observe(seconds)
        if self._span is not None:
            tracing.end_call(
                self._span,
                code=code,
                number=grpc.StatusCode[code].value[0],
                reason=self._call.reason,
                request_id=request_id.get(),
                failed=code in _OUR_FAULT,
            )
        level = logging.WARNING if self.slow_s is not None and seconds > self.slow_s else logging.INFO
        if log.isEnabledFor(level):
            reason = f" {self._call.reason}" if self._call.reason else ""
            fields = {"code": code, "duration_s": round(seconds, 6)}
            if self._call.reason:
                fields["reason"] = self._call.reason
            log.log(level, "%s %s%s in %.1f ms", method, code, reason, seconds * 1_000, extra={"fields": fields})


def _code_of(error: BaseException, context: grpc.aio.ServicerContext) -> str:
    """Which status a call has that ended with `error`."""
    if isinstance(error, grpc.aio.AbortError):
        given = context.code()
        code = given if isinstance(given, grpc.StatusCode) else _CODES.get(given, grpc.StatusCode.UNKNOWN)
        return str(code.name)
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        remaining = context.time_remaining()
        return "CANCELLED" if remaining is None or remaining > 0 else "DEADLINE_EXCEEDED"
    return "UNKNOWN"
