"""All metrics of the service, by name: what each counts and in which unit.

Every process counts by itself. Where `PROMETHEUS_MULTIPROC_DIR` names a directory when this file is imported, the
counts lie in files there, one set a process, from which any process of the machine tells the sum of all; what a killed
process has counted stays in them. Without it they are this process's own. No label holds an id, a text or a picture of
a caller, and each has few values.
"""

import os
from functools import cache
from pathlib import Path
from typing import TypeVar

if _directory := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
    # The lines below open files there; on another node than the first nobody has made it yet.
    Path(_directory).mkdir(parents=True, exist_ok=True)

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()
"""All metrics of this process."""

M = TypeVar("M", Counter, Gauge, Histogram)


@cache
def of(metric: M, *labels: str) -> M:
    """The part of `metric` with those values of its labels, remembered: `labels` takes longer than to count."""
    return metric.labels(*labels)


_SECONDS = (
    *(0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075),
    *(0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0),
)
_STAGE_SECONDS = (0.0001, 0.00025, *_SECONDS)

CALLS = Counter(
    "recollect_calls", "Calls that have ended, by method and gRPC status.", ["method", "code"], registry=REGISTRY
)
CALL_SECONDS = Histogram(
    "recollect_call_duration_seconds",
    "Time from a call's arrival to its end.",
    ["method"],
    buckets=_SECONDS,
    registry=REGISTRY,
)
CALLS_IN_FLIGHT = Gauge(
    "recollect_calls_in_flight",
    "Calls that have arrived and not ended.",
    ["method"],
    multiprocess_mode="livesum",
    registry=REGISTRY,
)
CALLS_REFUSED = Counter(
    "recollect_calls_refused",
    "Calls, and rows of streams, that got no answer, by reason.",
    ["method", "reason"],
    registry=REGISTRY,
)
STAGE_SECONDS = Histogram(
    "recollect_stage_duration_seconds",
    "Time that a stage of a call took.",
    ["stage"],
    buckets=_STAGE_SECONDS,
    registry=REGISTRY,
)
QUEUE_DEPTH = Gauge(
    "recollect_queue_depth",
    "Pieces of work that wait for their turn.",
    ["queue"],
    multiprocess_mode="livesum",
    registry=REGISTRY,
)
TURN_QUEUE = QUEUE_DEPTH.labels("turn")
"""Calls that were let in and wait until they are read for."""
RANKING_QUEUE = QUEUE_DEPTH.labels("ranking")
"""Calls that wait for a thread that ranks."""
BATCH_SIZE = Histogram(
    "recollect_batch_size",
    "Calls or pictures that were computed together.",
    ["work"],
    buckets=(1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128),
    registry=REGISTRY,
)
RANKING_BATCH = BATCH_SIZE.labels("ranking")
"""Calls that were ranked together."""
HISTORY_EVENTS = Histogram(
    "recollect_history_events",
    "Behaviours of the history that a call was answered with.",
    buckets=(0, 1, 10, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000),
    registry=REGISTRY,
)
CANDIDATES = Histogram(
    "recollect_candidates",
    "Candidates that were ranked for an answer of the recommender; a row of a stream has an answer of its own.",
    ["method"],
    buckets=(1, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000),
    registry=REGISTRY,
)
DEGRADED = Counter(
    "recollect_degraded_answers",
    "Answers that were worse than they could be, by what was missing.",
    ["method", "reason"],
    registry=REGISTRY,
)
REDIS_ERRORS = Counter(
    "recollect_redis_errors",
    "Times that Redis did not answer a call, or not in time, or gave it what cannot be read.",
    ["method"],
    registry=REGISTRY,
)
REPLICAS_SERVING = Gauge(
    "recollect_replicas_serving",
    "Processes that answer with this version.",
    ["kind", "name", "version"],
    multiprocess_mode="livesum",
    registry=REGISTRY,
)
PROCESS_STARTS = Counter(
    "recollect_process_starts", "Processes that were started, those that have ended too.", ["role"], registry=REGISTRY
)
CANARY_CHANGE = Histogram(
    "recollect_canary_score_change",
    "Mean absolute difference of a call's scores by the canary from those that went out.",
    ["version"],
    buckets=(0.0001, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0),
    registry=REGISTRY,
)
CANARY_TOP_SHARED = Histogram(
    "recollect_canary_top_shared",
    "Share of a call's first ten candidates that are the canary's first ten, too.",
    ["version"],
    buckets=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    registry=REGISTRY,
)
PROCESS_START = Gauge(
    "recollect_process_start_time_seconds",
    "When the process was started, in seconds since the Unix epoch.",
    ["role", "version"],
    multiprocess_mode="liveall",
    registry=REGISTRY,
)
