"""Score over gRPC: the scores, their label, their reasons, and what is said when something was missing."""

from datetime import UTC, datetime, timedelta

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from recollect.embedded.redis import EmbeddedRedis
from recollect.gateway.server import RECOMMENDER_SERVICES
from recollect_api import DegradedReason, Event, EventType, RecollectClient, ServerFault
from recollect_api.v1 import recommender_pb2, recommender_pb2_grpc

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
UNKNOWN = 200_000


def events(*item_ids, begin=BEGIN, step=timedelta(seconds=1), kind=EventType.CLICK):
    return [Event(item_id=item, time=begin + at * step, type=kind) for at, item in enumerate(item_ids)]


def test_scores_come_in_the_order_asked_with_the_label_of_their_model(client, user):
    client.append(user, events(5, 7, 5))
    scores = client.score(user, [7, 5, 5, 9], request_id="call-1")
    assert [item.item_id for item in scores.items] == [7, 5, 5, 9]
    assert [item.score for item in scores.items] == [0.5, 0.75, 0.75, 0.25]
    assert (scores.model_name, scores.model_version) == ("counting", "1")
    assert (scores.history_version, scores.history_length) == (1, 3)
    assert scores.degraded == ()
    assert scores.request_id == "call-1"
    assert [item.item_id for item in scores.ranked()] == [5, 5, 7, 9]


@pytest.mark.parametrize(
    ("as_of", "length"),
    [
        pytest.param(BEGIN, 0, id="at the first behaviour: none is earlier"),
        pytest.param(BEGIN + timedelta(microseconds=1), 1, id="a microsecond later: the first is earlier"),
        pytest.param(BEGIN + timedelta(seconds=2), 2, id="at the third: two are earlier"),
        pytest.param(BEGIN + timedelta(days=1), 3, id="after all"),
        pytest.param(None, 3, id="not given"),
    ],
)
def test_only_behaviours_strictly_earlier_than_as_of_count(client, user, as_of, length):
    client.append(user, events(1, 2, 3))
    assert client.score(user, [1], as_of=as_of).history_length == length


def test_only_the_latest_history_limit_behaviours_count(start_gateway, user):
    with RecollectClient(start_gateway(history_limit=2).address) as client:
        client.append(user, events(5, 6, 7))
        scores = client.score(user, [5, 7])
    assert scores.history_length == 2
    assert [item.score for item in scores.items] == pytest.approx([1 / 3, 2 / 3])


def test_reasons_name_the_behaviours_found_highest_weight_first(client, user):
    client.append(user, [*events(5, 7), Event(item_id=5, time=BEGIN + timedelta(hours=1), type=EventType.PURCHASE)])
    scores = client.score(user, [5, 9, 7], explain=True)
    found = [[(each.item_id, each.time, each.type, each.weight) for each in item.found] for item in scores.items]
    assert found == [
        [(5, BEGIN + timedelta(hours=1), EventType.PURCHASE, 3.0), (5, BEGIN, EventType.CLICK, 1.0)],
        [],
        [(7, BEGIN + timedelta(seconds=1), EventType.CLICK, 2.0)],
    ]


def test_no_reasons_unless_asked(gateway, client, user):
    client.append(user, events(5))
    assert client.score(user, [5]).items[0].found == ()


def test_a_user_without_a_history_is_scored_and_the_answer_says_so(client, user):
    scores = client.score(user, [5], explain=True)
    assert scores.degraded == (DegradedReason.HISTORY_EMPTY,)
    assert (scores.items[0].score, scores.items[0].found) == (1.0, ())
    assert (scores.history_version, scores.history_length) == (0, 0)


def test_items_that_the_model_does_not_know_are_named(client, user):
    client.append(user, events(5))
    scores = client.score(user, [UNKNOWN, 5, UNKNOWN + 1])
    assert scores.degraded == (DegradedReason.ITEM_UNKNOWN,)
    assert [item.known for item in scores.items] == [False, True, False]


def test_a_lost_redis_degrades_scores_and_its_return_mends_them(start_gateway, tmp_path, user):
    server = EmbeddedRedis(tmp_path / "redis")
    server.start()
    try:
        with RecollectClient(start_gateway(redis_url=server.url).address, timeout_s=30) as client:
            client.append(user, events(5))
            assert client.score(user, [5]).degraded == ()
            server.stop()
            scores = client.score(user, [5], explain=True)
            assert scores.degraded == (DegradedReason.HISTORY_UNAVAILABLE,)
            assert (scores.history_version, scores.history_length) == (0, 0)
            assert [(item.score, item.found) for item in scores.items] == [(1.0, ())]
            server.start()
            assert client.score(user, [5]).history_length == 1
    finally:
        server.stop()


def test_a_history_that_cannot_be_read_degrades_the_score_too(gateway, client, user):
    gateway.run(gateway.store._connection.command("SET", gateway.store.key_of(user), b"not a history"))
    assert client.score(user, [5]).degraded == (DegradedReason.HISTORY_UNAVAILABLE,)


def test_a_swap_between_two_calls_changes_label_and_scores_together(gateway, client, user):
    before = client.score(user, [5])
    old = gateway.slot.current
    gateway.slot.swap(type(old)(name="counting", version="2", ranker=type(old.ranker)(2.0, gateway.directory)))
    after = client.score(user, [5])
    assert (before.model_version, before.items[0].score) == ("1", 1.0)
    assert (after.model_version, after.items[0].score) == ("2", 2.0)


def test_a_swap_during_a_call_leaves_its_label_and_scores_those_of_one_model(gateway, eventually, user):
    import grpc

    with grpc.insecure_channel(gateway.address) as channel:
        stub = recommender_pb2_grpc.RecommenderStub(channel)
        call = stub.Score.future(recommender_pb2.ScoreRequest(user_id=user, item_ids=[100_002]), timeout=30)
        eventually(lambda: any(gateway.directory.glob("waiting.*")))
        old = gateway.slot.current
        gateway.slot.swap(type(old)(name="counting", version="2", ranker=type(old.ranker)(2.0, gateway.directory)))
        gateway.release()
        response = call.result(timeout=30)
    assert (response.model_version, list(response.scores)) == ("1", [1.0])


def test_a_gateway_without_a_recommender_says_so_and_keeps_histories(start_gateway, user):
    gateway = start_gateway(recommender=False)
    with RecollectClient(gateway.address, timeout_s=30) as client:
        assert client.append(user, [Event(item_id=1, time=BEGIN)]).accepted == 1
        for call in (lambda: client.score(user, [1]), lambda: client.recommend(user)):
            with pytest.raises(ServerFault, match="without --no-recommender") as refused:
                call()
            assert refused.value.code is grpc.StatusCode.UNIMPLEMENTED
            assert refused.value.reason == "RECOMMENDER_DISABLED"


def test_health_knows_the_recommender_where_it_answers(gateway, start_gateway):
    def health(gateway):
        with grpc.insecure_channel(gateway.address) as channel:
            request = health_pb2.HealthCheckRequest(service=RECOMMENDER_SERVICES[0])
            return health_pb2_grpc.HealthStub(channel).Check(request, timeout=30)

    assert health(gateway).status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as unknown:
        health(start_gateway(recommender=False))
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
