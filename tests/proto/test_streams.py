"""Streams of the clients: rows over streams that end, break or are refused, and what the caller is told of it."""

import asyncio
import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime

import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from recollect_api import (
    Append,
    AsyncRecollectClient,
    DeadlineExceeded,
    Event,
    InvalidRequest,
    PermissionRefused,
    RecollectClient,
    ScoreRow,
    Unavailable,
)
from recollect_api.streams import TAKEN
from recollect_api.v1 import histories_pb2, histories_pb2_grpc, recommender_pb2, recommender_pb2_grpc

ROWS = [ScoreRow(user_id=f"u{at}", item_ids=[at]) for at in range(150)]
APPENDS = [Append(user_id="u", events=[Event(item_id=1, time=datetime(2024, 1, 1, tzinfo=UTC))])] * 300
STATUS = grpc.StatusCode


def refusal(reason, retry_ms):
    """The status of a service that is full, and says when to come again."""
    delay, packed = Duration(), [Any(), Any()]
    delay.FromMilliseconds(retry_ms)
    packed[0].Pack(error_details_pb2.ErrorInfo(reason=reason))
    packed[1].Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status_pb2.Status(code=8, message="too many calls", details=packed)


FULL = refusal("TOO_MANY_CALLS", 100)


class Service(recommender_pb2_grpc.RecommenderServicer, histories_pb2_grpc.HistoriesServicer):
    """Each stream answers as many rows as the next of `lives` says, then ends with the status beside it; one of no rows
    is refused."""

    def __init__(self, *lives):
        self.lives = itertools.chain(lives, itertools.repeat(lives[-1]))
        self.streams, self.keys = 0, []

    def ScoreStream(self, requests, context):
        self.streams += 1
        rows, code = next(self.lives)
        if rows:
            context.send_initial_metadata((TAKEN,))
        for request in itertools.islice(requests, rows):
            self.keys.append(request.key)
            response = recommender_pb2.ScoreResponse(scores=[0.5] * len(request.score.item_ids))
            yield recommender_pb2.ScoreStreamResponse(key=request.key, response=response)
        self._end(code, context)

    def AppendStream(self, requests, context):
        rows, code = next(self.lives)
        if rows:
            context.send_initial_metadata((TAKEN,))
        taken = sum(1 for _ in itertools.islice(requests, rows))
        self._end(code, context)
        response = histories_pb2.AppendResponse(accepted=1)
        return histories_pb2.AppendStreamResponse(outcomes=[histories_pb2.AppendOutcome(response=response)] * taken)

    def Score(self, _request, context):
        self._end(next(self.lives)[1], context)

    def _end(self, code, context):
        if isinstance(code, status_pb2.Status):
            context.abort_with_status(rpc_status.to_status(code))
        elif code == "never":
            context.add_callback(lambda: None)
            while context.is_active():
                pass
        elif code is not STATUS.OK:
            context.set_trailing_metadata((("grpc-retry-pushback-ms", "70"),))
            context.abort(code, "not now")


@contextmanager
def serving(service):
    server = grpc.server(ThreadPoolExecutor(4))
    recommender_pb2_grpc.add_RecommenderServicer_to_server(service, server)
    histories_pb2_grpc.add_HistoriesServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait(30)


def scored(target, rows, *, asynchronous, timeout_s=30):
    """Each row with its answer, in either client."""
    if not asynchronous:
        with RecollectClient(target) as client:
            return list(client.score_stream(rows, timeout_s=timeout_s))

    async def ask():
        async with AsyncRecollectClient(target) as client:
            return [pair async for pair in client.score_stream(rows, timeout_s=timeout_s)]

    return asyncio.run(ask())


def appended(target, appends, *, asynchronous):
    if not asynchronous:
        with RecollectClient(target) as client:
            return client.append_stream(appends)

    async def ask():
        async with AsyncRecollectClient(target) as client:
            return await client.append_stream(appends)

    return asyncio.run(ask())


either_client = pytest.mark.parametrize("asynchronous", [False, True], ids=["blocking", "asyncio"])


