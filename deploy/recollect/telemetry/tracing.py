"""Trace calls with OpenTelemetry: spans that begin where a caller's trace is, sent to a collector over OTLP/HTTP.

Off until `start` is called; then each process of the service sends its own spans, in batches and in the background. A
provider of our own is used, so that neither Ray's spans nor those of other libraries are mixed in.
"""

import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from recollect.errors import SetupError

EXPORT_TIMEOUT_S = 5.0
"""How long one attempt to send spans may take; a service that ends waits that long for a collector that does not
answer."""

_PROPAGATOR = TraceContextTextMapPropagator()
_tracer: Tracer | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TracingConfig:
    """Where spans go."""

    endpoint: str
    """Base URL of a collector that takes OTLP over HTTP, as http://localhost:4318."""
    sample_rate: float = 1.0
    """Share of the calls that are traced, of those whose caller says nothing of it; whoever sends a trace decides."""


class Tracing:
    """Spans of this process, until `stop`."""

    def __init__(self, config: TracingConfig, role: str) -> None:
        """`role` is what the process does, such as "gateway"; SetupError where the exporter is not installed."""
        global _tracer
        require_exporter()
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

        resource = Resource.create(
            {
                "service.name": "recollect",
                "service.version": version("recollect"),
                "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
                "recollect.role": role,
            }
        )
        sampler = ParentBased(TraceIdRatioBased(config.sample_rate))
        self._provider = TracerProvider(resource=resource, sampler=sampler, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(f"{config.endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_TIMEOUT_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        _tracer = self._provider.get_tracer("recollect")

    def stop(self) -> None:
        """Send what is left; blocking."""
        global _tracer
        _tracer = None
        self._provider.shutdown()


def require_exporter() -> None:
    """SetupError where what sends spans is not installed."""
    try:
        found = find_spec("opentelemetry.exporter.otlp.proto.http.trace_exporter") is not None
    except ModuleNotFoundError:
        found = False
    if not found:
        raise SetupError(
            "tracing needs the extra `otel`; pip install 'recollect[otel]', or leave RECOLLECT_OTEL_ENDPOINT out"
        )


def active() -> bool:
    """Whether this process sends spans."""
    return _tracer is not None


def begin_call(method: str, path: str, metadata: Sequence[tuple[str, str | bytes]]) -> Span | None:
    """The span of a call, a part of the trace that its caller's `traceparent` names, and from now on that of this
    task; `end_call` ends it. None where nothing is traced."""
    if _tracer is None:
        return None
    service, _, name = path.removeprefix("/").rpartition("/")
    carrier = {key: value for key, value in metadata if isinstance(value, str)}
    span = _tracer.start_span(
        method,
        context=_PROPAGATOR.extract(carrier, contexts.Context()),
        kind=SpanKind.SERVER,
        attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": name},
    )
    # Not taken back: the task ends with the call.
    contexts.attach(trace.set_span_in_context(span))
    return span


def end_call(span: Span, *, code: str, number: int, reason: str, request_id: str, failed: bool) -> None:
    """End the span of a call with its status."""
    span.set_attribute("rpc.grpc.status_code", number)
    span.set_attribute("recollect.request_id", request_id)
    if reason:
        span.set_attribute("recollect.reason", reason)
    if failed:
        span.set_status(trace.StatusCode.ERROR, code)
    span.end()


def trace_id_of(metadata: Sequence[tuple[str, str | bytes]]) -> str:
    """The trace that a caller's `traceparent` names; empty where it names none."""
    for key, value in metadata:
        if key == "traceparent" and isinstance(value, str):
            found = trace.get_current_span(_PROPAGATOR.extract({key: value}, contexts.Context())).get_span_context()
            return shown_trace_id(found.trace_id) if found.is_valid else ""
    return ""


def shown_trace_id(number: int) -> str:
    """32 digits in hex, as traces are looked up by."""
    return trace.format_trace_id(number)


@contextmanager
def span(name: str, kind: SpanKind = SpanKind.INTERNAL) -> Iterator[None]:
    """A span below the present one, while the block runs; none where there is no present one."""
    if _tracer is None or not trace.get_current_span().get_span_context().is_valid:
        yield
        return
    with _tracer.start_as_current_span(name, kind=kind, record_exception=False):
        yield


def passed(name: str, seconds: float) -> None:
    """A span below the present one that ends now and began `seconds` ago."""
    if _tracer is None or not trace.get_current_span().is_recording():
        return
    end_ns = time.time_ns()
    _tracer.start_span(name, start_time=end_ns - int(seconds * 1e9)).end(end_ns)


def carried() -> dict[str, str]:
    """What another process needs to go on with the present trace; empty where nothing is traced."""
    carrier: dict[str, str] = {}
    if _tracer is not None:
        _PROPAGATOR.inject(carrier)
    return carrier


@contextmanager
def continued(carrier: Mapping[str, str], name: str) -> Iterator[None]:
    """A span of this process in the trace of another one, while the block runs; see `carried`."""
    if _tracer is None or "traceparent" not in carrier:
        yield
        return
    parent = _PROPAGATOR.extract(carrier, contexts.Context())
    with _tracer.start_as_current_span(name, context=parent, kind=SpanKind.SERVER, record_exception=False):
        yield
