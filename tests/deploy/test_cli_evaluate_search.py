"""`recollect evaluate search` and `positions` as a person runs them: models in, a table, a folder or JSON lines out."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import Result
from typer.testing import CliRunner

from recollect.cli import app
from recollect.pipeline import models
from recollect.settings import Settings
from recsys.data.event_store import EventStore
from recsys.data.protocols import LeaveLastOut
from recsys.data.samples import SampleConfig
from recsys.data.shop import ShopConfig, build_shop
from recsys.training.config import TrainConfig
from recsys.training.loop import train

Run = Callable[..., Result]
FEW = ("--min-samples", 50, "--min-count", 1, "--min-history", 30, "--most-unreliable", 60)
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`var` with `dare@stable`, and runs of it with another seed, of baselines, and of another recipe."""
    root = tmp_path_factory.mktemp("diagnosed")
    build_shop(ShopConfig(users=120, items=300, categories=10, mean_events=80, days=90), root / "shop")
    protocol = LeaveLastOut(min_events=40, train_first=3, train_last=30, train_stride=3)
    for name, own in {
        "dare-0": {},
        "dare-1": {"seed": 1},
        "twin": {"model": "twin"},
        "din": {"model": "din"},
        "sdim": {"model": "sdim"},
        "other": {"samples": SampleConfig(protocol=protocol, negatives=3)},
    }.items():
        common = {"samples": SampleConfig(protocol=protocol, max_history=60), "epochs": 1, "search_k": 8}
        config = TrainConfig(attention_dim=4, representation_dim=4, **{**common, **own})  # type: ignore[arg-type]
        train(EventStore(root / "shop"), config, root / "runs" / name)
    published = models(Settings(var=root / "var"))
    version = published.publish("dare", root / "runs" / "dare-0" / "model").version
    published.set_label("dare", "stable", version)
    return root


@pytest.fixture
def run(place: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(place)
    environment = {"RECOLLECT_VAR": str(place / "var"), "COLUMNS": "250", "TERM": "dumb"}
    return lambda *words: CliRunner().invoke(app, [str(word) for word in ("evaluate", *words)], env=environment)


def rows(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def of(name: str) -> str:
    return f"runs/{name}/model"


def test_searches_are_held_against_each_other(run: Run, tmp_path: Path) -> None:
    named = ("dare@stable", of("dare-1"), of("twin"), of("din"), of("sdim"))
    result = run("search", *named, *FEW, "--gradient-steps", 2, "--maps", 2, "--output", tmp_path / "out", "--json")
    found = rows(result)
    ndcg = {row["search"]: row for row in found if row["measure"] == "ndcg"}
    assert list(ndcg)[:4] == ["dare", "twin", "din", "other half's grades"]
    assert (ndcg["dare"]["models"], ndcg["twin"]["models"]) == (2, 1)
    assert all(0 < row["ndcg"] <= 1 for row in ndcg.values())
    assert ndcg["twin"]["less_first"] == pytest.approx(ndcg["twin"]["ndcg"] - ndcg["dare"]["ndcg"], abs=1e-9)
    gradients = [row for row in found if row["measure"] == "gradients"]
    assert [(row["search"], row["table"], row["shared"], row["steps"]) for row in gradients] == [
        *(("dare", table, False, 4) for table in ("item", "category", "position")),
        *(("twin", table, True, 2) for table in ("item", "category", "position")),
    ]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("report.md", "ndcg.parquet", "cells.parquet", "gradients.parquet"),
        *("ndcg.png", "attention-1.png", "attention-2.png", "gradients.png"),
    }
    assert all(path.read_bytes().startswith(PNG) for path in (tmp_path / "out").glob("*.png"))
    saved = pl.read_parquet(tmp_path / "out" / "ndcg.parquet").to_dicts()
    assert saved == [{name: value for name, value in row.items() if name != "measure"} for row in ndcg.values()]
    cells = pl.read_parquet(tmp_path / "out" / "cells.parquet")
    assert (cells["information_bits"] >= 0).all()
    assert f"attention: {of('twin')}" in cells.columns
    report = (tmp_path / "out" / "report.md").read_text()
    assert "runs/sdim/model: sdim pools the whole history and searches for nothing" in report
    assert report.count("![") == 4


def test_a_person_sees_tables_and_where_the_rest_is(run: Run, place: Path) -> None:
    result = run("search", *FEW, "--gradient-steps", 1)
    assert result.exit_code == 0, result.output
    assert "What is kept, graded by mutual information" in result.stdout
    assert "Gradients of attention and of representation" in result.stdout
    assert "search-dare-stable-test" in result.stderr
    assert (place / "var" / "evaluations" / "search-dare-stable-test" / "report.md").exists()


def test_gradients_are_measured_along_a_training_too(run: Run, tmp_path: Path) -> None:
    measured = ("--gradient-steps", 0, "--retrain", "--maps", 0, "--output", tmp_path, "--json")
    words = ("search", of("dare-1"), of("din"), *FEW, *measured)
    gradients = [row for row in rows(run(*words)) if row["measure"] == "gradients"]
    assert {(row["search"], row["weights"]) for row in gradients} == {("dare", "whole training")}
    assert all(row["steps"] > 0 for row in gradients)
    assert not list(tmp_path.glob("attention*"))
    assert pl.read_parquet(tmp_path / "cells.parquet")["behaviours_met"].sum() == 0


def test_plants_are_looked_for(run: Run, tmp_path: Path) -> None:
    words = ("--lengths", "20,40", "--bins", 4, "--targets", 30, "--output", tmp_path / "out", "--json")
    found = rows(run("positions", "dare@stable", of("dare-1"), of("sdim"), *words))
    bins = [row for row in found if row["measure"] == "bin"]
    gaps = [row for row in found if row["measure"] == "gap"]
    assert len(bins) == 2 * 3 * 2 * 4
    assert len(gaps) == 2 * 3 * 2
    first = bins[0]
    assert (first["search"], first["models"], first["plant"], first["length"]) == ("dare", 2, "item", 20)
    assert (first["first_position"], first["last_position"], first["recall_by_chance"]) == (1, 5, 0.4)
    assert all((row["recall"] is None) == (row["search"] == "sdim") for row in bins)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("report.md", "positions.parquet", "gaps.parquet", "recall.png", "score-change.png")
    }
    saved = pl.read_parquet(tmp_path / "out" / "gaps.parquet").to_dicts()
    assert saved == [{name: value for name, value in row.items() if name != "measure"} for row in gaps]
    again = rows(run("positions", "dare@stable", of("dare-1"), of("sdim"), *words))
    assert again == found, "the seed decides every draw"


