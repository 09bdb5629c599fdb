"""A client that asks less of a service which refuses much, and all again of one that takes it."""

import random
from typing import Any

import pytest

from recollect_api.errors import Unavailable
from recollect_api.fading import HALF_LIFE_S
from recollect_api.throttling import FEW, OVERLOADED, THROTTLED, Throttle


@pytest.fixture
def throttle(clock: Any) -> Throttle:
    return Throttle(monotonic=clock, chance=random.Random(0).random)


def lets_through(throttle: Throttle) -> bool:
    try:
        throttle.require()
    except Unavailable:
        return False
    return True


def offer(throttle: Throttle, clock: Any, *, rate: float, capacity: float, seconds: float) -> tuple[int, int]:
    """Calls at `rate` to a service that takes `capacity` a second of those sent: how many were sent, how many taken."""
    sent = taken = 0
    room = 0.0
    for _ in range(int(rate * seconds)):
        clock.now += 1 / rate
        room = min(room + capacity / rate, 10.0)
        if not lets_through(throttle):
            continue
        sent += 1
        if room >= 1:
            room -= 1
            taken += 1
            throttle.note("")
        else:
            throttle.note(OVERLOADED)
    return sent, taken


def test_a_service_that_takes_all_is_sent_all(throttle: Throttle, clock: Any) -> None:
    assert offer(throttle, clock, rate=200, capacity=250, seconds=10) == (2_000, 2_000)


def test_of_three_times_too_much_little_more_is_sent_than_is_taken(throttle: Throttle, clock: Any) -> None:
    offer(throttle, clock, rate=300, capacity=100, seconds=5)
    sent, taken = offer(throttle, clock, rate=300, capacity=100, seconds=20)
    assert taken >= 0.95 * 2_000
    assert sent <= 1.2 * taken


def test_all_is_sent_again_soon_after_the_service_takes_all(throttle: Throttle, clock: Any) -> None:
    offer(throttle, clock, rate=300, capacity=100, seconds=10)
    offer(throttle, clock, rate=100, capacity=200, seconds=5)
    sent, _ = offer(throttle, clock, rate=100, capacity=200, seconds=5)
    assert sent >= 0.98 * 500


def test_a_service_that_took_nearly_nothing_soon_gets_all_again(throttle: Throttle, clock: Any) -> None:
    offer(throttle, clock, rate=1_000, capacity=50, seconds=20)
    offer(throttle, clock, rate=1_000, capacity=1_200, seconds=3)
    sent, _ = offer(throttle, clock, rate=1_000, capacity=1_200, seconds=1)
    assert sent >= 900


def test_many_calls_at_once_are_no_sign_of_anything(throttle: Throttle) -> None:
    for _ in range(1_000):
        throttle.require()


@pytest.mark.parametrize("reason", ["OVERLOADED", "TOO_MANY_CALLS"])
def test_a_call_that_is_not_sent_says_why_and_when_to_come_again(reason: str) -> None:
    throttle = Throttle(chance=lambda: 0.0)
    for _ in range(100):
        throttle.note(reason)
    with pytest.raises(Unavailable, match="not sent: the service has more to do than it can") as refused:
        throttle.require()
    assert (refused.value.reason, refused.value.retry_after_s) == (THROTTLED, HALF_LIFE_S)


def test_few_refusals_are_no_sign_of_anything(throttle: Throttle) -> None:
    for _ in range(int(FEW)):
        throttle.require()
        throttle.note(OVERLOADED)
    throttle.require()


@pytest.mark.parametrize("reason", ["", "INVALID_REQUEST", "RATE_EXCEEDED", "HISTORY_UNAVAILABLE"])
def test_other_errors_hold_nothing_back(throttle: Throttle, reason: str) -> None:
    for _ in range(200):
        throttle.require()
        throttle.note(reason)


def test_a_service_that_is_silent_for_a_while_is_asked_again(throttle: Throttle, clock: Any) -> None:
    for _ in range(200):
        if lets_through(throttle):
            throttle.note(OVERLOADED)
    assert sum(lets_through(throttle) for _ in range(100)) < 20
    clock.now += 20 * HALF_LIFE_S
    for _ in range(int(FEW)):
        throttle.require()
