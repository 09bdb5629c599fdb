"""Every call is counted, timed, known by an id, and told in one line of log, however it ends."""

import asyncio
import json
import logging
from datetime import UTC, datetime, timedelta

import grpc
import grpc.aio
import pytest

from recollect.gateway.request_ids import request_id
from recollect.security.access import AccessRules
from recollect.security.scopes import SCOPES, Scope
from recollect.security.tokens import TokenFile
from recollect.telemetry.calls import CallsInterceptor
from recollect.telemetry.current import OTHER, method_of
from recollect.telemetry.logs import JsonFormatter
from recollect.telemetry.metrics import REGISTRY
from recollect_api import Append, Event, RecollectClient
from recollect_api.request_ids import MAX_LENGTH
from recollect_api.v1 import recommender_pb2, recommender_pb2_grpc

SCORE = "Recommender/Score"
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
FAILING_ITEM, WAITING_ITEM, UNKNOWN_ITEM = 100_001, 100_002, 200_000


def events(*items):
    return [Event(item_id=item, time=BEGIN + at * timedelta(minutes=1)) for at, item in enumerate(items)]


def score(*items, user="nobody", **fields):
    return recommender_pb2.ScoreRequest(user_id=user, item_ids=items, **fields)


def test_a_call_is_counted_and_its_stages_are_timed(gateway, client, user, counts):
    client.append(user, events(1, 2, 3))
    client.score(user, [1, 2, UNKNOWN_ITEM])
    assert counts.grown("recollect_calls_total", method=SCORE, code="OK") == 1
    assert counts.grown("recollect_calls_total", method="Histories/Append", code="OK") == 1
    assert counts.grown("recollect_call_duration_seconds_count", method=SCORE) == 1
    for stage in ("turn", "history", "queue", "ranking", "answer"):
        assert counts.grown("recollect_stage_duration_seconds_count", stage=stage) == 1, stage
    # The whole call takes as long as its stages at least.
    stages = sum(
        counts.grown("recollect_stage_duration_seconds_sum", stage=stage)
        for stage in ("turn", "history", "queue", "ranking", "answer")
    )
    assert 0 < stages <= counts.grown("recollect_call_duration_seconds_sum", method=SCORE)
    assert counts.grown("recollect_batch_size_sum", work="ranking") == 1
    assert counts.grown("recollect_history_events_sum") == 3
    assert counts.grown("recollect_candidates_sum", method=SCORE) == 3
    assert counts.grown("recollect_degraded_answers_total", method=SCORE, reason="ITEM_UNKNOWN") == 1


def test_an_answer_without_a_history_says_so(start_gateway, tmp_path, counts):
    gateway = start_gateway(redis_url=f"unix://{tmp_path}/nothing.sock")
    with RecollectClient(gateway.address, timeout_s=30) as client:
        client.score("somebody", [1])
        with pytest.raises(Exception, match="history store"):
            client.append("somebody", events(1))
    assert counts.grown("recollect_degraded_answers_total", method=SCORE, reason="HISTORY_UNAVAILABLE") == 1
    assert counts.grown("recollect_redis_errors_total", method=SCORE) == 1
    assert counts.grown("recollect_redis_errors_total", method="Histories/Append") >= 1
    # What could not be read has no length.
    assert counts.grown("recollect_history_events_count") == 0


@pytest.mark.parametrize(
    ("request_", "code", "reason"),
    [
        (score(), "INVALID_ARGUMENT", "INVALID_REQUEST"),
        (score(FAILING_ITEM), "INTERNAL", "INTERNAL_ERROR"),
    ],
    ids=["a wrong request", "a bug"],
)
def test_a_refusal_is_counted_with_its_reason(gateway, call_with, counts, eventually, request_, code, reason):
    error, trailers = call_with(gateway.address, request_, x_request_id="mine")
    assert error.code().name == code
    assert trailers["x-request-id"] == "mine"
    # The caller has its refusal before the call has ended here.
    eventually(lambda: counts.grown("recollect_calls_total", method=SCORE, code=code) == 1)
    assert counts.grown("recollect_calls_refused_total", method=SCORE, reason=reason) == 1
    assert counts.grown("recollect_calls_total", method=SCORE, code="OK") == 0


def test_a_refusal_before_the_request_is_read_is_counted_and_named(full_gateway, call_with, counts, eventually):
    error, trailers = call_with(full_gateway.address, score(1), x_request_id="mine")
    assert (error.code().name, trailers["x-request-id"]) == ("RESOURCE_EXHAUSTED", "mine")
    eventually(lambda: counts.grown("recollect_calls_total", method=SCORE, code="RESOURCE_EXHAUSTED") == 1)
    assert counts.grown("recollect_calls_refused_total", method=SCORE, reason="OVERLOADED") == 1


