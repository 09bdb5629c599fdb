"""The benchmark of Recommend measures the whole call and each of its stages."""

import json

import pytest

from recollect.gateway.benchmarks.recommend import main


@pytest.mark.slow
def test_a_line_a_stage(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = {"items": 800, "history": 300, "candidates": 60, "users": 2, "calls": 8, "count": 5}
    main([word for name, value in sizes.items() for word in (f"--{name}", str(value))])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows[0]["stage"] == "call over gRPC"
    assert rows[0]["calls"] == 8
    assert len(rows) == 9
    assert all(0 < row["p50_ms"] <= row["p99_ms"] for row in rows)