@either_client
@pytest.mark.parametrize(
    "lives",
    [
        [(40, STATUS.OK)],
        [(40, STATUS.UNAVAILABLE)],
        [
            (0, STATUS.UNAVAILABLE),
            (0, STATUS.UNAVAILABLE),
            (70, STATUS.UNAVAILABLE),
            (0, STATUS.UNAVAILABLE),
            (999, STATUS.OK),
        ],
        [(70, STATUS.OK), (0, FULL), (0, FULL), (0, FULL), (999, STATUS.OK)],
        [(70, FULL), (40, STATUS.UNAVAILABLE), (0, FULL), (999, STATUS.OK)],
    ],
    ids=["that end", "that break", "that bring nothing at first", "that are refused", "that end in a full service"],
)
def test_rows_go_on_over_streams(lives, asynchronous):
    service = Service(*lives)
    with serving(service) as target:
        answers = scored(target, iter(ROWS), asynchronous=asynchronous)
    assert sorted(row.user_id for row, _ in answers) == sorted(row.user_id for row in ROWS)
    assert {id(row) for row, _ in answers} == {id(row) for row in ROWS}
    assert service.streams >= 4


@either_client
@pytest.mark.parametrize("code", [STATUS.UNAVAILABLE, STATUS.OK, FULL], ids=["break", "end", "are refused"])
def test_streams_that_only_ever_bring_nothing_are_given_up(code, asynchronous):
    service = Service((0, code))
    with serving(service) as target, pytest.raises(Unavailable):
        scored(target, ROWS, asynchronous=asynchronous)
    assert service.streams >= 4


@either_client
def test_another_stream_waits_as_long_as_the_service_asks_for(asynchronous, monkeypatch):
    began, service = [], Service((0, refusal("RATE_EXCEEDED", 700)), (999, STATUS.OK))
    monkeypatch.setattr(service, "_end", lambda *end: began.append(time.monotonic()) or Service._end(service, *end))
    with serving(service) as target:
        assert len(scored(target, ROWS[:3], asynchronous=asynchronous)) == 3
    assert began[1] - began[0] >= 0.7


@either_client
@pytest.mark.parametrize(
    ("code", "kind"),
    [(STATUS.PERMISSION_DENIED, PermissionRefused), (STATUS.INVALID_ARGUMENT, InvalidRequest)],
    ids=["permission", "request"],
)
def test_a_refused_stream_is_not_repeated(code, kind, asynchronous):
    service = Service((0, code))
    with serving(service) as target, pytest.raises(kind):
        scored(target, ROWS[:3], asynchronous=asynchronous)
    assert service.streams == 1


@either_client
def test_a_stream_without_an_answer_in_time_ends_as_deadline_exceeded(asynchronous):
    with serving(Service((0, "never"))) as target, pytest.raises(DeadlineExceeded):
        scored(target, ROWS, asynchronous=asynchronous, timeout_s=0.5)


@either_client
def test_a_deadline_after_answers_begins_another_stream(asynchronous):
    service = Service((100, "never"), (999, STATUS.OK))
    with serving(service) as target:
        answers = scored(target, ROWS, asynchronous=asynchronous, timeout_s=1.0)
    assert (len(answers), service.streams) == (150, 2)


@either_client
def test_what_the_callers_rows_raise_is_raised_when_those_before_are_answered(asynchronous):
    def rows():
        yield from ROWS[:70]
        raise KeyError("the caller's own")

    answers = []

    def collect(target):
        with RecollectClient(target) as client:
            answers.extend(client.score_stream(rows()))

    async def collect_async(target):
        async with AsyncRecollectClient(target) as client:
            async for pair in client.score_stream(rows()):
                answers.append(pair)  # noqa: PERF401 - what came before the error counts

    with serving(Service((999, STATUS.OK))) as target, pytest.raises(KeyError, match="the caller's own"):
        asyncio.run(collect_async(target)) if asynchronous else collect(target)
    assert len(answers) == 70


