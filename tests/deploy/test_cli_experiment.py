"""`recollect experiment` as a person runs it: a table, its runs, what is not repeated, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from click.testing import Result
from typer.testing import CliRunner

from recollect.cli import app
from recsys.data.shop import ShopConfig, build_shop

SMALL = ("--representation-dim", "4", "--epochs", "1")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("shop") / "shop"
    build_shop(ShopConfig(users=100, items=300, categories=10, mean_events=60, days=90), directory)
    return directory


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Result]:
    environment = {"RECOLLECT_VAR": str(tmp_path / "var"), "COLUMNS": "200", "TERM": "dumb"}
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words], env=environment)


def test_models_run_side_by_side_and_are_not_repeated(
    run: Callable[..., Result], store: Path, ray_node: None, tmp_path: Path
) -> None:
    folder = tmp_path / "experiment"
    words = ("experiment", store, "--attention-dims", "2,4", "--output", folder, *SMALL)
    first = run(*words, "--models", "dare,eta", "--seeds", "1")
    assert first.exit_code == 0, first.output
    names = [line.split("|")[1].strip() for line in first.stdout.splitlines() if line.startswith("|")]
    assert names[2:] == ["dare, attention 2", "dare, attention 4", "eta"]
    assert (folder / "report.md").read_text().count("0.") >= 9
    assert {path.name for path in folder.iterdir()} == {
        *("runs", "runs.parquet", "report.md", "curves.png", "attention.png")
    }
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/result.json")}
    assert sorted(path.parent.name for path in kept) == ["dare-attention2-seed0", "dare-attention4-seed0", "eta-seed0"]

    again = run(*words, "--models", "dare,eta", "--seeds", "2", "--at-once", "1", "--json")
    assert again.exit_code == 0, again.output
    lines = [json.loads(line) for line in again.stdout.splitlines()]
    assert [(line["model"], line["seed"]) for line in lines] == [
        *(("dare", 0), ("dare", 1), ("dare", 0), ("dare", 1)),
        *(("eta", 0), ("eta", 1)),
    ]
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "seed 0 is not run again"
    assert pl.read_parquet(folder / "runs.parquet")["auc"].to_list() == [line["auc"] for line in lines]


def test_a_shop_of_known_optimum_tells_how_far_each_model_is_from_it(
    run: Callable[..., Result], ray_node: None, tmp_path: Path
) -> None:
    small = ("--users", 150, "--items", 120, "--categories", 6, "--events", 60, "--to", tmp_path / "shop")
    assert run("data", "generate", "--preset", "recurring", *small).exit_code == 0
    folder = tmp_path / "experiment"
    words = ("experiment", tmp_path / "shop", "--models", "twin", "--seeds", "1", "--output", folder, *SMALL)
    result = run(*words, "--preset", "recommend")
    assert result.exit_code == 0, result.output
    head, _, twin, optimum = (
        [cell.strip() for cell in line.split("|")[1:-1]] for line in result.stdout.splitlines() if line.startswith("|")
    )
    assert len(head) == len(twin) == len(optimum)
    assert (head[6], optimum[0]) == ("AUC less the optimum's", "optimum")
    assert float(optimum[2]) > float(twin[2])
    assert float(twin[6]) == pytest.approx(float(twin[2]) - float(optimum[2]), abs=2e-4)
    assert "| optimum |" in (folder / "report.md").read_text()
    *_, last = run(*words, "--preset", "recommend", "--json").stdout.splitlines()
    assert json.loads(last)["variant"] == "optimum"
    assert json.loads(last)["auc"] == pytest.approx(float(optimum[2]), abs=1e-4)


def test_a_mistake_in_the_data_is_one_clear_line(run: Callable[..., Result], ray_node: None, tmp_path: Path) -> None:
    build_shop(ShopConfig(users=20, items=50, categories=5, mean_events=10, days=60), tmp_path / "short")
    result = run("experiment", tmp_path / "short", "--models", "twin", "--seeds", "1", "--preset", "taobao")
    assert result.exit_code == 1
    assert "no train targets in" in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(("nowhere",), "no event store at nowhere", id="no-store"),
        pytest.param(("nowhere", "--models", "dare,dien"), "no model 'dien'; there are dare, twin", id="no-model"),
        pytest.param(
            ("nowhere", "--tracker", "neptune"), "no tracker 'neptune'; there are tensorboard", id="no-tracker"
        ),
        pytest.param(("nowhere", "--models", ","), "at least one model", id="no-models"),
        pytest.param(
            ("nowhere", "--attention-dims", "4,x"), "--attention-dims must be whole numbers separated", id="no-size"
        ),
    ],
)
def test_mistakes_are_told_before_anything_starts(
    run: Callable[..., Result], words: tuple[str, ...], message: str
) -> None:
    result = run("experiment", *words)
    assert result.exit_code == 1
    assert message in result.stderr


def test_a_folder_is_not_shared_by_two_recipes(run: Callable[..., Result], store: Path, tmp_path: Path) -> None:
    from recollect.model_experiment import claim_all
    from recsys.training.config import preset, with_overrides
    from recsys.training.experiment import variants

    config = with_overrides(preset("default"), representation_dim=4, epochs=1)
    claim_all(store, config, variants(["twin"], [], config), range(1), tmp_path / "experiment" / "runs")
    words = ("experiment", store, "--models", "twin", "--output", tmp_path / "experiment", *SMALL)
    result = run(*words, "--learning-rate", "0.5")
    assert result.exit_code == 1
    assert "was started with another training (learning_rate differ)" in result.stderr
