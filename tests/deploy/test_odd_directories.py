"""A directory may have any name, also one that would be a pattern."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from recollect.cli import app
from recsys.data.event_store import EventStore


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, Any]]]:
    """Runs a command below a directory whose name has brackets and a star, and reads its JSON."""
    (tmp_path / "sh[o]p *").mkdir()
    monkeypatch.chdir(tmp_path / "sh[o]p *")
    monkeypatch.setenv("RECOLLECT_VAR", str(tmp_path / "sh[o]p *" / "var"))

    def command(*words: str) -> list[dict[str, Any]]:
        done = CliRunner().invoke(app, [*words, "--json"])
        assert done.exit_code == 0, done.output
        return [json.loads(line) for line in done.stdout.splitlines()]

    return command


def test_logs_and_catalogues_are_imported(run: Callable[..., list[dict[str, Any]]]) -> None:
    times = np.arange(1_700_000_000, 1_700_000_040)
    log = {"user": ["a", "b"] * 20, "item": list(range(10)) * 4, "category": [0, 1] * 20, "time": times}
    pl.DataFrame(log).write_parquet("log[1].parquet")
    words = ["--user", "user", "--item", "item", "--category", "category", "--time", "time", "--to", "st[o]re"]
    (told,) = run("data", "import", "log[1].parquet", "--format", "columns", *words)
    assert told["rows_kept"] == 40
    store = EventStore(Path("st[o]re"))
    assert (store.n_users, store.catalogue.n_items) == (2, 10)
    assert sorted(store.user_ids) == ["a", "b"]
    pl.DataFrame({"item": range(10), "name": ["x"] * 10}).write_parquet("items[1].parquet")
    assert run("catalogue", "import", "items[1].parquet")[0]["items"] == 10
    assert [row["item_id"] for row in run("catalogue", "show", "3", "4")] == [3, 4]


def test_indexes_are_built_changed_and_searched(run: Callable[..., list[dict[str, Any]]]) -> None:
    vectors = np.random.default_rng(5).normal(size=(12, 4)).astype(np.float32)
    pl.DataFrame({"id": range(10), "vector": vectors[:10]}).write_parquet("v[1].parquet")
    pl.DataFrame({"id": [10, 11], "vector": vectors[10:]}).write_parquet("more[1].parquet")
    assert run("index", "build", "items", "--vectors", "v[1].parquet")[0]["vectors"] == 10
    assert run("index", "add", "items", "more[1].parquet")[0]["vectors"] == 12
    assert run("index", "delete", "items", "--id", "3")[0]["vectors"] == 11
    (built,) = run("index", "build", "items", "--vectors", "v[1].parquet")
    assert (built["vectors"], built["merged"]) == (11, {"kept": 2, "left_out": 1, "dropped": 0})
    assert len(run("index", "search", "items", "--like", "10", "-k", "3")) == 3