@either_client
def test_rows_that_cannot_be_sent_are_answered_at_once(asynchronous):
    """Also to a caller who waits for each answer before the next row."""
    wrong = [
        ScoreRow(user_id="u", item_ids=[0], as_of=datetime(2024, 1, 1)),
        ScoreRow(user_id="u", item_ids=[1], as_of="2024-01-01T00:00:00Z"),
        None,
        ScoreRow(user_id="u", item_ids=[2**63]),
    ]

    def ask(target):
        answered, told = threading.Semaphore(1), []

        def rows():
            for row in [*wrong, ROWS[0]]:
                assert answered.acquire(timeout=3)
                yield row

        with RecollectClient(target) as client:
            for pair in client.score_stream(rows()):
                told.append(pair)
                answered.release()
        return told

    async def ask_async(target):
        answered, told = asyncio.Semaphore(1), []

        async def rows():
            for row in [*wrong, ROWS[0]]:
                await asyncio.wait_for(answered.acquire(), 3)
                yield row

        async with AsyncRecollectClient(target) as client:
            async for pair in client.score_stream(rows()):
                told.append(pair)
                answered.release()
        return told

    service = Service((999, STATUS.OK))
    with serving(service) as target:
        told = asyncio.run(ask_async(target)) if asynchronous else ask(target)
    assert [isinstance(answer, InvalidRequest) for _, answer in told] == [True, True, True, True, False]
    assert [each.field for each in told[3][1].violations] == ["item_ids[0]"]
    assert len(service.keys) == 1


def test_rows_that_wait_for_a_task_which_is_cancelled_end_as_it_does():
    async def ask(target):
        reading = asyncio.create_task(asyncio.sleep(60))
        asyncio.get_running_loop().call_later(0.2, reading.cancel)

        async def rows():
            yield ROWS[0]
            await reading

        async with AsyncRecollectClient(target) as client:
            answers = client.score_stream(rows())
            row, _ = await anext(answers)
            further = asyncio.ensure_future(anext(answers))
            await asyncio.wait({further}, timeout=20)
            assert further.cancelled()
            return row

    with serving(Service((999, STATUS.OK))) as target:
        assert asyncio.run(ask(target)) is ROWS[0]


@either_client
def test_a_caller_may_stop_reading(asynchronous):
    service = Service((999, STATUS.OK))

    async def first(target):
        async with AsyncRecollectClient(target) as client:
            answers = client.score_stream(itertools.cycle(ROWS))
            found = await anext(answers)
            await answers.aclose()
            return found

    with serving(service) as target:
        if asynchronous:
            row, _ = asyncio.run(first(target))
        else:
            with RecollectClient(target) as client:
                answers = client.score_stream(itertools.cycle(ROWS))
                row, _ = next(answers)
                answers.close()
    assert row is ROWS[0]
    assert service.streams == 1


@either_client
def test_a_refused_stream_of_appends_has_the_error_of_the_service(asynchronous):
    service = Service((0, STATUS.PERMISSION_DENIED))
    with serving(service) as target:
        for _ in range(20):
            with pytest.raises(PermissionRefused, match="not now"):
                appended(target, APPENDS, asynchronous=asynchronous)


@either_client
def test_a_stream_of_appends_that_is_refused_midway_may_be_sent_again(asynchronous):
    # grpc.aio may not tell why: it writes at the moment of the refusal. It is no fault of the service in any case.
    with serving(Service((20, STATUS.RESOURCE_EXHAUSTED))) as target:
        for _ in range(20):
            with pytest.raises(Unavailable):
                appended(target, APPENDS, asynchronous=asynchronous)


def test_what_grpc_aio_says_for_itself_is_no_fault_of_the_service():
    from recollect_api.errors import from_rpc_error

    nothing = grpc.aio.Metadata()
    error = grpc.aio.AioRpcError(STATUS.INTERNAL, nothing, nothing, details="Internal error from Core")
    told = from_rpc_error(error, target="here:1")
    assert isinstance(told, Unavailable)
    assert "here:1: the stream ended while it was written to" in str(told)


def test_errors_say_when_to_try_again():
    service = Service((0, refusal("TOO_MANY_CALLS", 1_500)), (0, STATUS.RESOURCE_EXHAUSTED), (0, STATUS.NOT_FOUND))
    with serving(service) as target, RecollectClient(target) as client:
        for seconds in (1.5, 0.07):
            with pytest.raises(Unavailable) as refused:
                client.score("u", [1])
            assert refused.value.retry_after_s == seconds
