"""A service on Ray Serve tells of itself as one: through a killed replica, across processes, in lines of JSON."""

import io
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

import grpc
import pytest
from PIL import Image

from recollect import serve_app
from recollect.settings import Settings
from recollect.telemetry.log_relay import LogRelay
from recollect.telemetry.reading import MetricsTarget, read_snapshot
from recollect_api import RecollectClient
from recollect_api.v1 import classifier_pb2, classifier_pb2_grpc

pytestmark = pytest.mark.slow

PID_ITEM = 100_003
SCORE = "Recommender/Score"
PATIENCE_S = 120.0
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def total(url, name, **labels):
    samples = read_snapshot(MetricsTarget(url=url)).samples.get(name, {})
    return sum(value for found, value in samples.items() if labels.items() <= dict(found).items())


def patiently(condition):
    """Wait until it holds: a replica takes its time to start on a busy machine."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"did not happen within {PATIENCE_S} s"
        time.sleep(0.1)


@contextmanager
def running(counting_models, redis_url, directory, **settings):
    chosen = Settings(port=0, var=directory, metrics_port=0, log_format="json", log_level="info", **settings)
    models = counting_models(directory)
    with (
        LogRelay() as relay,
        serve_app.run(
            chosen, "counting/1", redis_url=redis_url, models=models, application="told", log_relay=relay.path
        ) as app,
    ):
        yield app


def score_once(app, item):
    with RecollectClient(app.address, timeout_s=20, connections=1) as client:
        return client.score("somebody-secret", [item], request_id="from-test").items[0].score


def test_a_killed_replica_counts_on_and_the_port_answers_on(
    ray_node, counting_models, history_redis_url, tmp_path, capfd
):
    with running(counting_models, history_redis_url, tmp_path, replicas=2, classification=False) as app:
        url = app.metrics_url
        seen = set()
        calls = 0
        while len(seen) < 2:
            seen.add(int(score_once(app, PID_ITEM)))
            calls += 1
            assert calls < 200
        # Whichever process is asked, it tells of both.
        assert {total(url, "recollect_calls_total", method=SCORE, code="OK") for _ in range(8)} == {calls}
        assert total(url, "recollect_replicas_serving", kind="model", version="1") == 2
        assert total(url, "recollect_process_starts_total", role="gateway") == 2
        os.kill(min(seen), signal.SIGKILL)
        patiently(lambda: total(url, "recollect_process_starts_total", role="gateway") >= 3)
        patiently(lambda: total(url, "recollect_replicas_serving", kind="model", version="1") == 2)
        assert total(url, "recollect_calls_total", method=SCORE, code="OK") == calls
        score_once(app, 1)
        assert total(url, "recollect_calls_total", method=SCORE, code="OK") == calls + 1
        app.swap("counting/2")
        patiently(lambda: total(url, "recollect_replicas_serving", kind="model", version="2") == 2)
        assert total(url, "recollect_replicas_serving", kind="model", version="1") == 0
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert b"somebody-secret" not in answer.read()
        lines = []

        def told():
            lines.extend(line for line in capfd.readouterr().err.splitlines() if line.startswith("{"))
            return sum('"request_id": "from-test"' in line for line in lines) == calls + 1

        patiently(told)
    of_calls = [line for line in map(json.loads, lines) if line["logger"] == "recollect.calls"]
    assert {line["process"] for line in of_calls} >= seen
    assert {(line["method"], line["code"]) for line in of_calls} == {(SCORE, "OK")}
    assert "somebody-secret" not in "".join(lines)


def test_a_trace_goes_through_the_gateway_into_the_encoder_s_process(
    ray_node, counting_models, history_redis_url, tmp_path, collector
):
    options = {"replicas": 1, "otel_endpoint": collector.endpoint}
    data = io.BytesIO()
    Image.new("RGB", (32, 32), (255, 0, 0)).save(data, "PNG")
    request = classifier_pb2.ClassifyRequest(images=[data.getvalue()], descriptor_set="demo-shop", request_id="seen")
    with running(counting_models, history_redis_url, tmp_path, **options) as app:
        with grpc.insecure_channel(app.address) as channel:
            sent = (("traceparent", f"00-{TRACE}-{PARENT}-01"),)
            classifier_pb2_grpc.ClassifierStub(channel).Classify(request, timeout=60, metadata=sent)
        assert total(app.metrics_url, "recollect_batch_size_sum", work="images") == 1
        assert total(app.metrics_url, "recollect_replicas_serving", kind="encoder") == 1
        for stage in ("classification", "decoding", "embedding"):
            assert total(app.metrics_url, "recollect_stage_duration_seconds_count", stage=stage) == 1, stage
    # Each process has sent what it had when it ended.
    (call,) = collector.named("Classifier/Classify")
    (part,) = collector.named("Classification/classify")
    (embedding,) = collector.named("embedding")
    assert (call.trace_id.hex(), call.parent_span_id.hex()) == (TRACE, PARENT)
    assert part.parent_span_id == call.span_id
    assert embedding.parent_span_id == part.span_id
    roles = {span.name: told["recollect.role"] for span, told in zip(collector.spans, collector.resources, strict=True)}
    assert roles["Classifier/Classify"] == "gateway"
    assert roles["embedding"] == "classification"


def test_serve_writes_json_to_its_standard_error_and_tells_where_its_metrics_are(tmp_path):
    command = [sys.executable, "-c", "from recollect.entry import main; main()", "serve", "--no-recommender"]
    options = ["--no-classification", "--port", "0", "--metrics-port", "0", "--log-level", "info"]
    without_niceness = {name: value for name, value in os.environ.items() if name != "RAY_worker_niceness"}
    served = subprocess.Popen(
        [*command, *options],
        cwd=tmp_path,
        env=without_niceness | {"RECOLLECT_REPLICAS": "1", "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert served.stdout is not None
        shown = {}
        deadline = time.monotonic() + 120
        while "stop" not in shown and time.monotonic() < deadline:
            words = served.stdout.readline().strip("│╭╰─╮╯ \n").split()
            if len(words) > 1:
                shown[words[0]] = words[1:]
        with RecollectClient(shown["listening"][1], timeout_s=20) as client:
            client.history_stats("somebody-secret")
        assert total(shown["metrics"][0], "recollect_calls_total", method="Histories/Stats", code="OK") == 1
    finally:
        served.send_signal(signal.SIGTERM)
        _, told = served.communicate(timeout=60)
    assert served.returncode == 0
    lines = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    assert [(line["method"], line["code"]) for line in lines if line["logger"] == "recollect.calls"] == [
        ("Histories/Stats", "OK")
    ]
    assert "somebody-secret" not in told
    assert "niceness" not in told, "its replicas must not stand back"
