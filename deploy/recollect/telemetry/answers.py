"""Count what answers were made of: how much history, how many candidates, what was missing, by which versions."""

from collections.abc import Iterable
from threading import Lock

from recollect.telemetry.current import current, method_now
from recollect.telemetry.metrics import (
    CALLS_REFUSED,
    CANARY_CHANGE,
    CANARY_TOP_SHARED,
    CANDIDATES,
    DEGRADED,
    HISTORY_EVENTS,
    REDIS_ERRORS,
    REPLICAS_SERVING,
    of,
)
from recollect_api.v1 import recommender_pb2

_REASONS = {number: name.removeprefix("DEGRADED_REASON_") for name, number in recommender_pb2.DegradedReason.items()}
_MANY = "gallery"
"""Of which a process answers with several at a time; of any other kind with one."""
_serving: dict[tuple[str, str], tuple[str, str]] = {}
_changing = Lock()


def answered(
    *, history: int | None, candidates: int, degraded: Iterable[recommender_pb2.DegradedReason.ValueType]
) -> None:
    """Count an answer of the recommender to the present call: behaviours of its history (None: it could not be had),
    candidates that were ranked, and what made it worse than it could be."""
    method = method_now()
    if history is not None:
        HISTORY_EVENTS.observe(history)
    of(CANDIDATES, method).observe(candidates)
    for reason in degraded:
        of(DEGRADED, method, _REASONS[reason]).inc()


def compared(version: str, *, score_change: float, top_shared: float) -> None:
    """Note how far the canary of `version` agreed with an answer that went out."""
    CANARY_CHANGE.labels(version).observe(score_change)
    CANARY_TOP_SHARED.labels(version).observe(top_shared)


def refused(reason: str) -> None:
    """Count the end of the present call without an answer."""
    call = current.get()
    if call is not None:
        call.reason = reason
        of(CALLS_REFUSED, call.method, reason).inc()


def row_refused(reason: str) -> None:
    """Count a row of a stream that got a refusal for an answer; the stream goes on."""
    of(CALLS_REFUSED, method_now(), reason).inc()


def redis_failed() -> None:
    """Count that Redis did not serve the present call."""
    of(REDIS_ERRORS, method_now()).inc()


def serving(kind: str, name: str, version: str) -> None:
    """Tell that this process answers with `version` of `name` from now on, and with nothing else of that kind; of
    galleries, with no other version.

    `kind` is "model", "canary", "index", "catalogue", "gallery", "encoder" or "composed model".
    """
    key = (kind, name if kind == _MANY else "")
    with _changing:
        before = _serving.get(key)
        if before is not None:
            REPLICAS_SERVING.labels(kind, *before).set(0)
        _serving[key] = (name, version)
        REPLICAS_SERVING.labels(kind, name, version).set(1)
