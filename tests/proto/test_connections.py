"""Clients that are closed, and how long a call may be given: what callers are told."""

import asyncio
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import grpc
import pytest

from recollect_api import Append, AsyncRecollectClient, Cancelled, Event, RecollectClient, ScoreRow
from recollect_api.admin import AdminClient
from recollect_api.streams import TAKEN
from recollect_api.v1 import histories_pb2_grpc, recommender_pb2_grpc

ROWS = [ScoreRow(user_id="u", item_ids=[1])]
APPENDS = [Append(user_id="u", events=[Event(item_id=1, time=datetime(2024, 1, 1, tzinfo=UTC))])]


class Service(recommender_pb2_grpc.RecommenderServicer, histories_pb2_grpc.HistoriesServicer):
    """Takes calls and answers none before it is told to end."""

    def __init__(self):
        self.taken, self.end = threading.Semaphore(0), threading.Event()

    def Score(self, _request, context):
        self._wait(context)

    def ScoreStream(self, requests, context):
        context.send_initial_metadata((TAKEN,))
        next(requests)
        self._wait(context)
        yield from ()

    def AppendStream(self, requests, context):
        context.send_initial_metadata((TAKEN,))
        next(requests)
        self._wait(context)

    def _wait(self, context):
        self.taken.release()
        self.end.wait(30)
        context.abort(grpc.StatusCode.INTERNAL, "ended")


@pytest.fixture
def service():
    return Service()


@pytest.fixture
def target(target, service):
    yield target
    service.end.set()  # the server waits for those who wait for it


async def scored(client):
    return [pair async for pair in client.score_stream(ROWS)]


each_call = pytest.mark.parametrize(
    ("call", "awaited"),
    [
        pytest.param(lambda client: client.score("u", [1]), lambda client: client.score("u", [1]), id="a call"),
        pytest.param(lambda client: list(client.score_stream(ROWS)), scored, id="a stream of rows"),
        pytest.param(
            lambda client: client.append_stream(APPENDS),
            lambda client: client.append_stream(APPENDS),
            id="a stream of appends",
        ),
    ],
)


@each_call
def test_what_is_asked_of_a_closed_client_is_cancelled(call, awaited):
    async def ask():
        async with AsyncRecollectClient("localhost:1") as client:
            pass
        await awaited(client)

    with RecollectClient("localhost:1") as client:
        pass
    for asked in (lambda: call(client), lambda: asyncio.run(ask())):
        with pytest.raises(Cancelled, match="localhost:1: the client is closed; make another one"):
            asked()


@each_call
def test_what_is_in_flight_when_a_client_is_closed_is_cancelled(service, target, call, awaited):
    async def ask():
        client = AsyncRecollectClient(target)
        calling = asyncio.create_task(awaited(client))
        assert await asyncio.to_thread(service.taken.acquire, timeout=20)
        await client.close()
        await asyncio.wait({calling}, timeout=20)
        return calling.exception()

    assert isinstance(asyncio.run(ask()), Cancelled)
    client = RecollectClient(target)
    with ThreadPoolExecutor() as pool:
        calling = pool.submit(call, client)
        assert service.taken.acquire(timeout=20)
        client.close()
        assert isinstance(calling.exception(20), Cancelled)


@pytest.mark.parametrize("begun", [False, True], ids=["the first append", "another append"])
def test_a_stream_that_waits_when_a_client_is_closed_is_cancelled(service, target, begun):
    waits, quiet = threading.Event(), threading.Event()

    def appends():
        yield from APPENDS if begun else ()
        waits.set()
        quiet.wait(20)

    async def appends_async():
        for append in APPENDS if begun else ():
            yield append
        waits.set()
        await asyncio.Event().wait()

    async def ask():
        client = AsyncRecollectClient(target)
        calling = asyncio.create_task(client.append_stream(appends_async()))
        assert await asyncio.to_thread(waits.wait, 20)
        await client.close()
        await asyncio.wait({calling}, timeout=10)
        return calling.exception()

    assert isinstance(asyncio.run(ask()), Cancelled)
    waits.clear()
    client = RecollectClient(target)
    with ThreadPoolExecutor() as pool:
        calling = pool.submit(client.append_stream, appends())
        assert waits.wait(20)
        client.close()
        assert isinstance(calling.exception(10), Cancelled)
    quiet.set()


@each_call
def test_a_task_that_is_cancelled_stays_so(service, target, call, awaited):
    async def ask():
        async with AsyncRecollectClient(target) as client:
            calling = asyncio.create_task(awaited(client))
            assert await asyncio.to_thread(service.taken.acquire, timeout=20)
            calling.cancel()
            await asyncio.wait({calling}, timeout=20)
            return calling.cancelled()

    assert asyncio.run(ask())


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -math.inf, 1e10])
def test_times_that_no_clock_reaches_are_refused(seconds):
    for name in ("timeout_s", "classify_timeout_s", "stream_timeout_s"):
        with pytest.raises(ValueError, match=f"^{name} must be at most 1e\\+09 seconds, got {seconds}"):
            RecollectClient("localhost:1", **{name: seconds})
    with pytest.raises(ValueError, match="judging_timeout_s must be at most"):
        AdminClient("localhost:1", judging_timeout_s=seconds)
    with (
        RecollectClient("localhost:1") as client,
        pytest.raises(ValueError, match=f"^timeout_s must be at most 1e\\+09 seconds, got {seconds}"),
    ):
        client.history_stats(timeout_s=seconds)
