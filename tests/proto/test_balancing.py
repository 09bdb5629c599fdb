"""Calls go where least is to do: to a connection with few calls under way, none of which failed lately."""

import heapq
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import grpc
import pytest

from recollect_api.balancing import FAILURE_COUNTS, Balancer
from recollect_api.fading import HALF_LIFE_S
from recollect_api.v1 import recommender_pb2, recommender_pb2_grpc

FORGOTTEN_S = 2.01 * HALF_LIFE_S


class Failed(grpc.RpcError):
    def __init__(self, code):
        self._code = code

    def code(self):
        return self._code


def fail(balancer, code):
    """Make a call that fails, and tell over which connection."""
    with suppress(Failed), balancer.call() as connection:
        raise Failed(code)
    return connection


def called(balancer):
    with balancer.call() as connection:
        return connection


def test_one_call_after_the_other_takes_each_in_turn():
    balancer = Balancer("abc")
    assert [called(balancer) for _ in range(7)] == list("abcabca")


def test_a_connection_with_more_calls_under_way_is_left_out():
    balancer = Balancer("ab")
    with ExitStack() as long_calls:
        assert long_calls.enter_context(balancer.call()) == "a"
        assert [called(balancer) for _ in range(4)] == ["b"] * 4
        assert [long_calls.enter_context(balancer.call()) for _ in range(3)].count("a") == 1
    assert sorted(called(balancer) for _ in range(2)) == ["a", "b"]


@pytest.mark.parametrize(("drawn", "other"), [*enumerate("bcd")])
def test_any_of_the_others_is_the_second_choice(drawn, other):
    balancer = Balancer("abcd", below=lambda _: drawn)
    with balancer.call():
        assert [called(balancer) for _ in range(3)] == list("bcd")
        assert called(balancer) == other


def test_a_replica_with_more_connections_than_the_other_does_not_fall_behind():
    # Each of two replicas answers one call a second; one has 42 of 64 connections.
    balancer = Balancer(["crowded"] * 42 + ["other"] * 22, below=random.Random(0).randrange)
    free_at, under_way = {"crowded": 0.0, "other": 0.0}, []
    for arrival in range(2_000):
        now = arrival / 1.9
        while under_way and under_way[0][0] <= now:
            _, _, call = heapq.heappop(under_way)
            call.close()
        call = ExitStack()
        replica = call.enter_context(balancer.call())
        free_at[replica] = max(free_at[replica], now) + 1
        heapq.heappush(under_way, (free_at[replica], arrival, call))
    # In turn, 1,312 calls would go to the crowded one, which answers 1,052 meanwhile.
    assert len(under_way) < 60


@pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN"])
def test_where_a_call_failed_the_next_goes_elsewhere_for_a_while(code, clock):
    balancer = Balancer("ab", monotonic=clock)
    assert fail(balancer, grpc.StatusCode[code]) == "a"
    assert [called(balancer) for _ in range(4)] == ["b"] * 4
    clock.now += FORGOTTEN_S
    assert sorted(called(balancer) for _ in range(2)) == ["a", "b"]


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "NOT_FOUND", "CANCELLED", "PERMISSION_DENIED", "ABORTED"])
def test_what_is_wrong_with_a_call_says_nothing_of_its_connection(code, clock):
    balancer = Balancer("ab", monotonic=clock)
    assert [fail(balancer, grpc.StatusCode[code]) for _ in range(4)] == list("abab")


def test_a_connection_that_fails_is_still_better_than_one_with_much_to_do(clock):
    balancer = Balancer("ab", monotonic=clock)
    fail(balancer, grpc.StatusCode.UNAVAILABLE)
    with ExitStack() as long_calls:
        taken = [long_calls.enter_context(balancer.call()) for _ in range(FAILURE_COUNTS + 2)]
    assert taken.count("a") == 1


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_call_that_ends_otherwise_is_under_way_no_more(error, clock):
    balancer = Balancer("ab", monotonic=clock)
    with pytest.raises(error), balancer.call():
        raise error
    assert [called(balancer) for _ in range(4)] == list("baba")


def test_a_stream_goes_where_there_is_least_to_do_and_counts_as_nothing():
    balancer = Balancer("ab")
    with balancer.call():
        assert [balancer.choose() for _ in range(4)] == ["b"] * 4
    assert sorted(balancer.choose() for _ in range(2)) == ["a", "b"]


def test_the_only_connection_takes_all():
    balancer = Balancer("a")
    assert {fail(balancer, grpc.StatusCode.UNAVAILABLE) for _ in range(5)} == {called(balancer)} == {"a"}


def test_no_connection_is_refused():
    with pytest.raises(ValueError, match="connections is empty"):
        Balancer([])


def test_threads_leave_nothing_under_way():
    balancer = Balancer("abcd")
    together = threading.Barrier(8)

    def many(_):
        together.wait()
        for number in range(2_000):
            if number % 3:
                called(balancer)
            else:
                fail(balancer, grpc.StatusCode.CANCELLED)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(many, range(8)))
    assert sorted(called(balancer) for _ in range(4)) == list("abcd")


class Replica(recommender_pb2_grpc.RecommenderServicer):
    """Answers, or refuses at once."""

    def __init__(self, *, refuses):
        self.refuses, self.asked = refuses, 0

    def Score(self, request, context):
        self.asked += 1
        if self.refuses:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too much to do")
        return recommender_pb2.ScoreResponse(scores=[1.0] * len(request.item_ids))


def test_a_replica_that_refuses_at_once_does_not_attract_the_calls(clock):
    replicas = [Replica(refuses=True), Replica(refuses=False)]
    with ExitStack() as stack:
        stubs = []
        for replica in replicas:
            server = grpc.server(ThreadPoolExecutor(4))
            stack.callback(lambda server=server: server.stop(None).wait(30))
            recommender_pb2_grpc.add_RecommenderServicer_to_server(replica, server)
            port = server.add_insecure_port("127.0.0.1:0")
            server.start()
            channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{port}"))
            stubs.append(recommender_pb2_grpc.RecommenderStub(channel))
        balancer = Balancer(stubs, monotonic=clock)  # whose time stands still: nothing is forgotten

        def ask(_):
            with suppress(grpc.RpcError), balancer.call() as stub:
                return stub.Score(recommender_pb2.ScoreRequest(user_id="u", item_ids=[1]), timeout=30)

        with ThreadPoolExecutor(4) as threads:
            answers = [answer for answer in threads.map(ask, range(200)) if answer]
    assert len(answers) == replicas[1].asked >= 195
    assert replicas[0].asked >= 1
