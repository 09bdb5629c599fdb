"""`recollect composed world | pretrain | train | evaluate | experiment | convert` as a person runs them."""

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch
from typer.testing import CliRunner

from recollect.cli import app
from retrieval.composed.encoder import load_composed
from retrieval.composed.training import config as configs
from retrieval.composed.training.config import ComposedTrainConfig, PretrainConfig
from retrieval.composed.vision import CompactVisionConfig

pytestmark = pytest.mark.slow  # all of them wait for a pretraining


@pytest.fixture(scope="module")
def var(tmp_path_factory):
    return tmp_path_factory.mktemp("training") / "var"


@pytest.fixture(scope="module")
def run(var):
    environment = {"RECOLLECT_VAR": str(var), "COLUMNS": "200", "TERM": "dumb"}
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words], env=environment)


@pytest.fixture(scope="module")
def drawn(run, var):
    result = run("composed", "world", var / "world", "--size", "tiny", "--workers", "1")
    assert result.exit_code == 0, result.output
    return Path(result.stdout.strip())


@pytest.fixture(scope="module")
def small():
    """Recipes of seconds in place of those of minutes."""
    base = PretrainConfig()
    start = replace(
        base,
        vision=CompactVisionConfig(widths=(8, 8, 8)),
        qformer=replace(base.qformer, width=16, inner=32, heads=2, query_tokens=4, dimension=16),
        epochs=1,
        qformer_epochs=1,
        instances_a_step=4,
    )

    def world() -> ComposedTrainConfig:
        recipe = configs.world()
        return replace(recipe, epochs=1, batch_size=16, modulator=replace(recipe.modulator, heads=2, hidden=8))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(configs, "PretrainConfig", lambda: start)
        patch.setitem(configs.PRESETS, "world", world)
        yield


@pytest.fixture(scope="module")
def start(run, drawn, small, ray_node):
    result = run("composed", "pretrain", drawn, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def lines(result):
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_world_is_drawn_with_a_sheet_to_look_at(drawn):
    assert (drawn / "sheet.png").read_bytes().startswith(b"\x89PNG")
    assert (drawn / "caption_full.test.json").exists()


def test_pretraining_publishes_a_start(start):
    assert start["model"].startswith("adafocal-start/")
    assert load_composed(start["directory"]).model.modulator is None
    assert {"captions", "objects", "pictures"} <= start["pretraining"].keys()


def test_training_publishes_a_model_that_later_commands_find(run, drawn, start):
    (trained,) = lines(run("composed", "train", drawn, "--preset", "world", "--modulation", "vector", "--json"))
    assert trained["model"].startswith("adafocal/")
    assert {"r@1", "r_id@1"} <= trained["validation"].keys()
    assert load_composed(trained["directory"]).model.config.modulator.modulation == "vector"
    rows = lines(run("composed", "evaluate", drawn, "--json"))
    groups = {row["group"]: row for row in rows}
    assert {"all", "keep", "replace"} <= groups.keys()
    assert 0 <= groups["all"]["r_id@5"] <= 1
    (again,) = lines(run("composed", "train", drawn, "--preset", "world", "--modulation", "vector", "--json"))
    assert again["model"] == trained["model"], "a finished run is found again"


def test_two_workers_share_each_step(run, drawn, start):
    words = ("composed", "train", drawn, "--preset", "world", "--workers", "2", "--seed", "3", "--label", "", "--json")
    (trained,) = lines(run(*words))
    assert trained["label"] is None
    assert {"r@1", "r_id@1"} <= trained["validation"].keys()


def test_an_experiment_writes_table_runs_and_plot(run, drawn, start, var):
    folder = var / "report"
    result = run(
        "composed", "experiment", drawn, "--preset", "world", "--seeds", "1", "--fixed", "2", "--output", folder
    )
    assert result.exit_code == 0, result.output
    assert "| scalar AdaFocal | 1 |" in result.stdout
    runs = pl.read_parquet(folder / "runs.parquet")
    assert runs["variant"].to_list()[:3] == ["no box", "red rectangle", "crop of the box"]
    assert "By what the text asks for" in (folder / "report.md").read_text()
    assert (folder / "beta.png").exists()


@pytest.mark.parametrize(
    ("words", "match"),
    [
        pytest.param(("evaluate", "nowhere"), "nowhere is no directory", id="no data"),
        pytest.param(("train", ".", "--preset", "huge"), "published, world", id="unknown recipe"),
        pytest.param(("train", ".", "--modulation", "some"), "none, fixed, scalar, vector", id="unknown modulation"),
        pytest.param(("world", "w", "--size", "huge"), "standard, tiny", id="unknown size"),
        pytest.param(("experiment", ".", "--fixed", "a,b"), "numbers separated by commas", id="no numbers"),
    ],
)
def test_mistakes_are_told_in_one_line(run, start, words, match):
    result = run("composed", *words)
    assert result.exit_code == 1
    assert match in result.stderr
    assert "Traceback" not in result.output


def test_a_checkpoint_that_is_none_is_refused(run, start, tmp_path):
    torch.save({"model": {"strange": torch.zeros(3, 3, 3)}}, tmp_path / "other.pth")
    result = run(
        "composed", "convert", tmp_path / "other.pth", "--base", start["directory"], "--output", tmp_path / "out"
    )
    assert result.exit_code == 1
    assert "strange [3, 3, 3]" in result.stderr
    assert not (tmp_path / "out").exists()
