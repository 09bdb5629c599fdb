"""A Redis that hangs degrades answers: calls do not wait for it one after another until nearly all are refused."""

import asyncio
import logging
import os
import signal
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime

import grpc
import pytest

from recollect.embedded.redis import EmbeddedRedis
from recollect_api import DegradedReason, Event, RecollectClient, Unavailable
from recollect_api.v1 import recommender_pb2, recommender_pb2_grpc

AS_SERVED_S = 0.25
"""How long calls wait for Redis where nothing is set."""
CALLERS, CALLS = 10, 100


@pytest.fixture
def redis(tmp_path):
    with EmbeddedRedis(tmp_path / "redis") as server:
        yield server


@contextmanager
def hanging(redis):
    os.kill(redis.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(redis.pid, signal.SIGCONT)


def outcomes(address, *, timeout_s):
    """What callers get who ask one time after another: reasons why answers are worse, or codes."""
    told: Counter[object] = Counter()

    async def ask(stub):
        for _ in range(CALLS):
            try:
                request = recommender_pb2.ScoreRequest(user_id="somebody", item_ids=[1])
                told[tuple((await stub.Score(request, timeout=timeout_s)).degraded)] += 1
            except grpc.aio.AioRpcError as error:
                told[error.code().name] += 1
            await asyncio.sleep(0.01)

    async def main():
        async with grpc.aio.insecure_channel(address) as channel:
            stub = recommender_pb2_grpc.RecommenderStub(channel)
            await asyncio.gather(*(ask(stub) for _ in range(CALLERS)))

    asyncio.run(main())
    return told


@pytest.mark.parametrize(
    ("redis_s", "timeout_s"),
    [pytest.param(AS_SERVED_S, 30, id="patient"), pytest.param(2.0, 1.0, id="gone-before-redis-is-late")],
)
def test_a_redis_that_hangs_degrades_nearly_all_scores_and_refuses_few(
    start_gateway, redis, eventually, redis_s, timeout_s, caplog
):
    gateway = start_gateway(redis_url=redis.url, history_timeout_s=redis_s, most_wait_s=1.0)
    with RecollectClient(gateway.address, timeout_s=30) as client:
        assert client.score("somebody", [1]).degraded == (DegradedReason.HISTORY_EMPTY,)
        with hanging(redis), caplog.at_level(logging.WARNING, logger="recollect.gateway.history_reading"):
            told = outcomes(gateway.address, timeout_s=timeout_s)
            with pytest.raises(Unavailable) as refused:
                client.append("somebody", [Event(item_id=1, time=datetime(2024, 1, 1, tzinfo=UTC))])
        assert told[(recommender_pb2.DEGRADED_REASON_HISTORY_UNAVAILABLE,)] >= 0.9 * told.total()
        assert refused.value.reason == "HISTORY_UNAVAILABLE"
        lines = [record for record in caplog.records if "without a history" in record.message]
        assert 1 <= len(lines) < told.total() / 10
        eventually(lambda: client.score("somebody", [1]).degraded == (DegradedReason.HISTORY_EMPTY,))


def test_where_one_call_was_late_the_next_asks_redis_again(start_gateway, redis):
    gateway = start_gateway(redis_url=redis.url, history_timeout_s=AS_SERVED_S)
    with RecollectClient(gateway.address, timeout_s=30) as client:
        with hanging(redis):
            assert client.score("somebody", [1]).degraded == (DegradedReason.HISTORY_UNAVAILABLE,)
        assert client.score("somebody", [1]).degraded == (DegradedReason.HISTORY_EMPTY,)
