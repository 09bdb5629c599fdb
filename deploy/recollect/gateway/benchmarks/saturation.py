"""Find how much a service can take, what calls take well below that, and what becomes of them far above it."""

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np

from recollect.gateway.benchmarks.open_loop import Offered, offer
from recollect_api.throttling import THROTTLED

Send = Callable[[int], Awaitable[str]]
OnStep = Callable[[str, Offered], None]
"""Told what was offered, and what became of it."""

STEP = 1.25
"""How much more each step of the ramp offers."""
SATURATED = 0.95
"""A service that answers a smaller share of what is offered takes no more."""
RECOVERED = 0.9
"""Share of the calls that a service which has recovered answers in every half second."""
_WINDOW_S = 0.5
PEAK_ROUNDS = 3
"""How often each rate near the saturation is offered before an overload, and again after it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ramp:
    """How a ramp is climbed."""

    first_rate: float
    """Calls a second of its first step."""
    seconds: float = 6.0
    """Length of a step."""
    most_steps: int = 24


@dataclass(frozen=True, kw_only=True, slots=True)
class OverloadPlan:
    """How a service is overloaded."""

    saturation: float
    """Answers a second that it was seen to give."""
    best_rate: float
    """Calls a second that were offered then."""
    factor: float
    """What is offered, by the saturation."""
    seconds: float
    peak_seconds: float
    """Length of each step near the saturation, before and after."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Overloaded:
    """What became of calls while a multiple of what can be answered was offered, and afterwards."""

    callers: str
    """Who called."""
    offered: Offered
    factor: float
    """What was offered, by the saturation."""
    peak: float
    """Answers a second near the saturation, right before and after: a shared machine may be another one than in the
    ramp, whose saturation, the best of many steps, is also that of a lucky one."""
    goodput_share: float
    """Answers a second meanwhile, by that."""
    refused_p99_ms: float
    """How long calls that the service refused waited for that; those that callers kept back never reached it."""
    recovery_s: float
    """After the overload, the time until the service answers nearly every call again; infinite where it never did."""


async def climb(send: Send, ramp: Ramp, *, random: np.random.Generator, on_step: OnStep) -> list[Offered]:
    """Offer more and more until the service takes no more; the last step, or two, is beyond that."""
    steps: list[Offered] = []
    rate, beyond = ramp.first_rate, 0
    for _ in range(ramp.most_steps):
        step = await offer(send, rate=rate, seconds=ramp.seconds, random=random)
        steps.append(step)
        on_step("ramp", step)
        # A hiccup of the machine is no saturation: two steps in a row are.
        beyond = beyond + 1 if step.goodput < SATURATED * step.rate else 0
        if beyond == 2:
            break
        rate *= STEP
    return steps


def saturation_of(steps: list[Offered]) -> float:
    """Most answers a second that any step had."""
    return max(step.goodput for step in steps)


def best_rate_of(steps: list[Offered]) -> float:
    """What was offered where most were answered, calls a second."""
    return max(steps, key=lambda step: step.goodput).rate


async def overload(
    send: Send,
    *,
    callers: str,
    plain: Send,
    plan: OverloadPlan,
    random: np.random.Generator,
    on_step: OnStep,
) -> Overloaded:
    """Offer what `plan` says by `send`, then half of the saturation for as long as recovery may take; before and after,
    what the service answers near its saturation, by `plain`, which sends every call."""
    near = (plan.best_rate / STEP, plan.best_rate)
    answered: dict[float, list[float]] = {rate: [] for rate in near}

    async def look() -> None:
        for _ in range(PEAK_ROUNDS):
            for rate in near:
                step = await offer(plain, rate=rate, seconds=plan.peak_seconds, random=random)
                answered[rate].append(step.goodput)
                on_step("near saturation", step)

    await look()
    offered = await offer(send, rate=plan.factor * plan.saturation, seconds=plan.seconds, random=random)
    on_step(callers, offered)
    after = await offer(send, rate=0.5 * plan.saturation, seconds=10.0, random=random)
    on_step("after it", after)
    await look()
    peak = max(float(np.median(goodputs)) for goodputs in answered.values())
    return Overloaded(
        callers=callers,
        offered=offered,
        factor=plan.factor,
        peak=peak,
        goodput_share=offered.goodput / peak if peak else math.nan,
        refused_p99_ms=offered.taken_ms(99, of=~offered.answered & (offered.codes != THROTTLED)),
        recovery_s=_recovery_s(after),
    )


def _recovery_s(after: Offered) -> float:
    """Begin of the first window from which on nearly all calls are answered."""
    windows = (after.due_s / _WINDOW_S).astype(int)
    bad = [at for at in range(windows[-1] + 1) if not _well(after.answered[windows == at])]
    if not bad:
        return 0.0
    return math.inf if bad[-1] == windows[-1] else (bad[-1] + 1) * _WINDOW_S


def _well(answered: np.ndarray) -> bool:
    return len(answered) == 0 or float(answered.mean()) >= RECOVERED
