"""Say what a service does now, by what its counts have grown by between two readings."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from recollect.telemetry.reading import Labels, Snapshot

_FAILING = ("INTERNAL", "UNKNOWN", "UNAVAILABLE", "DATA_LOSS", "DEADLINE_EXCEEDED")
"""Statuses that are the service's fault, or that came too late."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodFigures:
    """One method."""

    method: str
    per_s: float
    """Calls that ended, a second."""
    failing: float
    """Share of them that failed through the service's fault or came too late."""
    in_flight: int
    p50_ms: float | None
    """Time of a call; None where none ended."""
    p99_ms: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class StageFigures:
    """One stage of calls."""

    stage: str
    per_s: float
    mean_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingFigures:
    """One version that answers."""

    kind: str
    name: str
    version: str
    processes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessFigures:
    """One process."""

    role: str
    pid: int
    started: float
    """Seconds since the Unix epoch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CanaryFigures:
    """How far a model that is tried agrees with what went out."""

    version: str
    compared_per_s: float
    score_change: float
    """Mean absolute difference of scores."""
    top_shared: float
    """Mean share of the first ten candidates that both have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """What a service does, over an interval."""

    seconds: float
    """Length of the interval."""
    methods: tuple[MethodFigures, ...]
    """Those that were ever called, the busiest first."""
    stages: tuple[StageFigures, ...]
    """Those that were ever passed."""
    queues: Mapping[str, int]
    """Queue → what waits in it now."""
    batches: Mapping[str, float]
    """Work → how many were computed together, the mean."""
    refused_per_s: Mapping[str, float]
    """Reason → calls refused for it, a second."""
    degraded_per_s: Mapping[str, float]
    """What was missing → answers without it, a second."""
    redis_errors_per_s: float
    history_p50: float | None
    """Behaviours that answers were computed with; None where none was."""
    history_p99: float | None
    canaries: tuple[CanaryFigures, ...]
    """Those that were compared meanwhile."""
    serving: tuple[ServingFigures, ...]
    processes: tuple[ProcessFigures, ...]


def figures(before: Snapshot, now: Snapshot) -> Figures:
    """What happened between `before` and `now`."""
    grown = _Growth(before, now)
    return Figures(
        seconds=round(grown.seconds, 3),
        methods=tuple(sorted(_methods(grown), key=lambda each: (-each.per_s, each.method))),
        stages=tuple(_stages(grown)),
        queues={queue: int(value) for queue, value in grown.now("recollect_queue_depth", "queue").items()},
        batches={
            work: mean
            for work in grown.values("recollect_batch_size_count", "work")
            if (mean := grown.mean("recollect_batch_size", work=work)) is not None
        },
        refused_per_s=grown.rates("recollect_calls_refused_total", "reason"),
        degraded_per_s=grown.rates("recollect_degraded_answers_total", "reason"),
        redis_errors_per_s=grown.rate("recollect_redis_errors_total"),
        history_p50=grown.quantile(0.5, "recollect_history_events"),
        history_p99=grown.quantile(0.99, "recollect_history_events"),
        canaries=tuple(_canaries(grown)),
        serving=tuple(sorted(_serving(now), key=lambda each: (each.kind, each.name, each.version))),
        processes=tuple(sorted(_processes(now), key=lambda each: (each.role, each.started))),
    )


def quantile(share: float, buckets: Mapping[float, float]) -> float | None:
    """The value below which that share of observations lies, as Prometheus has it: evenly spread within a bucket.

    `buckets` maps upper bounds, infinity among them, to how many observations are no greater. None where there are
    none; the highest finite bound where it lies beyond.
    """
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0.0
    if total <= 0:
        return None
    wanted, below, lower = share * total, 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= wanted:
            if math.isinf(bound):
                break
            inside = buckets[bound] - below
            return bound if inside <= 0 else lower + (bound - lower) * (wanted - below) / inside
        below, lower = buckets[bound], bound
    return lower


