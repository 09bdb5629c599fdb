"""`recollect train` and `recollect evaluate` as a person runs them, a kill in the middle included."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from recollect.cli import app
from recsys.data.shop import ShopConfig, build_shop

OPTIONS = ("--attention-dim", "4", "--representation-dim", "4", "--epochs", "2")
RECOLLECT = (sys.executable, "-c", "from recollect.entry import main; main()")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("shop") / "shop"
    build_shop(ShopConfig(users=150, items=400, categories=12, mean_events=80, days=90), directory)
    return directory


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Result]:
    environment = {"RECOLLECT_VAR": str(tmp_path / "var"), "COLUMNS": "200", "TERM": "dumb"}
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words], env=environment)


def rows(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_train_publishes_what_evaluate_measures(run: Callable[..., Result], store: Path, ray_node: None) -> None:
    (trained,) = rows(run("train", store, *OPTIONS, "--json"))
    assert trained["model"] == "dare"
    assert 0.5 < trained["auc"] < 1
    (measured,) = rows(run("evaluate", "--json"))
    figures = ("auc", "gauc", "logloss", "n_samples", "n_users", "version")
    assert {name: measured[name] for name in figures} == pytest.approx({name: trained[name] for name in figures})
    saved = Path(trained["path"]).parents[2] / "evaluations" / f"dare-{trained['version']}-test.json"
    assert json.loads(saved.read_text()) == measured
    table = run("evaluate", "--split", "validation")
    assert "validation" in table.stdout
    assert "GAUC" in table.stdout


@pytest.mark.slow
def test_a_baseline_is_trained_measured_and_never_served(
    run: Callable[..., Result], store: Path, ray_node: None
) -> None:
    (trained,) = rows(run("train", store, "--model", "twin", "--representation-dim", "4", "--epochs", "1", "--json"))
    assert trained["model"] == "twin", "it takes no label of dare's"
    assert trained["auc"] > 0.5
    (measured,) = rows(run("evaluate", "twin@stable", "--json"))
    assert measured["auc"] == pytest.approx(trained["auc"])
    assert "there is no label of 'dare'" in run("evaluate").stderr
    for words in (("serve", "--model", "twin@stable"), ("index", "build", "items", "--model", "twin@stable")):
        refused = run(*words)
        assert refused.exit_code == 1
        told = " ".join(refused.stderr.split())
        assert "holds a baseline to compare with, 'twin': only 'dare' models are served and indexed" in told


@pytest.mark.slow
def test_train_reads_a_log_and_keeps_its_store(run: Callable[..., Result], tmp_path: Path, ray_node: None) -> None:
    from recsys.data.shop import write_taobao_csv

    log = tmp_path / "UserBehavior.csv"
    write_taobao_csv(ShopConfig(users=60, items=300, categories=10, mean_events=400, days=90), log)
    (trained,) = rows(run("train", log, "--data", "taobao", "--preset", "taobao", *OPTIONS, "--json"))
    store = tmp_path / "var" / "data" / "UserBehavior-taobao"
    manifest = json.loads((store / "manifest.json").read_text())
    assert manifest["report"]["event_types"].keys() == {"click"}, "the published recipe trains on clicks alone"
    assert trained["n_users"] == sum(length >= 210 for length in _lengths(store))


def _lengths(store: Path) -> list[int]:
    import numpy as np

    return np.diff(np.load(store / "offsets.npy")).tolist()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(("train", "nowhere"), "no event store at nowhere", id="no-store"),
        pytest.param(("train", "nowhere", "--preset", "dar"), "no preset 'dar'; there are default", id="no-preset"),
        pytest.param(
            ("train", "nowhere", "--model", "dien"), "no model 'dien'; there are dare, twin", id="no-model-kind"
        ),
        pytest.param(
            ("train", "nowhere", "--model", "eta", "--attention-dim", "4"),
            "attention_dim must equal representation_dim for 'eta'",
            id="one-set-has-one-size",
        ),
        pytest.param(("train", "nowhere", "--data", "csv"), "unknown format csv; use", id="no-format"),
        pytest.param(("train", "log.csv", "--data", "columns"), "log.csv has columns of its own", id="columns"),
        pytest.param(("train", "nowhere", "--epochs", "0"), "epochs must be at least 1, got 0", id="epochs"),
        pytest.param(("evaluate",), "there is no label of 'dare'; train one", id="no-model"),
        pytest.param(("evaluate", "--split", "dev"), "--split must be one of train, validation, test", id="no-split"),
    ],
)
def test_mistakes_are_one_clear_line(run: Callable[..., Result], words: tuple[str, ...], message: str) -> None:
    result = run(*words)
    assert result.exit_code == 1
    assert message in result.stderr.replace("'csv'", "csv")
    assert "Traceback" not in result.output


@pytest.mark.slow
def test_a_model_is_not_measured_on_another_catalogue(
    run: Callable[..., Result], store: Path, tmp_path: Path, ray_node: None
) -> None:
    rows(run("train", store, *OPTIONS, "--json"))
    build_shop(ShopConfig(users=40, items=100, categories=5, mean_events=60, days=60, seed=9), tmp_path / "other")
    result = run("evaluate", "--store", tmp_path / "other")
    assert result.exit_code == 1
    assert "another catalogue than dare@stable was trained on" in result.stderr


@pytest.mark.slow
def test_a_run_directory_is_not_shared_by_two_configurations(
    run: Callable[..., Result], store: Path, ray_node: None
) -> None:
    rows(run("train", store, *OPTIONS, "--run", "r", "--json"))
    result = run("train", store, *OPTIONS, "--run", "r", "--seed", "5")
    assert result.exit_code == 1
    assert "was started with another training (seed differ)" in result.stderr
    (again,) = rows(run("train", store, *OPTIONS, "--run", "r", "--seed", "5", "--fresh", "--json"))
    assert again["model"] == "dare"


@pytest.mark.slow
def test_a_killed_command_goes_on_when_it_is_run_again(store: Path, tmp_path: Path) -> None:
    def command(var: str) -> tuple[list[str], dict[str, str]]:
        environment = {**os.environ, "RECOLLECT_VAR": str(tmp_path / var)}
        # Many small steps: a checkpoint every 150 of them, and time to kill between the first and the last.
        long = ("--epochs", "16", "--batch-size", "60", "--run", "r", "--json")
        return [*RECOLLECT, "train", str(store), *OPTIONS, *long], environment

    words, environment = command("killed")
    killed = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    run = tmp_path / "killed" / "runs" / "r"
    deadline = time.monotonic() + 120
    while not list(run.glob("step-*[0-9]")) and time.monotonic() < deadline:
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (run / "model").exists(), "it was to be killed in the middle"
    figures = []
    for var in ("killed", "whole"):
        words, environment = command(var)
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr
        figures.append(
            {name: value for name, value in json.loads(done.stdout).items() if name not in ("path", "version")}
        )
    assert figures[0] == figures[1]
