"""ScoreStream over gRPC: an answer a row, whatever other rows are; few at one time; an end before connections end."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import grpc
import pytest

from recollect.gateway.server import GatewayConfig
from recollect_api import (
    AsyncRecollectClient,
    Cancelled,
    DegradedReason,
    Event,
    InvalidRequest,
    RecollectClient,
    ScoreRow,
    Scores,
    ServerFault,
    Unavailable,
)
from recollect_api.v1 import recommender_pb2, recommender_pb2_grpc

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
FAILING, WAITING = 100_001, 100_002
SECRET = "the text that nobody may see"


def row(key, user="u", items=(1,), **more):
    return recommender_pb2.ScoreStreamRequest(
        key=key, score=recommender_pb2.ScoreRequest(user_id=user, item_ids=items, **more)
    )


@pytest.fixture
def ask(gateway):
    """Send rows over one stream of the gateway; its answers by their keys."""

    def send(*rows, address=None, timeout=30):
        with grpc.insecure_channel(address or gateway.address) as channel:
            answers = list(recommender_pb2_grpc.RecommenderStub(channel).ScoreStream(iter(rows), timeout=timeout))
        assert len({answer.key for answer in answers}) == len(answers)
        return {answer.key: answer for answer in answers}

    return send


def test_every_row_gets_what_score_would_answer(ask, client, user):
    client.append(user, [Event(item_id=5, time=BEGIN), Event(item_id=7, time=BEGIN + timedelta(seconds=1))])
    answers = ask(
        row("a", user, [5, 9], request_id="r-1"),
        row("b", user, [7], explain=True),
        row("c", user, [5], as_of={"seconds": int(BEGIN.timestamp())}),
    )
    assert {key: list(answer.response.scores) for key, answer in answers.items()} == {
        "a": pytest.approx([2 / 3, 1 / 3]),
        "b": pytest.approx([2 / 3]),
        "c": [1.0],
    }
    assert answers["a"].response.request_id == "r-1"
    assert answers["b"].response.explanations[0].behaviours[0].item_id == 7
    assert list(answers["c"].response.degraded) == [DegradedReason.HISTORY_EMPTY]


def test_wrong_rows_get_a_status_and_the_others_their_scores(ask):
    answers = ask(
        row("no user", ""),
        row("good"),
        row("failing", items=[FAILING], request_id="r"),
        recommender_pb2.ScoreStreamRequest(key="empty"),
        row("negative", items=[1, -1]),
        row("k" * 129),
        row("good, too"),
    )
    assert {key for key, answer in answers.items() if answer.WhichOneof("outcome") == "response"} == {
        "good",
        "good, too",
    }
    codes = {key: answer.status.code for key, answer in answers.items() if answer.HasField("status")}
    assert codes == {"no user": 3, "failing": 13, "empty": 3, "negative": 3, "k" * 128: 3}
    assert SECRET not in str(answers["failing"])


def test_the_client_reads_each_status_as_the_error_that_score_would_raise(client, caplog):
    rows = [
        ScoreRow(user_id="u", item_ids=[1, -1]),
        ScoreRow(user_id="u", item_ids=[1]),
        ScoreRow(user_id="u", item_ids=[FAILING], request_id="r"),
        ScoreRow(user_id="u", item_ids=[1], as_of=datetime(2024, 1, 1)),  # no time zone: it cannot be sent
    ]
    answers = {id(asked): answer for asked, answer in client.score_stream(rows)}
    wrong, good, failed, unsendable = (answers[id(each)] for each in rows)
    assert isinstance(wrong, InvalidRequest)
    assert [violation.field for violation in wrong.violations] == ["item_ids[1]"]
    assert wrong.reason == "INVALID_REQUEST"
    assert isinstance(good, Scores)
    assert isinstance(failed, ServerFault)
    assert failed.incident
    assert f"incident {failed.incident} in ScoreStream, request_id 'r'" in caplog.text
    assert isinstance(unsendable, InvalidRequest)
    assert "time zone" in str(unsendable)


def test_without_a_history_store_rows_are_scored_and_say_so(start_gateway, tmp_path):
    gateway = start_gateway(redis_url=f"unix://{tmp_path}/nobody.sock")
    with RecollectClient(gateway.address, timeout_s=30) as client:
        ((_, scores),) = client.score_stream([ScoreRow(user_id="u", item_ids=[1])])
    assert scores.degraded == (DegradedReason.HISTORY_UNAVAILABLE,)


def test_answers_do_not_wait_for_a_row_that_takes_long(start_gateway, eventually, user):
    gateway = start_gateway(ranking_threads=2)

    def rows():
        yield row("slow", items=[WAITING])
        eventually(lambda: any(gateway.directory.glob("waiting.*")))  # else they might be ranked together
        yield from (row(f"quick {at}") for at in range(40))

    with grpc.insecure_channel(gateway.address) as channel:
        answers = recommender_pb2_grpc.RecommenderStub(channel).ScoreStream(rows(), timeout=30)
        first = [next(answers).key for _ in range(40)]
        gateway.release()
        assert [each.key for each in answers] == ["slow"]
    assert sorted(first) == sorted(f"quick {at}" for at in range(40))


def test_no_more_rows_than_allowed_are_worked_on_and_none_is_read_ahead(start_gateway, eventually):
    gateway = start_gateway(stream_rows=3, stream_s=9.0)
    sent, more, large = [], threading.Event(), range(10**17, 10**17 + 1_000)

    def rows():
        for at in range(3):
            sent.append(at)
            yield row(f"slow {at}", items=[WAITING])
        assert more.wait(30)
        # 36 MiB, more than all that HTTP/2 lets lie around while nobody reads.
        for at in range(4_000):
            sent.append(at)
            yield row(f"{at}", items=large)

    with grpc.insecure_channel(gateway.address) as channel:
        answers = recommender_pb2_grpc.RecommenderStub(channel).ScoreStream(rows(), timeout=60)
        eventually(lambda: any(gateway.directory.glob("waiting.*")))
        more.set()
        eventually(lambda: len(sent) > 10)
        assert gateway.ranker.ranked == [WAITING]  # one thread ranks; the other two wait for it
        still = -1
        while still != len(sent):  # until it is held up
            still = len(sent)
            threading.Event().wait(0.3)
        assert len(sent) < 2_000
        answers.cancel()


def test_a_stream_ends_by_itself_and_what_it_took_is_answered(start_gateway):
    gateway = start_gateway(stream_s=0.2)
    ended = threading.Event()

    def rows():
        yield row("a")
        ended.wait(30)

    with grpc.insecure_channel(gateway.address) as channel:
        answers = recommender_pb2_grpc.RecommenderStub(channel).ScoreStream(rows(), timeout=30)
        assert [answer.key for answer in answers] == ["a"]
        assert answers.code() is grpc.StatusCode.OK
        ended.set()


@pytest.mark.parametrize("count", [0, 1, 700], ids=str)
@pytest.mark.parametrize("stream_s", [0.05, 5.0], ids=["streams that end at once", "one stream"])
def test_the_clients_answer_every_row_once_over_however_many_streams(start_gateway, count, stream_s):
    gateway = start_gateway(stream_s=stream_s)
    rows = [ScoreRow(user_id=f"u{at}", item_ids=[at]) for at in range(count)]
    with RecollectClient(gateway.address) as client:
        answers = list(client.score_stream(iter(rows)))

    async def drawn():
        for each in rows:
            yield each

    async def ask():
        async with AsyncRecollectClient(gateway.address) as client:
            return [
                [pair async for pair in client.score_stream(drawn())],
                [pair async for pair in client.score_stream(rows)],
            ]

    for found in (answers, *asyncio.run(ask())):
        assert sorted(int(asked.user_id[1:]) for asked, _ in found) == list(range(count))
        assert all([item.item_id for item in scores.items] == list(asked.item_ids) for asked, scores in found)


def test_a_caller_may_wait_for_an_answer_before_the_next_row(gateway, client):
    answered = threading.Semaphore(1)

    def rows():
        for at in range(5):
            assert answered.acquire(timeout=30)
            yield ScoreRow(user_id="u", item_ids=[at])

    asked = []
    for each, _ in client.score_stream(rows()):
        asked.append(each.item_ids[0])
        answered.release()
    assert asked == [0, 1, 2, 3, 4]


def test_work_of_a_caller_who_has_gone_is_not_begun(gateway, eventually, monkeypatch):
    workers, working, given_up = gateway.gateway._workers, set(), []
    run, most = workers.run, gateway.gateway.config.stream_rows

    async def observed(work, **options):
        working.add(id(work))
        try:
            return await run(work, **options)
        except asyncio.CancelledError:
            given_up.append(work)
            raise
        finally:
            working.discard(id(work))

    monkeypatch.setattr(workers, "run", observed)
    monkeypatch.setattr("recollect.gateway.workers.MOST_TOGETHER", 1)
    with RecollectClient(gateway.address) as client:
        rows = (ScoreRow(user_id="u", item_ids=[item]) for item in [WAITING, *range(50)])
        reading = ThreadPoolExecutor(1).submit(list, client.score_stream(rows))
        # Some may be answered before: rows reach the thread that ranks in the order in which histories are read.
        eventually(lambda: len(working) == most and any(gateway.directory.glob("waiting.*")))
        begun = list(gateway.ranker.ranked)
    assert isinstance(reading.exception(30), Cancelled)
    eventually(lambda: len(given_up) == most)
    gateway.release()
    with RecollectClient(gateway.address, timeout_s=30) as client:
        client.score("u", [77])
    assert gateway.ranker.ranked == [*begun, 77]


def test_a_gateway_without_a_recommender_refuses_streams(start_gateway):
    gateway = start_gateway(recommender=False)
    rows = [ScoreRow(user_id="u", item_ids=[1])] * 200
    with RecollectClient(gateway.address) as client, pytest.raises(ServerFault, match="without --no-recommender"):
        list(client.score_stream(rows))

    async def ask():
        async with AsyncRecollectClient(gateway.address) as client:
            return [pair async for pair in client.score_stream(rows)]

    for _ in range(10):  # grpc.aio would say INTERNAL now and then if rows were written meanwhile
        with pytest.raises(ServerFault, match="without --no-recommender"):
            asyncio.run(ask())


def test_bytes_that_are_no_row_end_the_stream(gateway):
    with grpc.insecure_channel(gateway.address) as channel:
        stream = channel.stream_stream("/recollect_api.v1.Recommender/ScoreStream")
        with pytest.raises(grpc.RpcError) as refused:
            list(stream(iter([row("a").SerializeToString(), b"\xff\xff"]), timeout=30))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_where_nobody_listens_streams_are_tried_a_few_times():
    with RecollectClient("127.0.0.1:1") as client, pytest.raises(Unavailable):
        list(client.score_stream([ScoreRow(user_id="u", item_ids=[1])]))


def test_a_stream_is_shorter_than_connections_that_are_to_go():
    with pytest.raises(ValueError, match="stream_s"):
        GatewayConfig(stream_s=10.0, connection_grace_s=10.0)