class _Growth:
    """What counters have grown by."""

    def __init__(self, before: Snapshot, now: Snapshot) -> None:
        self._before = before
        self._now = now
        self.seconds = max(now.at - before.at, 1e-9)

    def values(self, name: str, label: str) -> list[str]:
        """Which values of a label there are."""
        return sorted({dict(labels)[label] for labels in self._now.samples.get(name, {})})

    def now(self, name: str, label: str) -> dict[str, float]:
        """Sums by a label."""
        return _sums(self._now.samples.get(name, {}), label)

    def grown(self, name: str, **wanted: str) -> float:
        """How much the samples with those labels have grown, in all."""
        return sum(grown for _, grown in self._grown(name, wanted))

    def rate(self, name: str, **wanted: str) -> float:
        """The same a second."""
        return round(self.grown(name, **wanted) / self.seconds, 3)

    def rates(self, name: str, label: str) -> dict[str, float]:
        """The same by a label, those that grew."""
        found = {value: self.rate(name, **{label: value}) for value in self.values(name, label)}
        return {value: rate for value, rate in found.items() if rate > 0}

    def mean(self, name: str, **wanted: str) -> float | None:
        """The mean of what a histogram observed."""
        count = self.grown(f"{name}_count", **wanted)
        return round(self.grown(f"{name}_sum", **wanted) / count, 6) if count > 0 else None

    def quantile(self, share: float, name: str, **wanted: str) -> float | None:
        """A quantile of what a histogram observed."""
        buckets: dict[float, float] = {}
        for labels, grown in self._grown(f"{name}_bucket", wanted):
            bound = float(labels["le"])
            buckets[bound] = buckets.get(bound, 0.0) + grown
        found = quantile(share, buckets)
        return None if found is None else round(found, 6)

    def _grown(self, name: str, wanted: Mapping[str, str]) -> Iterator[tuple[dict[str, str], float]]:
        before = self._before.samples.get(name, {})
        for labels, value in self._now.samples.get(name, {}).items():
            if wanted.items() <= dict(labels).items():
                was = before.get(labels, 0.0)
                # A service that was started again counts from nothing.
                yield dict(labels), value - was if value >= was else value


def _methods(grown: _Growth) -> Iterator[MethodFigures]:
    in_flight = grown.now("recollect_calls_in_flight", "method")
    for method in sorted({*grown.values("recollect_calls_total", "method"), *in_flight}):
        ended = grown.grown("recollect_calls_total", method=method)
        failed = sum(grown.grown("recollect_calls_total", method=method, code=code) for code in _FAILING)
        yield MethodFigures(
            method=method,
            per_s=round(ended / grown.seconds, 3),
            failing=round(failed / ended, 6) if ended > 0 else 0.0,
            in_flight=int(in_flight.get(method, 0)),
            p50_ms=_ms(grown.quantile(0.5, "recollect_call_duration_seconds", method=method)),
            p99_ms=_ms(grown.quantile(0.99, "recollect_call_duration_seconds", method=method)),
        )


def _canaries(grown: _Growth) -> Iterator[CanaryFigures]:
    change, shared = "recollect_canary_score_change", "recollect_canary_top_shared"
    for version in grown.values(f"{change}_count", "version"):
        score_change, top_shared = grown.mean(change, version=version), grown.mean(shared, version=version)
        if score_change is not None and top_shared is not None:
            yield CanaryFigures(
                version=version,
                compared_per_s=grown.rate(f"{change}_count", version=version),
                score_change=score_change,
                top_shared=top_shared,
            )


def _stages(grown: _Growth) -> Iterator[StageFigures]:
    name = "recollect_stage_duration_seconds"
    for stage, ever in grown.now(f"{name}_count", "stage").items():
        if ever > 0:
            yield StageFigures(
                stage=stage,
                per_s=grown.rate(f"{name}_count", stage=stage),
                mean_ms=_ms(grown.mean(name, stage=stage)),
                p99_ms=_ms(grown.quantile(0.99, name, stage=stage)),
            )


def _serving(now: Snapshot) -> Iterator[ServingFigures]:
    for labels, value in now.samples.get("recollect_replicas_serving", {}).items():
        if value > 0:
            told = dict(labels)
            yield ServingFigures(kind=told["kind"], name=told["name"], version=told["version"], processes=int(value))


def _processes(now: Snapshot) -> Iterator[ProcessFigures]:
    for labels, value in now.samples.get("recollect_process_start_time_seconds", {}).items():
        told = dict(labels)
        yield ProcessFigures(role=told["role"], pid=int(told.get("pid", 0)), started=value)


def _sums(samples: Mapping[Labels, float], label: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for labels, value in samples.items():
        key = dict(labels)[label]
        found[key] = found.get(key, 0.0) + value
    return found


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1_000, 3)
