"""Measure a whole service under load: what a call costs, how much it takes, and what becomes of too much."""

import asyncio
import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from recollect.gateway.benchmarks.alone import Overhead, Proxied, measure_overhead, measure_proxied
from recollect.gateway.benchmarks.open_loop import Offered, offer
from recollect.gateway.benchmarks.proxy import free_port, proxied, start_proxy
from recollect.gateway.benchmarks.saturation import (
    OnStep,
    Overloaded,
    OverloadPlan,
    Ramp,
    best_rate_of,
    climb,
    overload,
    saturation_of,
)
from recollect.gateway.benchmarks.service import Sender, ServiceSizes, benched_service
from recollect_api.channel import ChannelConfig
from recollect_api.throttling import Throttle
from recsys.history.benchmarks.running import new_event_loop

WELL_BELOW = 0.3
"""Share of the saturation at which latencies are told."""
SEND_ALL, HEED = "overload", "overload, heeded"
"""Who overloads the service: callers who send every call, and such as heed refusals."""
QUIET_CALLS = 1_000
"""One after the other: seconds, of which what else a shared machine does takes some but not most."""
TIMEOUT_S = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadConfig:
    """How a service is loaded."""

    sizes: ServiceSizes = field(default_factory=ServiceSizes)
    connections: int = 64
    """Of the generator; replicas share a port by connections."""
    step_seconds: float = 6.0
    overload_factor: float = 3.0
    """What is offered of the saturation; 0 leaves the overload out."""
    overload_seconds: float = 60.0
    proxy: bool = False
    """Whether Ray Serve's own gRPC proxy is measured beside."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadResult:
    """What was measured."""

    steps: list[Offered]
    saturation: float
    """Answers a second, at most."""
    well_below: Offered
    overloaded: list[Overloaded]
    """By callers who send every call, and by those who heed refusals as our clients do; empty where it was left out."""
    sizes: ServiceSizes | None = None
    """None for a service that somebody else started."""
    overhead: Overhead | None = None
    """Likewise."""
    through_proxy: Proxied | None = None
    """Likewise, and where it was left out."""

    def rows(self) -> list[dict[str, Any]]:
        """One row each step, flat."""
        told = [("ramp", step) for step in self.steps] + [("well below", self.well_below)]
        rows = [self._row(kind, step, None) for kind, step in told]
        return rows + [self._row(over.callers, over.offered, over) for over in self.overloaded]

    def _row(self, kind: str, step: Offered, over: Overloaded | None) -> dict[str, Any]:
        quiet, through_proxy = self.overhead, self.through_proxy
        return {
            "kind": kind,
            "history": None if self.sizes is None else self.sizes.history,
            "candidates": None if self.sizes is None else self.sizes.candidates,
            "replicas": None if self.sizes is None else self.sizes.replicas,
            "offered_rps": round(step.rate, 1),
            "goodput_rps": round(step.goodput, 1),
            "p50_ms": _rounded(step.taken_ms(50)),
            "p99_ms": _rounded(step.taken_ms(99)),
            "errors": int(step.refused().total()),
            "codes": dict(step.refused()),
            "late_p99_ms": _rounded(float(np.percentile(step.late_s, 99)) * 1_000),
            "inprocess_p50_ms": None if quiet is None else _rounded(quiet.model_ms),
            "call_p50_ms": None if quiet is None else _rounded(quiet.call_ms),
            "overhead_ms": None if quiet is None else _rounded(quiet.beyond_ms),
            "serve_proxy_p50_ms": None if through_proxy is None else _rounded(through_proxy.proxied_ms),
            "beside_serve_proxy_p50_ms": None if through_proxy is None else _rounded(through_proxy.call_ms),
            "saturation_rps": round(self.saturation, 1),
            "peak_rps": None if over is None else _rounded(over.peak),
            "goodput_share": None if over is None else _rounded(over.goodput_share),
            "refused_p99_ms": None if over is None else _rounded(over.refused_p99_ms),
            "recovery_s": None if over is None else _rounded(over.recovery_s),
        }


def measure_own(config: LoadConfig, *, on_stage: Callable[[str], None], on_step: OnStep) -> LoadResult:
    """Start a service of random weights and histories, and measure it."""
    with ExitStack() as stack:
        port = free_port() if config.proxy else None
        start = None if port is None else partial(start_proxy, port)
        service = stack.enter_context(benched_service(config.sizes, on_stage=on_stage, before_gateways=start))
        on_stage("one call after the other")
        overhead, through_proxy = measure_overhead(service, calls=QUIET_CALLS), None
        if port is not None:
            on_stage("the same through Ray Serve's own gRPC proxy")
            with proxied(service):
                through_proxy = measure_proxied(service, calls=QUIET_CALLS, proxy_port=port)
        requests = [asked.request for asked in service.asked]
        first_rate = 0.3 * 1_000 / overhead.call_ms
        loaded = measure_target(
            ChannelConfig(target=service.address),
            requests,
            config,
            first_rate=first_rate,
            on_stage=on_stage,
            on_step=on_step,
        )
    return replace(loaded, sizes=config.sizes, overhead=overhead, through_proxy=through_proxy)


def measure_target(
    channel: ChannelConfig,
    requests: Sequence[bytes],
    config: LoadConfig,
    *,
    first_rate: float,
    on_stage: Callable[[str], None],
    on_step: OnStep,
) -> LoadResult:
    """Measure a service that runs, with `requests` in turn; the ramp begins at `first_rate` calls a second."""

    async def load() -> LoadResult:
        random = np.random.default_rng(config.seed)
        send = Sender(channel, requests, connections=config.connections, timeout_s=TIMEOUT_S)
        try:
            await send.connect()
            on_stage("more and more calls")
            ramp = Ramp(first_rate=first_rate, seconds=config.step_seconds)
            steps = await climb(send, ramp, random=random, on_step=on_step)
            saturation = saturation_of(steps)
            on_stage("well below what it takes")
            well_below = await offer(
                send, rate=WELL_BELOW * saturation, seconds=max(20.0, 3 * config.step_seconds), random=random
            )
            on_step("well below", well_below)
            plan = OverloadPlan(
                saturation=saturation,
                best_rate=best_rate_of(steps),
                factor=config.overload_factor,
                seconds=config.overload_seconds,
                peak_seconds=config.step_seconds / 2,
            )
            overloaded = []
            for callers, sending in ((SEND_ALL, send), (HEED, send.heeding(Throttle()))) if plan.factor > 0 else ():
                on_stage(f"far more than it takes: {callers}")
                over = await overload(sending, callers=callers, plain=send, plan=plan, random=random, on_step=on_step)
                overloaded.append(over)
        finally:
            await send.close()
        return LoadResult(steps=steps, saturation=saturation, well_below=well_below, overloaded=overloaded)

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(load())


def _rounded(value: float) -> float | None:
    """None where there is no number: JSON has none for it either."""
    return round(value, 3) if math.isfinite(value) else None