def test_bytes_that_are_no_message_and_methods_that_are_none(gateway, counts, eventually):
    with grpc.insecure_channel(gateway.address) as channel:
        for path in ("/recollect_api.v1.Recommender/Score", "/recollect_api.v1.Recommender/Nothing", "/any/thing"):
            with pytest.raises(grpc.RpcError):
                channel.unary_unary(path)(b"\xff\xff\xff", timeout=30)
    eventually(lambda: counts.grown("recollect_calls_total", method=SCORE, code="INVALID_ARGUMENT") == 1)
    # Names that callers make up are no labels.
    assert counts.grown("recollect_calls_total", method=OTHER, code="UNIMPLEMENTED") == 2


def test_calls_without_a_token_are_counted(start_gateway, tmp_path, counts, eventually):
    tokens = TokenFile(tmp_path / "tokens.json")
    secret = tokens.create("writer", [Scope.WRITE], lifetime=None).secret
    gateway, request = start_gateway(access=AccessRules(tokens=tokens.path)), score(1).SerializeToString()
    with grpc.insecure_channel(gateway.address) as channel:
        for path, header in (
            ("/recollect_api.v1.Recommender/Score", "Bearer nobody"),
            ("/recollect_api.v1.Recommender/Score", f"Bearer {secret}"),
            ("/made/up", "Bearer nobody"),
        ):
            with pytest.raises(grpc.RpcError):
                channel.unary_unary(path)(request, timeout=30, metadata=(("authorization", header),))
    assert counts.grown("recollect_calls_refused_total", method=SCORE, reason="TOKEN_REFUSED") == 1
    assert counts.grown("recollect_calls_refused_total", method=SCORE, reason="SCOPE_MISSING") == 1
    assert counts.grown("recollect_calls_refused_total", method=OTHER, reason="TOKEN_REFUSED") == 1
    eventually(lambda: counts.grown("recollect_calls_total", method=OTHER, code="UNAUTHENTICATED") == 1)
    assert counts.grown("recollect_calls_total", method=SCORE, code="UNAUTHENTICATED") == 1
    assert counts.grown("recollect_calls_total", method=SCORE, code="PERMISSION_DENIED") == 1


def test_calls_in_flight_and_those_that_give_up(gateway, counts, eventually):
    with grpc.insecure_channel(gateway.address) as channel:
        stub = recommender_pb2_grpc.RecommenderStub(channel)
        waiting = stub.Score.future(score(WAITING_ITEM), timeout=30)
        eventually(lambda: any(gateway.directory.glob("waiting.*")))
        behind = stub.Score.future(score(1), timeout=30)
        eventually(lambda: counts.grown("recollect_calls_in_flight", method=SCORE) == 2)
        assert counts.grown("recollect_queue_depth", queue="ranking") == 1
        behind.cancel()
        eventually(lambda: counts.grown("recollect_calls_total", method=SCORE, code="CANCELLED") == 1)
        with pytest.raises(grpc.RpcError, match="DEADLINE_EXCEEDED"):
            stub.Score(score(2), timeout=0.2)
        eventually(lambda: counts.grown("recollect_calls_total", method=SCORE, code="DEADLINE_EXCEEDED") == 1)
        gateway.release()
        waiting.result(timeout=30)
    eventually(lambda: counts.grown("recollect_calls_in_flight", method=SCORE) == 0)
    eventually(lambda: counts.grown("recollect_queue_depth", queue="ranking") == 0)
    assert counts.grown("recollect_calls_total", method=SCORE, code="OK") == 1


def test_health_and_reflection_are_not_counted(gateway):
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    def all_calls():
        return {
            sample.labels["method"]: sample.value
            for family in REGISTRY.collect()
            for sample in family.samples
            if sample.name == "recollect_calls_total"
        }

    before = all_calls()
    with grpc.insecure_channel(gateway.address) as channel:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
    assert all_calls() == before


@pytest.mark.parametrize(
    ("field", "metadata", "told"),
    [
        ("", {}, None),
        ("from-field", {}, "from-field"),
        ("", {"x_request_id": "from-metadata"}, "from-metadata"),
        ("from-field", {"x_request_id": "from-metadata"}, "from-field"),
        ("", {"x_request_id": "x" * (MAX_LENGTH + 1)}, None),
        ("zwölf", {}, None),
    ],
    ids=["none is given", "a field", "metadata", "both", "too long a one", "one that metadata cannot hold"],
)
def test_every_answer_carries_an_id(gateway, call_with, field, metadata, told):
    first, trailers = call_with(gateway.address, score(1, request_id=field), **metadata)
    assert list(first.scores) == [1.0]
    assert first.request_id == field
    if told is not None:
        assert trailers["x-request-id"] == told
        return
    again = call_with(gateway.address, score(1, request_id=field), **metadata)[1]
    assert len(trailers["x-request-id"]) == 32
    assert trailers["x-request-id"] != again["x-request-id"]


