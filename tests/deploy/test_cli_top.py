"""`recollect top` and `recollect doctor --target` as a person and a script use them."""

import contextlib
import json
import time
from datetime import timedelta

import pytest
from typer.testing import CliRunner

from recollect.checkup import check_ray, check_service
from recollect.cli import app
from recollect.cli.top import view
from recollect.security.access import AccessRules
from recollect.security.certificates import TlsFiles
from recollect.security.scopes import Scope
from recollect.security.tokens import TokenFile
from recollect.telemetry.exporter import Exporter, MetricsConfig
from recollect.telemetry.figures import figures
from recollect.telemetry.metrics import PROCESS_START, of
from recollect.telemetry.reading import MetricsTarget, read_snapshot
from recollect_api.channel import ChannelConfig


@pytest.fixture
def metrics():
    exporter = Exporter(MetricsConfig(host="127.0.0.1", port=0))
    yield f"127.0.0.1:{exporter.port}"
    exporter.stop()


def said(*words, status=0):
    done = CliRunner().invoke(app, list(words), env={"COLUMNS": "200", "TERM": "dumb"})
    assert done.exit_code == status, done.output
    return done


def test_top_shows_what_happened_between_two_readings(gateway, client, metrics):
    target = MetricsTarget(url=f"http://{metrics}/metrics")
    before = read_snapshot(target)
    for _ in range(3):
        client.score("nobody", [1])
    with contextlib.suppress(Exception):
        client.score("nobody", [])
    now = read_snapshot(target)
    told = figures(before, now)
    score = next(each for each in told.methods if each.method == "Recommender/Score")
    assert score.per_s * told.seconds == pytest.approx(4, rel=0.05)
    assert score.failing == 0.0
    assert 0 < score.p50_ms <= score.p99_ms
    assert {each.stage for each in told.stages if each.per_s > 0} >= {"history", "queue", "ranking", "answer"}
    assert ("model", "counting", "1") in {(each.kind, each.name, each.version) for each in told.serving}
    from rich.console import Console

    console = Console(width=160, record=True)
    console.print(view(told, "here"))
    shown = console.export_text()
    for text in ("Recommender/Score", "ranking", "counting/1", "INVALID_REQUEST"):
        assert text in shown


def test_top_once_is_for_scripts(metrics, client):
    client.score("nobody", [1])
    (line,) = said("top", "--metrics", metrics, "--once", "--json", "--interval", "0.2").stdout.splitlines()
    told = json.loads(line)
    assert told["seconds"] >= 0.2
    assert {each["method"] for each in told["methods"]} >= {"Recommender/Score"}
    shown = said("top", "--metrics", metrics, "--once", "--interval", "0.2").stdout
    assert "Recommender/Score" in shown
    assert "Answering" in shown


def test_top_says_where_it_looked():
    told = said("top", "--metrics", "127.0.0.1:1", "--once", status=1).stderr
    assert "http://127.0.0.1:1/metrics" in told
    assert "recollect serve --metrics-port" in told


def checks(*words, status=0):
    lines = said("doctor", "--json", *words, status=status).stdout.splitlines()
    return {each["what"]: each for each in map(json.loads, lines)}


def test_doctor_finds_a_service_well(gateway, metrics):
    of(PROCESS_START, "gateway", "1").set(time.time())
    found = checks("--target", gateway.address, "--metrics", metrics)
    assert {what: each["state"] for what, each in found.items()} == dict.fromkeys(
        ("service", "parts", "TLS", "histories", "metrics"), "ok"
    )
    assert "1 gateway" in found["metrics"]["found"]
    assert "SERVING" in found["service"]["found"]
    assert "append-only file" in found["histories"]["found"]
    assert {each["remedy"] for each in found.values()} == {""}


def test_doctor_tells_what_is_wrong_and_what_to_do(start_gateway, tmp_path):
    gateway = start_gateway(redis_url=f"unix://{tmp_path}/nothing.sock")
    found = checks("--target", gateway.address, "--metrics", "127.0.0.1:1", "--ray-address", "127.0.0.1:1", status=2)
    assert {what: each["state"] for what, each in found.items()} == {
        "service": "ok",
        "parts": "ok",
        "TLS": "ok",
        "histories": "fail",
        "metrics": "fail",
        "ray": "fail",
    }
    assert "start Redis" in found["histories"]["remedy"]
    assert "--metrics-port" in found["metrics"]["remedy"]
    assert "ray start --head" in found["ray"]["remedy"]
    gateway.stop()
    gone = checks("--target", gateway.address, status=2)
    assert (gone["service"]["state"], set(gone)) == ("fail", {"service"})
    assert "recollect serve" in gone["service"]["remedy"]
    shown = said("doctor", "--target", gateway.address, status=2).stdout
    assert "fail" in shown
    assert "History store" not in shown  # the service's own, not that of this directory


def test_doctor_looks_at_certificate_and_token(start_gateway, authority, tmp_path):
    tokens = TokenFile(tmp_path / "tokens.json")
    secrets = {scope: tokens.create(scope, [scope], lifetime=None).secret for scope in (Scope.READ, Scope.WRITE)}
    for scope, secret in secrets.items():
        (tmp_path / scope).write_text(secret)
    pair = authority.issue("server", begins=timedelta(days=-9), ends=timedelta(days=1))
    gateway = start_gateway(
        tls=TlsFiles(certificate=pair.certificate, key=pair.key), access=AccessRules(tokens=tokens.path)
    )
    there = ("--target", f"localhost:{gateway.port}", "--ca", str(authority.path))
    late = checks(*there, "--token-file", str(tmp_path / "read"), status=2)
    assert late["TLS"]["state"] == "warn"
    assert "renew" in late["TLS"]["remedy"]
    assert late["histories"]["state"] == "ok"
    refused = checks(*there, "--token-file", str(tmp_path / "write"), status=2)
    assert refused["token"]["state"] == "fail"
    assert "scope read" in refused["token"]["remedy"]
    assert secrets[Scope.WRITE] not in str(refused)
    plain = checks("--target", f"localhost:{gateway.port}", status=2)
    assert plain["service"]["state"] == "fail"
    assert "without TLS" in plain["service"]["found"]


def test_a_certificate_s_state_is_by_what_is_left_of_its_lifetime(start_gateway, authority):
    pair = authority.issue("server", begins=timedelta(days=-1), ends=timedelta(days=9))
    gateway = start_gateway(tls=TlsFiles(certificate=pair.certificate, key=pair.key))
    config = ChannelConfig(target=f"localhost:{gateway.port}", tls=True, root_certificates=authority.roots)
    from datetime import UTC, datetime

    def state(later):
        found = check_service(config, clock=lambda: datetime.now(UTC) + later)
        return next(each.state for each in found if each.what == "TLS")

    assert [state(timedelta(days=days)) for days in (0, 6, 7, 10)] == ["ok", "ok", "warn", "fail"]


@pytest.mark.slow
def test_ray_answers(ray_node):
    import ray

    found = check_ray(ray.get_runtime_context().gcs_address)
    assert found.state == "ok", found


def test_a_live_view_follows_until_it_is_stopped(metrics, client, monkeypatch):
    """What a terminal shows, with time that passes at once."""
    client.score("nobody", [1])
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    done = said("top", "--metrics", metrics, "--interval", "2")
    assert slept == [2.0, 2.0, 2.0]
    assert "Recommender/Score" in done.stdout
