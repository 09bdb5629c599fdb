"""`recollect index add | delete` as a person at a shell meets them, and the build that merges what they did."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import Result
from typer.testing import CliRunner

from recollect.cli import app
from retrieval.index.vector_index import VectorIndex

Run = Callable[..., Result]
COUNT, DIMENSION = 200, 8


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    environment = {"RECOLLECT_VAR": "var", "COLUMNS": "200", "TERM": "dumb"}
    return lambda *words: CliRunner().invoke(app, ["index", *map(str, words)], env=environment)


def write(name: str, ids: list[Any], vectors: Any) -> str:
    pl.DataFrame({"id": ids, "vector": vectors}).write_parquet(name)
    return name


def drawn(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, DIMENSION)).astype(np.float32)


@pytest.fixture
def base(run: Run) -> str:
    """The version of the index `items` of ids 0 to 199."""
    (built,) = rows(
        run("build", "items", "--vectors", write("base.parquet", list(range(COUNT)), drawn(COUNT, 1)), "--json")
    )
    return str(built["version"])


def rows(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def ids_of(tmp_path: Path, version: str) -> list[int]:
    return VectorIndex.open(tmp_path / "var" / "indexes" / "items" / version / "index").ids.to_list()


def test_added_deleted_built_anew_and_told_each_time(run: Run, base: str, tmp_path: Path) -> None:
    (added,) = rows(run("add", "items", write("new.parquet", [7, 500], drawn(2, 2)), "--json"))
    assert (added["added"], added["replaced"], added["vectors"], added["refused"]) == (2, 1, COUNT + 1, [])
    assert added["coverage"] == 1.0
    (tmp_path / "gone.txt").write_text("1\n2\n")
    (deleted,) = rows(run("delete", "items", "gone.txt", "--id", "3", "--json"))
    assert (deleted["deleted"], deleted["vectors"]) == (3, COUNT - 2)
    assert ids_of(tmp_path, deleted["version"]) == [0, *range(4, COUNT), 500]

    listed = {row["version"]: row for row in rows(run("list", "--json"))}
    assert listed[deleted["version"]]["labels"] == ["stable"]
    assert listed[deleted["version"]]["base"]["version"] == base
    assert listed[base]["base"] is None
    assert f"changed since {base}" in run("list").stdout
    verified = run("verify", "items@stable")
    assert verified.exit_code == 0, verified.output

    (built,) = rows(run("build", "items", "--vectors", "base.parquet", "--json"))
    assert built["merged"] == {"kept": 1, "left_out": 3, "dropped": 0}
    assert ids_of(tmp_path, built["version"]) == [0, *range(4, COUNT), 500]
    told = run("build", "items", "--vectors", "base.parquet", "--drop-added", "--restore-deleted")
    assert "0 that the source lacks are kept and 1 dropped; 0 of the source stay out" in told.stdout
    (back,) = rows(run("rollback", "items", "--json"))
    assert back["version"] == built["version"]


def test_what_does_not_fit_is_told_and_the_rest_done(run: Run, base: str, tmp_path: Path) -> None:
    bad = write("bad.parquet", [300, 301, 302], [[1.0] * DIMENSION, [1.0] * 3, [float("nan")] * DIMENSION])
    done = run("add", "items", bad)
    assert done.exit_code == 1
    assert "1 added, 0 of them anew; 201 vectors of 8" in done.stdout
    assert "the vector of id 301 must have 8 numbers, as those of the index, got 3" in done.stderr
    assert "the vector of id 302 must be finite" in done.stderr
    unknown = [word for number in range(900, 912) for word in ("--id", str(number))]
    done = run("delete", "items", "--id", "300", *unknown)
    assert done.exit_code == 1
    assert "1 deleted; 200 vectors of 8" in done.stdout
    assert "id '900' is not in the index; leave it out" in done.stderr
    assert "… and 2 more that are left out" in done.stderr
    as_json = run("delete", "items", "--id", "5", "--id", "900", "--json")
    assert as_json.exit_code == 1
    refused = json.loads(as_json.stdout)["refused"]
    assert refused == [{"id": "900", "reason": "id '900' is not in the index; leave it out"}]


def test_many_changes_advise_a_build(run: Run, base: str) -> None:
    done = run("add", "items", write("new.parquet", list(range(500, 530)), drawn(30, 3)))
    assert done.exit_code == 0, done.output
    assert "15% of the base was added, replaced or deleted" in done.stdout
    assert "`recollect index build items`" in done.stdout


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["add", "none", "base.parquet"], "no index 'none@stable'"),
        (["add", "items", "none.parquet"], "none.parquet cannot be read as Parquet"),
        (["add", "items", "base.parquet", "--label", "canary"], "no index 'items@canary'"),
        (["delete", "items"], "say what to delete: --id, or a file of ids"),
        (["delete", "items", "none.txt"], "none.txt cannot be read as a text with an id a line"),
        (["delete", "items", "--id", "x"], "none of the ids can be deleted: id 'x' is not in the index"),
    ],
    ids=["no index", "no file", "no label", "nothing said", "no text", "no id"],
)
def test_what_is_missing_is_told(run: Run, base: str, words: list[str], match: str) -> None:
    done = run(*words)
    assert done.exit_code in (1, 2)
    assert match in " ".join(done.stderr.replace("│", " ").split())
