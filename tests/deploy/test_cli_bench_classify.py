"""`recollect bench classify` as a person runs it, on the smallest encoder."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from click.testing import Result
from typer.testing import CliRunner

from recollect.cli import app
from retrieval.encoders.benchmarks import inputs, runner
from retrieval.encoders.benchmarks.runner import RANDOM_CLIP
from retrieval.encoders.load import load_encoder
from retrieval.encoders.protocol import Encoder

FIRST_FIELDS = ["encoder", "runtime", "batch", "images_per_cpu_s", "texts_per_cpu_s", "score_us", "ratio"]
ORIGIN = ["date", "machine", "cores", "threads", "load", "torch", "onnxruntime", "python", "rounds"]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setattr(inputs, "CLASSES", 20)
    environment = {"COLUMNS": "80", "TERM": "dumb"}
    return lambda *words: CliRunner().invoke(app, ["bench", "classify", *map(str, words)], env=environment)


@pytest.mark.slow
def test_rows_are_json_lines_with_the_agreed_fields_first(run: Callable[..., Result]) -> None:
    result = run("--encoder", "demo-shop", "--batch", 1, "--batch", 3, "--json")
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    runtimes = ["torch fp32", "onnx fp32", "onnx int8"]
    assert [(row["batch"], row["runtime"]) for row in rows] == [(batch, name) for batch in (1, 3) for name in runtimes]
    for row in rows:
        assert list(row)[: len(FIRST_FIELDS)] == FIRST_FIELDS
        assert set(ORIGIN) <= set(row)
        assert (row["encoder"], row["threads"], row["rounds"]) == ("demo-shop", 1, 5)
        assert all(row[name] > 0 for name in FIRST_FIELDS[3:])
        if row["runtime"] == "torch fp32":
            assert row["ratio"] == row["ratio_texts"] == row["ratio_wall"] == 1.0
    assert RANDOM_CLIP not in result.output


@pytest.mark.slow
def test_a_table_keeps_every_figure(run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def unexported(reference: str, _threads: int) -> Iterator[dict[str, Encoder]]:
        yield dict.fromkeys((runner.TORCH, runner.ONNX, runner.ONNX_INT8), load_encoder(reference))

    monkeypatch.setattr(runner, "on_every_runtime", unexported)
    result = run("--encoder", "demo-shop", "--batch", 2)
    assert result.exit_code == 0, result.output
    header, title, *table = result.stdout.splitlines()
    assert all(
        word in header for word in ("1 threads", "torch 2.", "onnxruntime 1.", "5 rounds; ratio = torch by the row")
    )
    assert title.startswith("demo-shop: ")
    assert "µs a classification beyond the encoder" in title
    assert sum("torch fp32" in line or "onnx" in line for line in table) == 3
    assert "…" not in result.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(("--encoder", "nothing such"), "encoder must be demo-shop (shipped), a directory", id="encoder"),
        pytest.param(("--rounds", 4), "Invalid value for '--rounds'", id="rounds"),
        pytest.param(("--batch", 0), "Invalid value for '--batch'", id="batch"),
    ],
)
def test_mistakes_are_told(run: Callable[..., Result], words: tuple[object, ...], message: str) -> None:
    result = run(*words)
    assert result.exit_code != 0
    assert message in " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_clip_of_the_published_size_is_measured_without_a_download(run: Callable[..., Result]) -> None:
    result = run("--encoder", RANDOM_CLIP, "--batch", 1, "--json")
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(row["encoder"], row["dimension"]) for row in rows] == [(RANDOM_CLIP, 512)] * 3
    assert "random weights, which take as long as trained ones" in result.stderr
