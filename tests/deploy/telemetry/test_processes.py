"""Processes count into files, whichever is asked tells of all, and one that is killed still counts."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from recollect.telemetry import processes
from recollect.telemetry.setup import TelemetryConfig, deployment_options

COUNTING = """
    import sys
    from recollect.telemetry.answers import serving
    from recollect.telemetry.metrics import CALLS, CALLS_IN_FLIGHT, PROCESS_START, STAGE_SECONDS, of

    of(CALLS, "Recommender/Score", "OK").inc(3)
    of(CALLS_IN_FLIGHT, "Recommender/Score").inc(2)
    of(STAGE_SECONDS, "ranking").observe(0.004)
    of(PROCESS_START, "gateway", "1").set(1)
    serving("model", "dare", "a")
    serving("model", "dare", sys.argv[1])
    print("counted", flush=True)
    sys.stdin.read()
"""


class Counting:
    """A process that has counted."""

    def __init__(self, directory: Path, version: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(COUNTING), version],
            env={**os.environ, processes.DIRECTORY_VARIABLE: str(directory)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid

    def wait_until_counted(self) -> "Counting":
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "counted\n"
        return self

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate(timeout=30)


def told(directory: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    monkeypatch.setenv(processes.DIRECTORY_VARIABLE, str(directory))
    text = generate_latest(processes.collected()).decode()
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        # A version that nothing answers with any more is not told at all: there is one more with each activation.
        if sample.value or "replicas_serving" in sample.name
    }


def only(samples: dict[str, float], name: str) -> list[float]:
    return [value for sample, value in samples.items() if sample.startswith(f"{name}[")]


def test_all_count_as_one_and_a_killed_one_still_does(tmp_path, monkeypatch):
    directory = tmp_path / "metrics" / "9464" / "run"  # nobody has made it
    started = [Counting(directory, version) for version in ("b", "c")]
    one, other = (each.wait_until_counted() for each in started)
    try:
        both = told(directory, monkeypatch)
        assert only(both, "recollect_calls_total") == [6]
        assert only(both, "recollect_calls_in_flight") == [4]
        assert only(both, "recollect_stage_duration_seconds_count") == [2]
        assert sorted(only(both, "recollect_process_start_time_seconds")) == [1, 1]
        assert {name for name in both if "replicas_serving" in name} == {
            f"recollect_replicas_serving[('kind', 'model'), ('name', 'dare'), ('version', '{version}')]"
            for version in "bc"
        }
        one.kill()
        left = told(directory, monkeypatch)
        assert only(left, "recollect_calls_total") == [6]
        assert only(left, "recollect_stage_duration_seconds_count") == [2]
        # It does nothing any more, and answers with nothing.
        assert only(left, "recollect_calls_in_flight") == [2]
        assert only(left, "recollect_process_start_time_seconds") == [1]
        assert [name for name in left if "replicas_serving" in name and "'b'" in name] == []
        third = Counting(directory, "b").wait_until_counted()
        try:
            assert only(told(directory, monkeypatch), "recollect_calls_total") == [9]
        finally:
            third.kill()
    finally:
        other.kill()


def test_a_process_of_somebody_else_is_alive_and_one_that_has_ended_is_not(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for pid in (1, os.getpid(), ended.pid):
        (tmp_path / f"gauge_livesum_{pid}.db").touch()
        (tmp_path / f"counter_{pid}.db").touch()
    (tmp_path / "gauge_livesum_notes.db").touch()
    processes.forget_dead(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["gauge_livesum_1.db", f"gauge_livesum_{os.getpid()}.db", "gauge_livesum_notes.db"]
        + [f"counter_{pid}.db" for pid in (1, os.getpid(), ended.pid)]
    )


def test_what_an_earlier_service_left_goes_and_what_others_have_stays(tmp_path):
    for left in ("9464/before/counter_1.db", "9465/other/counter_1.db", "9464/now/counter_2.db"):
        (tmp_path / left).parent.mkdir(parents=True)
        (tmp_path / left).touch()
    processes.begin_directory(tmp_path / "9464/now")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.db")) == [
        "9464/now/counter_2.db",
        "9465/other/counter_1.db",
    ]
    processes.begin_directory(tmp_path / "9466/new")
    assert (tmp_path / "9466/new").is_dir()


def test_deployments_are_told_where_to_count_and_keep_their_options(tmp_path):
    from recollect.telemetry.exporter import MetricsConfig

    options = {"ray_actor_options": {"num_cpus": 0}, "max_ongoing_requests": 5}
    assert deployment_options(TelemetryConfig(), options) == options
    config = TelemetryConfig(metrics=MetricsConfig(host="127.0.0.1", port=1, directory=tmp_path))
    assert deployment_options(config, options) == {
        "ray_actor_options": {
            "num_cpus": 0,
            "runtime_env": {"env_vars": {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}},
        },
        "max_ongoing_requests": 5,
    }
    assert options["ray_actor_options"] == {"num_cpus": 0}
