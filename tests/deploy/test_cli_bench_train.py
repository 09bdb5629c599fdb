"""`recollect bench train` prints a row a model and shape, each measured in a process of its own."""

import json

import pytest
from typer.testing import CliRunner

from recollect.cli import app

OPTIONS = ["bench", "train", "--items", "500", "-d", "4", "--history", "8", "--rounds", "1"]
COLUMNS = ["model", "d", "n_items", "history", "train_samples_per_cpu_s", "infer_samples_per_cpu_s", "peak_rss_mb"]


def test_rows_have_the_figures_of_their_own_process() -> None:
    ballast = bytearray(700 << 20)  # memory of this process, which a row must not count as its own
    ballast[:: 1 << 12] = b"x" * len(ballast[:: 1 << 12])
    done = CliRunner().invoke(app, [*OPTIONS, "--model", "dare", "--optimizer", "rowwise-adam", "--json"])
    assert done.exit_code == 0, done.output
    (row,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert list(row) == COLUMNS
    assert (row["model"], row["d"], row["n_items"], row["history"]) == ("dare", 4, 500, 8)
    assert min(row["train_samples_per_cpu_s"], row["infer_samples_per_cpu_s"]) > 0
    assert 50 < row["peak_rss_mb"] < 700


@pytest.mark.slow
def test_a_table_for_people() -> None:
    done = CliRunner().invoke(app, [*OPTIONS, "--model", "twin"], env={"COLUMNS": "160"})
    assert done.exit_code == 0, done.output
    assert "trained a CPU-s" in done.stdout
    assert "1 thread" in done.stdout
    assert "twin" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "dien"], "no model 'dien'; there are dare"),
        (["--optimizer", "sgd"], "--optimizer must be auto or one of adam, rowwise-adam, got sgd"),
    ],
)
def test_what_is_unknown_is_named(words: list[str], message: str) -> None:
    done = CliRunner().invoke(app, [*OPTIONS, *words], env={"COLUMNS": "200", "TERM": "dumb"})
    assert done.exit_code != 0
    assert message in done.output
