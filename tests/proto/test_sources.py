"""Streams of appends whose iterators are quiet, fail or are given up: nothing that was drawn is lost."""

import asyncio
import threading
from datetime import UTC, datetime

import grpc
import pytest

from recollect_api import Append, AsyncRecollectClient, Event, RecollectClient, Unavailable
from recollect_api.streams import TAKEN
from recollect_api.v1 import histories_pb2, histories_pb2_grpc

SHORT_S = 0.6
"""Of this, two thirds are spent on waiting for appends."""


def append(user_id, **time_zone):
    at = datetime(2024, 1, 1, **(time_zone or {"tzinfo": UTC}))
    return Append(user_id=user_id, events=[Event(item_id=1, time=at)])


class Service(histories_pb2_grpc.HistoriesServicer):
    """Takes what each stream brings; cuts as many streams as `cut` says behind their first append."""

    def __init__(self, cut=0):
        self.cut, self.streams = cut, []

    def AppendStream(self, requests, context):
        context.send_initial_metadata((TAKEN,))
        self.streams.append(taken := [])
        for request in requests:
            taken.append(request.append.user_id)
            if self.cut:
                self.cut -= 1
                context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
        outcomes = [histories_pb2.AppendOutcome(response=histories_pb2.AppendResponse(accepted=1)) for _ in taken]
        return histories_pb2.AppendStreamResponse(outcomes=outcomes)


class Blocking:
    """Calls of the blocking client, and iterators for it."""

    def __init__(self, client):
        self._client, self._loud = client, threading.Event()

    def append(self, parts, timeout_s=30.0):
        return self._client.append_stream(parts, timeout_s=timeout_s)

    def parts(self, *parts):
        """Yields them; is quiet at "quiet" until `go_on`, and raises what is an exception."""
        for part in parts:
            if isinstance(part, Exception):
                raise part
            if part == "quiet":
                assert self._loud.wait(20)
            else:
                yield part

    def go_on(self, after_s=0.0):
        threading.Timer(after_s, self._loud.set).start()


class Asynchronous:
    """The same of the asyncio client, in a loop of its own."""

    def __init__(self, client, runner):
        self._client, self._runner, self._loud = client, runner, asyncio.Event()

    def append(self, parts, timeout_s=30.0):
        return self._runner.run(self._client.append_stream(parts, timeout_s=timeout_s))

    async def parts(self, *parts):
        for part in parts:
            if isinstance(part, Exception):
                raise part
            if part == "quiet":
                await self._loud.wait()
            else:
                yield part

    def go_on(self, after_s=0.0):
        self._runner.get_loop().call_later(after_s, self._loud.set)


@pytest.fixture
def service():
    return Service()


@pytest.fixture(params=["blocking", "asyncio"])
def calls(request, target):
    if request.param == "blocking":
        with RecollectClient(target) as client:
            yield Blocking(client)
        return
    with asyncio.Runner() as runner:

        async def made():
            return AsyncRecollectClient(target)

        client = runner.run(made())
        yield Asynchronous(client, runner)
        runner.run(client.close())


def test_a_stream_ends_while_more_is_waited_for_and_the_next_one_begins_with_that(calls, service):
    parts = calls.parts(append("a"), "quiet", append("b"), append("c"))
    assert len(calls.append(parts, SHORT_S)) == 1
    calls.go_on()
    assert [len(calls.append(parts)) for _ in range(2)] == [2, 0]
    assert service.streams == [["a"], ["b", "c"]]


def test_no_stream_is_begun_before_there_is_an_append(calls, service):
    parts = calls.parts("quiet", append("a"))
    calls.go_on(after_s=2 * SHORT_S)
    assert len(calls.append(parts, SHORT_S)) == 1
    assert calls.append(calls.parts()) == []
    assert service.streams == [["a"]]


@pytest.mark.parametrize(
    ("wrong", "raised", "says"),
    [
        pytest.param(KeyError("the caller's own"), KeyError, "the caller's own", id="what the iterator raises"),
        pytest.param(append("b", tzinfo=None), ValueError, "must have a time zone", id="a time without a zone"),
        pytest.param(
            grpc.aio.AioRpcError(grpc.StatusCode.NOT_FOUND, grpc.aio.Metadata(), grpc.aio.Metadata(), "another's"),
            grpc.aio.AioRpcError,
            "another's",
            id="what a call of the iterator raises",
        ),
    ],
)
def test_a_mistake_of_the_caller_is_raised_when_what_came_before_is_stored(calls, service, wrong, raised, says):
    for _ in range(3):
        with pytest.raises(raised, match=says):
            calls.append(calls.parts(append("a"), wrong))
    assert service.streams == [["a"]] * 3


def test_what_an_iterator_raises_too_late_for_a_stream_is_raised_by_the_next_call(calls, service):
    parts = calls.parts(append("a"), "quiet", KeyError("late"))
    assert len(calls.append(parts, SHORT_S)) == 1
    calls.go_on()
    with pytest.raises(KeyError, match="late"):
        calls.append(parts)
    assert calls.append(parts) == []
    assert service.streams == [["a"]]


def test_a_list_is_begun_anew_after_a_stream_that_broke(calls, service):
    service.cut = 1
    parts = [append("a"), append("b")]
    with pytest.raises(Unavailable):
        calls.append(parts)
    assert len(calls.append(parts)) == 2
    assert service.streams == [["a"], ["a", "b"]]


def test_what_comes_after_a_stream_broke_is_for_the_next_one(calls, service):
    service.cut = 1
    parts = calls.parts(append("a"), "quiet", append("b"))
    with pytest.raises(Unavailable):
        calls.append(parts, SHORT_S)
    calls.go_on()
    assert len(calls.append(parts)) == 1
    assert service.streams == [["a"], ["b"]]


@pytest.mark.parametrize("closed", [False, True], ids=["the call is given up", "the client is closed"])
def test_an_awaited_iterator_is_cancelled_when(target, closed):
    ended = []

    async def parts():
        yield append("a")
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def scenario():
        async with AsyncRecollectClient(target) as client:
            stream = client.append_stream(parts(), timeout_s=SHORT_S)
            if closed:
                assert len(await stream) == 1
                assert not ended
            else:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(stream, SHORT_S / 3)
                assert ended
        return ended

    assert asyncio.run(scenario()) == [True]
