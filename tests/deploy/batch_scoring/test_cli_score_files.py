"""`recollect score --input` as a person runs it: the service's own numbers, and what a kill leaves is kept."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import Result
from typer.testing import CliRunner

from recollect.batch_scoring import parts as on_disk
from recollect.batch_scoring.parts import PartsOnDisk, work_of
from recollect.cli import app
from recollect.gateway.models import ServedModel
from recollect_api import ClientError, RecollectClient

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture
def run(world: Any) -> Callable[..., Result]:
    environment = {"RECOLLECT_VAR": str(world.var), "COLUMNS": "200", "TERM": "dumb"}
    return lambda *words: CliRunner().invoke(app, ["score", *map(str, words)], env=environment)


@pytest.fixture
def rows() -> list[tuple[str, list[int]]]:
    random = np.random.default_rng(5)
    users = random.choice(["ann", "bob", "nobody"], 60).tolist()
    return [(user, random.choice([10, 20, 30, 77], random.integers(1, 4)).tolist()) for user in users]


@pytest.mark.parametrize(
    "source", ["redis", *(pytest.param(source, marks=pytest.mark.slow) for source in ("events", "both"))]
)
def test_scores_are_those_of_the_service(
    ray_node: None,
    world: Any,
    run: Callable[..., Result],
    rows: list[Any],
    write_requests: Any,
    start_gateway: Any,
    tmp_path: Path,
    source: str,
) -> None:
    moments = [None if at % 2 else BEGIN + timedelta(seconds=at * 3) for at in range(len(rows))]
    as_of = pl.Series(moments, dtype=pl.Datetime("us", "UTC"))
    bad = [("", [10]), ("ann", []), ("ann", [-1, 10])]
    requests = write_requests(tmp_path / "requests.parquet", [*rows, *bad], as_of=pl.concat([as_of, as_of[:3]]))
    places = {"redis": ("--redis", world.redis_url), "events": ("--events", world.events)}
    words = [word for name, place in places.items() if source in (name, "both") for word in place]
    result = run("--input", requests, "--output", tmp_path / "scores.parquet", *words, "--json")
    assert result.exit_code == 0, result.output
    scores = pl.read_parquet(tmp_path / "scores.parquet")
    told = json.loads(result.stdout)
    assert (told["rows"], told["refused"], told["model"]) == (63, 3, world.reference)
    assert scores["user_id"].to_list() == [user for user, _ in [*rows, *bad]]

    gateway = start_gateway(redis_url=world.redis_url)
    gateway.slot.swap(ServedModel(name="dare", version=world.model, ranker=world.ranker))
    with RecollectClient(gateway.address, timeout_s=30.0) as client:
        for row in scores.tail(3).iter_rows(named=True):
            with pytest.raises(ClientError, match=re.escape(row["reason"].split()[0])):
                client.score(row["user_id"], row["item_ids"])
            assert (row["status"], row["scores"]) == ("refused", None)
        for row in scores.head(60).iter_rows(named=True):
            served = client.score(row["user_id"], row["item_ids"], as_of=row["as_of"])
            assert row["scores"] == [item.score for item in served.items]
            assert row["model"] == f"{served.model_name}/{served.model_version}"
            assert row["history_length"] == served.history_length
            degraded = ", ".join(each.name for each in served.degraded)
            assert (row["status"], row["reason"] or "") == ("degraded" if degraded else "scored", degraded)
            assert row["unknown_positions"] == [at for at, item in enumerate(served.items) if not item.known]
    assert set(scores["status"]) == {"scored", "degraded", "refused"}
    assert not work_of(tmp_path / "scores.parquet").exists()


class Killed(BaseException):
    """In the place of SIGKILL, where it must be known after which part it came."""


@pytest.mark.slow
def test_what_a_kill_leaves_is_kept_and_the_rest_is_done(
    ray_node: None,
    world: Any,
    run: Callable[..., Result],
    rows: list[Any],
    write_requests: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(on_disk, "MOST_ROWS", 7)
    write_requests(tmp_path / "in" / "a.parquet", rows[:40])
    write_requests(tmp_path / "in" / "b.parquet", rows[40:])
    output = tmp_path / "scores"
    words = ("--input", tmp_path / "in", "--output", output, "--events", world.events, "--json")
    real = PartsOnDisk.write

    def dies_at_the_third(self: PartsOnDisk, part: Any, data: bytes) -> None:
        if len(list(work_of(output).glob("part-*.parquet"))) == 2:
            raise Killed
        real(self, part, data)

    monkeypatch.setattr(PartsOnDisk, "write", dies_at_the_third)
    with pytest.raises(Killed):
        run(*words)
    assert not output.exists()
    kept = {path.name: path.read_bytes() for path in work_of(output).glob("part-*.parquet")}
    assert len(kept) == 2
    monkeypatch.setattr(PartsOnDisk, "write", real)
    again = run(*words)
    assert again.exit_code == 0, again.output
    told = json.loads(again.stdout)
    assert told["rows_done_before"] == sum(len(pl.read_parquet(data)) for data in kept.values())
    assert told["rows"] == told["scored"] + told["degraded"] == len(rows)
    assert sorted(path.name for path in output.iterdir()) == [f"part-{number:06d}.parquet" for number in range(9)]
    assert {name: (output / name).read_bytes() for name in kept} == kept
    found = pl.read_parquet(output / "part-*.parquet")
    assert list(zip(found["user_id"], found["item_ids"].to_list(), strict=True)) == rows

    refused = run(*words)
    assert refused.exit_code == 1
    assert "exists; replace it with --overwrite" in refused.stderr
    assert run(*words, "--overwrite").exit_code == 0
    assert pl.read_parquet(output / "part-*.parquet").equals(found)


@pytest.mark.slow
def test_a_job_that_is_killed_goes_on(world: Any, rows: list[Any], write_requests: Any, tmp_path: Path) -> None:
    many = rows * 500  # thirty parts
    requests = write_requests(tmp_path / "requests.parquet", many, call=list(range(len(many))))
    output = tmp_path / "scores.parquet"
    words = [sys.executable, "-c", "from recollect.cli import app; app()", "score", "--json"]
    words += ["--input", str(requests), "--output", str(output), "--events", str(world.events)]
    environment = {**os.environ, "RECOLLECT_VAR": str(world.var)}
    job = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not list(work_of(output).glob("part-*.whole")) and time.monotonic() < deadline:
        assert job.poll() is None
        time.sleep(0.005)
    job.send_signal(signal.SIGKILL)
    job.wait()
    assert not output.exists()
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert 0 < told["rows_done_before"] < told["rows"] == len(many)
    found = pl.read_parquet(output)
    assert found["call"].to_list() == list(range(len(many)))
    by_request = found.group_by("user_id", "item_ids").agg(pl.col("scores").n_unique())
    assert by_request["scores"].to_list() == [1] * len(by_request)


@pytest.mark.slow
def test_requests_bring_their_histories(
    ray_node: None, run: Callable[..., Result], write_requests: Any, expected: Any, tmp_path: Path
) -> None:
    histories = [[10, 20], []]
    requests = write_requests(tmp_path / "r.parquet", [("x", [30]), ("y", [30])], history=histories)
    result = run("--input", requests, "--output", tmp_path / "s.parquet")
    assert result.exit_code == 0, result.output
    assert "degraded" in result.stdout
    scores = pl.read_parquet(tmp_path / "s.parquet")["scores"].to_list()
    assert scores == [expected(history, [30]) for history in histories]


@pytest.mark.slow
def test_histories_that_cannot_be_read_end_it_and_the_next_run_goes_on(
    ray_node: None, run: Callable[..., Result], write_requests: Any, tmp_path: Path
) -> None:
    requests = write_requests(tmp_path / "r.parquet", [("ann", [10])])
    words = ("--input", requests, "--output", tmp_path / "s.parquet")
    result = run(*words, "--redis", f"unix://{tmp_path}/nobody.sock")
    assert result.exit_code == 1
    assert result.stderr.count("error:") == 1
    assert "nobody.sock" in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "s.parquet").exists()


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ((), 2, "give USER and --items for one call, or --input and --output"),
        (("ann",), 2, "give USER and --items"),
        (("ann", "--items", "1", "--workers", "2"), 2, "give USER and --items"),
        (("--input", "{r}"), 2, "--input and --output belong together"),
        (("ann", "--input", "{r}", "--output", "s.parquet"), 2, "without USER and the options of one call"),
        (("--input", "nowhere.parquet", "--output", "s.parquet"), 1, "cannot read requests from"),
        (("--input", "{r}", "--output", "{d}/s", "--events", "nowhere"), 1, "column history; leave out --redis"),
        (("--input", "{d}/p.parquet", "--output", "{d}/s", "--events", "nowhere"), 1, "no event store at nowhere"),
        (("--input", "{r}", "--output", "{d}/s", "--model", "dare/none"), 1, "no version 'none' of 'dare'"),
        (("--input", "{r}", "--output", "{r}"), 1, "r.parquet exists; replace it with --overwrite"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_mistakes_are_told_before_anything_starts(
    run: Callable[..., Result], write_requests: Any, tmp_path: Path, words: tuple[str, ...], status: int, message: str
) -> None:
    requests = write_requests(tmp_path / "r.parquet", [("ann", [10])], history=[[10]])
    write_requests(tmp_path / "p.parquet", [("ann", [10])])
    result = run(*(word.format(r=requests, d=tmp_path) for word in words))
    assert result.exit_code == status, result.output
    assert message in " ".join(result.stderr.replace("│", " ").split())
