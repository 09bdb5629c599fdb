"""`recollect bench serve`: a whole service, loaded; its figures, its report, and what it refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

FIELDS = {
    *("history", "candidates", "offered_rps", "p50_ms", "p99_ms", "errors"),
    *("inprocess_p50_ms", "overhead_ms", "saturation_rps"),
}


@pytest.fixture
def run_cli(tmp_path):
    """`recollect WORD…` as a process of its own: it starts a Ray of its own, too."""

    def run(*words, check=True, timeout=60):
        command = [Path(sys.executable).with_name("recollect"), *words]
        environment = {**os.environ, "RECOLLECT_VAR": str(tmp_path / "var"), "COLUMNS": "200"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout, check=False)
        assert not check or done.returncode == 0, done.stderr
        return done

    return run


@pytest.mark.slow
def test_a_service_is_measured_from_one_call_to_too_many(run_cli, tmp_path):
    report = tmp_path / "report"
    done = run_cli(
        *("bench", "serve", "--history", "200", "--candidates", "20", "--items", "1000", "--users", "3"),
        *("--replicas", "1", "--seconds", "1", "--overload-seconds", "2", "--report", str(report), "--json"),
        timeout=240,
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    kinds = [row["kind"] for row in rows]
    assert kinds[-3:] == ["well below", "overload", "overload, heeded"]
    assert set(kinds[:-3]) == {"ramp"}
    names = [
        "history",
        "candidates",
        "offered_rps",
        "p50_ms",
        "p99_ms",
        "errors",
        "inprocess_p50_ms",
        "overhead_ms",
        "saturation_rps",
    ]
    assert all(row.keys() >= set(names) for row in rows)
    below, over, heeded = rows[-3:]
    assert (below["history"], below["candidates"]) == (200, 20)
    assert below["offered_rps"] == pytest.approx(0.3 * below["saturation_rps"], rel=0.01)
    assert 0 < below["inprocess_p50_ms"] < below["call_p50_ms"]
    assert over["offered_rps"] == pytest.approx(3 * over["saturation_rps"], rel=0.01)
    assert sum(over["codes"].values()) == over["errors"]
    assert sum(heeded["codes"].values()) == heeded["errors"]
    page = (report / "report.md").read_text()
    assert f"takes {below['saturation_rps']:,.0f} calls a second" in page
    assert {"ramp.png", "overload.png"} <= {each.name for each in report.iterdir()}
    assert len(pl.read_parquet(report / "rows.parquet")) == len(rows)


def test_a_service_elsewhere_needs_to_be_asked_something(run_cli):
    done = run_cli("bench", "serve", "--target", "localhost:1", check=False)
    assert done.returncode == 2
    assert "--target and --requests belong together" in " ".join(done.stderr.split())