def test_what_runs_in_other_threads_and_tasks_knows_its_call(gateway, call_with, monkeypatch):
    seen = []
    rank = gateway.ranker.rank

    def noting(*given, **options):
        seen.append(request_id.get())
        return rank(*given, **options)

    monkeypatch.setattr(gateway.ranker, "rank", noting)
    for name in ("call-1", "call-2"):
        call_with(gateway.address, score(1, request_id=name))
    assert seen == ["call-1", "call-2"]


def test_a_line_of_log_has_the_call_and_nothing_of_its_caller(gateway, client, call_with, caplog, eventually):
    caplog.set_level(logging.INFO, logger="recollect.calls")
    formatter, lines = JsonFormatter(), []
    handler = logging.Handler()
    # Made while the call runs, as the service's own handler does.
    handler.emit = lambda record: lines.append(formatter.format(record))
    logging.getLogger("recollect").addHandler(handler)
    try:
        client.append("user-very-secret", events(31_415_926))
        call_with(
            gateway.address, score(31_415_926, user="user-very-secret", request_id="r-1"), authorization="Bearer t0p"
        )
        call_with(gateway.address, score(user="user-very-secret"))
        call_with(gateway.address, score(FAILING_ITEM, user="user-very-secret", request_id="r-2"))
        eventually(lambda: any('"code": "INTERNAL"' in line for line in lines))
    finally:
        logging.getLogger("recollect").removeHandler(handler)
    told = [json.loads(line) for line in lines]
    (ok,) = [each for each in told if each.get("request_id") == "r-1"]
    assert (ok["method"], ok["code"], ok["level"], ok["logger"]) == (SCORE, "OK", "info", "recollect.calls")
    assert 0 < ok["duration_s"] < 30
    refused = [each for each in told if each.get("reason") == "INVALID_REQUEST"]
    assert [each["code"] for each in refused] == ["INVALID_ARGUMENT"]
    trace, end = [each for each in told if each.get("request_id") == "r-2"]
    assert "RuntimeError" in trace["trace"]
    assert end["code"] == "INTERNAL"
    whole = "\n".join(lines)
    for secret in ("user-very-secret", "31415926", "t0p"):
        assert secret not in whole


def test_a_slow_call_is_a_warning(start_gateway, caplog):
    gateway = start_gateway(slow_call_s=1e-6)
    with RecollectClient(gateway.address, timeout_s=30) as client:
        client.score("nobody", [1])
        client.append_stream([Append(user_id="slow", events=events(0))])
    slow = [record for record in caplog.records if record.name == "recollect.calls"]
    assert [(record.levelname, record.fields["code"]) for record in slow] == [("WARNING", "OK")]


def test_all_methods_of_the_contract_have_a_label():
    names = [method_of(path) for path in SCOPES]
    assert OTHER not in names
    assert len(set(names)) == len(names)
    assert method_of("/recollect_api.v1.Recommender/Nothing") == OTHER


def test_streams_are_counted_whole(client, counts):
    appends = [Append(user_id="streamed", events=events(at)) for at in range(3)]
    assert len(client.append_stream(iter(appends))) == 3
    assert counts.grown("recollect_calls_total", method="Histories/AppendStream", code="OK") == 1


def test_generators_are_watched_to_their_end(counts):
    """No method of the contract answers by one yet; the interceptor takes them all the same."""

    async def numbers(_request, context):
        yield b"1"
        yield b"2"
        await context.abort(grpc.StatusCode.NOT_FOUND, "no third")

    async def run():
        handler = grpc.unary_stream_rpc_method_handler(numbers)
        method = "/recollect_api.v1.Histories/List"
        server = grpc.aio.server(interceptors=[CallsInterceptor()])
        generic = grpc.method_handlers_generic_handler("recollect_api.v1.Histories", {"List": handler})
        server.add_generic_rpc_handlers((generic,))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        got = []
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            try:
                call = channel.unary_stream(method)(b"")
                while (each := await call.read()) is not grpc.aio.EOF:
                    got.append(each)
            except grpc.aio.AioRpcError as error:
                got.append(error.code().name)
        await server.stop(None)
        return got

    assert asyncio.run(run()) == [b"1", b"2", "NOT_FOUND"]
    assert counts.grown("recollect_calls_total", method="Histories/List", code="NOT_FOUND") == 1
