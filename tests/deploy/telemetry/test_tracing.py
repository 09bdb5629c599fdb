"""Traces begin where the caller's does, show the stages of a call, and reach a collector over OTLP."""

import re
import sys
from contextvars import copy_context

import pytest

from recollect import serve_app
from recollect.errors import SetupError
from recollect.gateway.request_ids import request_id
from recollect.settings import Settings
from recollect.telemetry import tracing
from recollect.telemetry.carrying import carried, continued
from recollect.telemetry.current import current
from recollect_api.v1 import recommender_pb2

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
SCORE = "Recommender/Score"
FAILING_ITEM = 100_001
STAGES = ("turn", "history", "queue", "ranking", "answer")


@pytest.fixture
def traced(collector):
    """Trace this process until the function is called, which returns the collector with all spans."""
    started = []

    def begin(**config):
        started.append(tracing.Tracing(tracing.TracingConfig(endpoint=collector.endpoint, **config), "gateway"))

    def end():
        while started:
            started.pop().stop()
        return collector

    begin.end = end
    yield begin
    end()


def score(*items, **fields):
    return recommender_pb2.ScoreRequest(user_id="nobody", item_ids=items, **fields)


def told(span):
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


def test_a_call_goes_on_with_its_callers_trace(gateway, call_with, traced):
    traced()
    call_with(gateway.address, score(1, request_id="mine"), traceparent=f"00-{TRACE}-{PARENT}-01")
    collector = traced.end()
    assert collector.wrong == []
    (call,) = collector.named(SCORE)
    assert (call.trace_id.hex(), call.parent_span_id.hex()) == (TRACE, PARENT)
    assert told(call) == {
        "rpc.system": "grpc",
        "rpc.service": "recollect_api.v1.Recommender",
        "rpc.method": "Score",
        "rpc.grpc.status_code": 0,
        "recollect.request_id": "mine",
    }
    for stage in STAGES:
        (span,) = collector.named(stage)
        assert span.parent_span_id == call.span_id, stage
        assert span.trace_id == call.trace_id
        assert span.start_time_unix_nano <= span.end_time_unix_nano <= call.end_time_unix_nano + 1_000_000
    assert {each["recollect.role"] for each in collector.resources} == {"gateway"}
    assert {each["service.name"] for each in collector.resources} == {"recollect"}
    # Nothing of the user.
    assert "nobody" not in str(collector.spans)


def test_a_call_without_a_trace_begins_one_and_a_failure_is_an_error(gateway, call_with, traced, counts, eventually):
    traced()
    call_with(gateway.address, score(1))
    call_with(gateway.address, score(FAILING_ITEM))
    call_with(gateway.address, score())
    # The caller has its refusal before the call has ended here.
    eventually(lambda: counts.grown("recollect_call_duration_seconds_count", method=SCORE) == 3)
    collector = traced.end()
    spans = collector.named(SCORE)
    assert len({span.trace_id for span in spans}) == 3
    assert all(span.parent_span_id == b"" for span in spans)
    by_reason = {told(span).get("recollect.reason", ""): span for span in spans}
    assert by_reason["INTERNAL_ERROR"].status.code == 2
    assert told(by_reason["INTERNAL_ERROR"])["rpc.grpc.status_code"] == 13
    # A wrong request is not the service's error.
    assert by_reason["INVALID_REQUEST"].status.code == by_reason[""].status.code == 0


def test_who_sends_a_trace_decides_and_the_rate_for_all_others(gateway, call_with, traced):
    traced(sample_rate=0.0)
    call_with(gateway.address, score(1))
    call_with(gateway.address, score(1), traceparent=f"00-{TRACE}-{PARENT}-00")
    call_with(gateway.address, score(1), traceparent=f"00-{TRACE}-{PARENT}-01")
    call_with(gateway.address, score(1), traceparent="nonsense")
    assert [span.trace_id.hex() for span in traced.end().named(SCORE)] == [TRACE]


def test_calls_that_wait_together_keep_to_their_own_traces(gateway, traced, eventually):
    import grpc

    from recollect_api.v1 import recommender_pb2_grpc

    traced()
    with grpc.insecure_channel(gateway.address) as channel:
        stub = recommender_pb2_grpc.RecommenderStub(channel)
        first = stub.Score.future(score(100_002), timeout=30)
        eventually(lambda: any(gateway.directory.glob("waiting.*")))
        others = [
            stub.Score.future(score(1), timeout=30, metadata=(("traceparent", f"00-{at:032x}-{PARENT}-01"),))
            for at in (1, 2, 3)
        ]
        eventually(lambda: len(gateway.gateway._workers._waiting[0]) == 3)
        gateway.release()
        for call in (first, *others):
            call.result(timeout=30)
    collector = traced.end()
    assert 3 in gateway.ranker.together
    for at in (1, 2, 3):
        names = [span.name for span in collector.spans if span.trace_id.hex() == f"{at:032x}"]
        assert sorted(names) == sorted([SCORE, *STAGES])


def test_a_collector_that_does_not_answer_stops_no_call(gateway, call_with):
    running = tracing.Tracing(tracing.TracingConfig(endpoint="http://127.0.0.1:1"), "gateway")
    try:
        answer, _ = call_with(gateway.address, score(1))
        assert list(answer.scores) == [1.0]
    finally:
        running._provider.shutdown()
        running.stop()


def test_another_process_goes_on_with_the_call(traced):
    traced()

    def work():
        span = tracing.begin_call(SCORE, f"/{SCORE}", [("traceparent", f"00-{TRACE}-{PARENT}-01")])
        token = request_id.set("mine")
        call = dict(carried())
        request_id.reset(token)
        with continued(call, "Classification/classify"):
            assert request_id.get() == "mine"
            assert current.get().trace_id == TRACE
            with tracing.span("embedding"):
                pass
        tracing.end_call(span, code="OK", number=0, reason="", request_id="mine", failed=False)

    # A call's task ends with it, and what it knows of itself does.
    copy_context().run(work)
    collector = traced.end()
    (server,), (part,), (stage,) = map(collector.named, (SCORE, "Classification/classify", "embedding"))
    assert part.parent_span_id == server.span_id
    assert stage.parent_span_id == part.span_id
    assert {each.trace_id.hex() for each in (server, part, stage)} == {TRACE}


def test_without_a_collector_nothing_is_traced_and_logs_know_the_trace_all_the_same(gateway, call_with, caplog):
    assert not tracing.active()
    assert tracing.begin_call(SCORE, f"/{SCORE}", []) is None
    assert tracing.carried() == {}
    assert tracing.trace_id_of([("traceparent", f"00-{TRACE}-{PARENT}-01")]) == TRACE
    assert tracing.trace_id_of([("traceparent", "nonsense")]) == ""


def test_a_missing_exporter_is_said_before_anything_starts(monkeypatch, tmp_path):
    for name in [name for name in sys.modules if name.startswith("opentelemetry.exporter.otlp")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp", None)
    settings = Settings(
        var=tmp_path, port=0, classification=False, recommender=False, otel_endpoint="http://localhost:4318"
    )
    with pytest.raises(SetupError, match=re.escape("pip install 'recollect[otel]'")):
        serve_app.check(settings, None)


def test_an_endpoint_is_a_url():
    with pytest.raises(ValueError, match=r"http://localhost:4318"):
        Settings(otel_endpoint="localhost:4318")