def test_a_person_sees_the_longest_histories(run: Run) -> None:
    result = run("positions", of("sdim"), "dare@stable", "--lengths", "10,30", "--targets", 10)
    assert result.exit_code == 0, result.output
    assert "Planted in 30 unrelated behaviours" in result.stdout
    assert "sdim searches for nothing, so that only its scores are measured" in result.stderr.replace("\n", " ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("search", "nothing@stable"), "nothing"),
        (("search", of("sdim")), "sdim pools the whole history and searches for nothing"),
        (("search", "dare@stable", "dare@stable"), "each once; got dare@stable, dare@stable"),
        (("search", "dare@stable", of("other")), "was trained on other samples than dare@stable"),
        (("search", "--bins", "1,x"), "--bins must be whole numbers separated by commas, got '1,x'"),
        (("search", "--bins", "2,5"), "bins must be ascending positions that begin with 1"),
        (("search", "--split", "dev"), "--split must be one of train, validation, test"),
        (("search", "--min-samples", "1000000"), "lower --min-samples"),
        (("search", "--min-samples", "50", "--min-history", "999"), "their history 999 behaviours"),
        (("search", "--store", "nowhere"), "no event store at nowhere"),
        (("positions", "dare@stable", of("other")), "was trained on other samples than dare@stable"),
        (("positions", "--lengths", "20;40"), "--lengths must be whole numbers separated by commas, got '20;40'"),
        (("positions", "--lengths", "100000"), "choose shorter ones with --lengths"),
        (("positions", "--bins", "1"), "bins must be at least 2"),
        (("positions", "--targets", "0"), "targets must be at least 1, got 0"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_mistakes_are_one_clear_line(run: Run, words: tuple[str, ...], message: str) -> None:
    result = run(*words)
    assert result.exit_code == 1, result.output
    assert message in result.stderr.replace("\n", " ")
    assert "Traceback" not in result.output
