"""The benchmarks of the gateway measure whole calls and their parts."""

import json
from collections.abc import Mapping

import pytest

from recollect.gateway.benchmarks import recommend, score


def options(sizes: Mapping[str, int]) -> list[str]:
    return [word for name, value in sizes.items() for word in (f"--{name}", str(value))]


@pytest.mark.slow
def test_recommend_a_line_a_stage(capsys: pytest.CaptureFixture[str]) -> None:
    recommend.main(options({"items": 800, "history": 300, "candidates": 60, "users": 2, "calls": 8, "count": 5}))
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows[0]["stage"] == "call over gRPC"
    assert rows[0]["calls"] == 8
    assert len(rows) == 9
    assert all(0 < row["p50_ms"] <= row["p99_ms"] for row in rows)


@pytest.mark.slow
def test_score_a_call_and_its_model_a_user(capsys: pytest.CaptureFixture[str]) -> None:
    score.main(options({"items": 800, "history": 200, "cap": 300, "appended": 400, "calls": 8}))
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["stage"] for row in rows] == [
        f"{what}, {events} behaviours" for events in (200, 300, 400) for what in ("call over gRPC", "the model alone")
    ]
    assert all(0 < row["p50_ms"] <= row["p99_ms"] and row["calls"] == 8 for row in rows)
