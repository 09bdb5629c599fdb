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
)
from recollect_api.v1 import recommender_pb2

_MANY = "gallery"
"""Of which a process answers with several at a time; of any other kind with one."""
_serving: dict[tuple[str, str], tuple[str, str]] = {}
_changing = Lock()


def answered(
    method: str, *, history: int | None, candidates: int, degraded: Iterable[recommender_pb2.DegradedReason.ValueType]
) -> None:
    """Count an answer of the recommender: behaviours of its history (None: it could not be had), candidates that were
    ranked, and what made it worse than it could be."""
    if history is not None:
        HISTORY_EVENTS.observe(history)
    CANDIDATES.labels(method).observe(candidates)
    for reason in degraded:
        name = recommender_pb2.DegradedReason.Name(reason).removeprefix("DEGRADED_REASON_")
        DEGRADED.labels(method, name).inc()


def compared(version: str, *, score_change: float, top_shared: float) -> None:
    """Note how far the canary of `version` agreed with an answer that went out."""
    CANARY_CHANGE.labels(version).observe(score_change)
    CANARY_TOP_SHARED.labels(version).observe(top_shared)


def refused(reason: str) -> None:
    """Count the end of the present call without an answer."""
    call = current.get()
    if call is not None:
        call.reason = reason
        CALLS_REFUSED.labels(call.method, reason).inc()


def redis_failed() -> None:
    """Count that Redis did not serve the present call."""
    REDIS_ERRORS.labels(method_now()).inc()


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
