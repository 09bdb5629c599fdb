"""More calls than can be answered, and callers who do not wait: what is refused, and what is never begun."""

import asyncio
import threading
import time

import grpc
import pytest

from recollect.gateway.workers import MOST_TOGETHER
from recollect_api import AsyncRecollectClient, ClientError, DeadlineExceeded, RecollectClient, Scores, Unavailable

SLOW_S, WAITING_ITEM = 0.05, 100_002


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


def at_once(gateway, calls, *, timeout_s, items=()):
    """What becomes of so many calls that come together: scores, or the error."""

    async def main():
        async with AsyncRecollectClient(gateway.address, timeout_s=timeout_s) as client:
            return await asyncio.gather(
                *(client.score("nobody", [number, *items]) for number in range(calls)), return_exceptions=True
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


def test_what_is_refused_is_not_read(full_gateway):
    with grpc.insecure_channel(full_gateway.address) as channel, pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary("/recollect_api.v1.Recommender/Score")(b"\xff no message", timeout=30)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    with RecollectClient(full_gateway.address, timeout_s=30) as client:
        for call in (client.score, client.explain):
            with pytest.raises(Unavailable) as unanswered:
                call("nobody", [1], request_id="mine")
            assert (unanswered.value.reason, unanswered.value.request_id) == ("OVERLOADED", "mine")
        client.list_history("nobody")  # which takes no turn of what ranks


def test_of_those_who_wait_only_the_next_are_read_for(start_gateway, eventually, monkeypatch):
    gateway = start_gateway(ranking_threads=1, most_wait_s=30)
    monkeypatch.setattr("recollect.gateway.workers.MOST_AT_ONCE_S", 0.0)
    read, store = [], gateway.store.read
    monkeypatch.setattr(gateway.store, "read", lambda user, **options: read.append(user) or store(user, **options))
    answers = []

    def call():
        answers.extend(at_once(gateway, 60, timeout_s=30, items=[WAITING_ITEM]))

    callers = threading.Thread(target=call)
    callers.start()
    eventually(lambda: gateway.gateway._admission.inside == 60)
    eventually(lambda: len(read) == 2 * MOST_TOGETHER)
    gateway.release()
    callers.join(30)
    assert sum(isinstance(each, Scores) for each in answers) == len(read) == 60


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


def test_calls_that_wait_for_a_loop_that_is_late_are_not_dropped(start_gateway):
    """More of them than gRPC lets wait unseen by itself, which tells the others CANCELLED."""
    gateway = start_gateway()
    may_go_on = threading.Event()

    async def block():
        may_go_on.wait(30)

    blocked = gateway.begin(block())
    threading.Timer(3.0, may_go_on.set).start()
    outcomes = at_once(gateway, 3_500, timeout_s=60)
    blocked.result(30)
    codes = {each.code for each in outcomes if isinstance(each, ClientError)}
    assert codes <= {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert sum(isinstance(each, Scores) for each in outcomes) >= 500
