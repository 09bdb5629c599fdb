"""More calls than can be answered, and callers who do not wait: what is refused, and what is never begun."""

import asyncio
import threading
import time

import pytest

from recollect_api import AsyncRecollectClient, DeadlineExceeded, RecollectClient, Unavailable

SLOW_S = 0.05


@pytest.fixture
def slow(monkeypatch):
    """Let each call of a gateway's ranker take its time; when each began is kept."""

    def slow_down(gateway, seconds=SLOW_S):
        ranker, begun = gateway.ranker, []
        rank = ranker.rank

        def slowly(*arguments, **options):
            begun.append(time.monotonic())
            time.sleep(seconds)
            return rank(*arguments, **options)

        monkeypatch.setattr(ranker, "rank", slowly)
        monkeypatch.setattr("recollect.gateway.workers.MOST_TOGETHER", 1)
        return begun

    return slow_down


def at_once(gateway, calls, *, timeout_s):
    """What becomes of so many calls that come together: scores, or the error."""

    async def main():
        async with AsyncRecollectClient(gateway.address, timeout_s=timeout_s) as client:
            return await asyncio.gather(
                *(client.score("nobody", [number]) for number in range(calls)), return_exceptions=True
            )

    return asyncio.run(main())


def test_a_call_that_would_wait_too_long_is_refused_at_once_with_when_to_come_again(start_gateway, slow):
    gateway = start_gateway(ranking_threads=1, most_wait_s=0.3)
    slow(gateway)
    at_once(gateway, 5, timeout_s=30)  # it learns how long a call takes
    outcomes = at_once(gateway, 60, timeout_s=30)
    refused = [each for each in outcomes if isinstance(each, Unavailable)]
    answered = [each for each in outcomes if not isinstance(each, BaseException)]
    assert len(refused) + len(answered) == 60
    # Two at once, and as many behind them as 0.3 s have room for at 0.05 s each; more while it was faster.
    assert 4 <= len(answered) <= 30
    assert {error.reason for error in refused} == {"OVERLOADED"}
    assert all(0 < error.retry_after_s <= 1 for error in refused)


def test_after_an_overload_calls_are_answered_as_before(start_gateway, slow):
    gateway = start_gateway(ranking_threads=1, most_wait_s=0.1)
    slow(gateway)
    at_once(gateway, 5, timeout_s=30)
    assert any(isinstance(each, Unavailable) for each in at_once(gateway, 60, timeout_s=30))
    with RecollectClient(gateway.address, timeout_s=30) as client:
        for _ in range(3):
            client.score("nobody", [1])
    assert gateway.gateway._admission.inside == 0


def test_a_call_whose_deadline_its_turn_would_miss_is_refused_before_that(start_gateway, slow):
    gateway = start_gateway(ranking_threads=1, most_wait_s=30)
    slow(gateway)
    at_once(gateway, 5, timeout_s=30)
    outcomes = at_once(gateway, 60, timeout_s=0.5)
    assert any(isinstance(each, Unavailable) and each.reason == "OVERLOADED" for each in outcomes)


def test_no_work_begins_for_a_caller_whose_deadline_has_passed(start_gateway, slow, eventually):
    gateway = start_gateway(ranking_threads=1)
    begun = slow(gateway, seconds=1.0)
    ended = []

    def call():
        with RecollectClient(gateway.address, timeout_s=0.2, connections=1) as client:
            try:
                client.score("nobody", [1])
            except (DeadlineExceeded, Unavailable):
                ended.append(time.monotonic())

    callers = [threading.Thread(target=call) for _ in range(20)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(30)
    assert len(ended) == 20
    eventually(lambda: gateway.gateway._admission.inside == 0)
    with RecollectClient(gateway.address, timeout_s=30) as client:
        client.score("nobody", [2])  # behind whatever would still be begun
    # The first of them had a thread to itself; the last is the one that had time to wait.
    assert len(begun) == 2
