"""`recollect bench kernels` and `recollect kernels` as a person runs them, at shapes that take no time."""

import json
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from recollect.cli import app
from recollect_kernels.benchmarks import operations
from recollect_kernels.benchmarks.shapes import Shape

bench = import_module("recollect.cli.bench.kernels")  # the package has the command under the name of its module
FIRST_FIELDS = ["op", "device", "B", "T", "L", "d", "k", "ours_us", "torch_us", "ratio", "floor_us", "correct"]
ORIGIN = ["date", "machine", "cores", "threads", "torch", "triton", "python", "rounds"]
SERVED = Shape(use="tiny shop", b=1, t=2, length=30, d=4, k=3, e=4, table="float32", vocabulary=40)
TRAINED = Shape(use="tiny step", b=2, t=3, length=30, d=4, k=3, e=4, table="float32", vocabulary=40, trained=True)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setattr(bench, "_shapes", lambda _device: [SERVED, TRAINED])
    environment = {"COLUMNS": "80", "TERM": "dumb"}
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words], env=environment)


def measure(run: Callable[..., Result], *words: object) -> Result:
    return run("bench", "kernels", "--device", "cpu", "--rounds", 5, *words)


def test_rows_are_json_lines_with_the_agreed_fields_first(run: Callable[..., Result]) -> None:
    result = measure(run, "--json", "--threads", 1)
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(row["op"], row["use"]) for row in rows] == [
        (op, shape.use) for shape in (SERVED, TRAINED) for op in operations.ops_of(shape)
    ]
    for row in rows:
        assert list(row)[: len(FIRST_FIELDS)] == FIRST_FIELDS
        assert set(ORIGIN) <= set(row)
        assert (row["device"], row["correct"], row["threads"], row["rounds"]) == ("cpu", True, 1, 5)
        assert all(row[name] > 0 for name in ("ours_us", "torch_us", "ratio", "floor_us"))
    assert result.stderr.count("without compiled: measured on a GPU only") == 1


@pytest.mark.slow
def test_a_table_says_where_it_was_measured_and_keeps_every_figure(run: Callable[..., Result]) -> None:
    result = measure(run, "--only", "behavior")
    assert result.exit_code == 0, result.output
    header, title, *table = result.stdout.splitlines()
    assert ", torch 2." in header
    assert "5 rounds; ratio = torch by ours, times in µs a call" in header
    assert title.strip() == "behavior_search"
    heading, body = "\n".join(table[:5]), "\n".join(table[5:])
    assert all(word in heading for word in ("ratio", "ours", "p99", "CPU", "torch", "floor", "numpy"))
    assert "tiny shop" in body
    assert "2×3×30" in body
    assert "…" not in result.stdout


def test_a_wrong_result_prints_no_row_and_fails(run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    right = operations.behavior_search

    def wrong(*given: Any, backend: str, **options: Any) -> Any:
        found = right(*given, backend=backend, **options)  # type: ignore[arg-type]
        return found if backend == "reference" else found._replace(scores=found.scores + 1)

    monkeypatch.setattr(operations, "behavior_search", wrong)
    result = measure(run, "--json", "--only", "tiny shop")
    assert result.exit_code == 1
    printed = [json.loads(line)["op"] for line in result.stdout.splitlines()]
    assert printed == ["search_and_attend", "target_attention"]
    assert (
        "no row for behavior_search, tiny shop (B 1, T 2, L 30, d 4, k 3, float32): scores: 6 of 6 differ by up to 1 "
        in result.stderr
    )
    assert "1 of 3 without a row" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(("--only", "nothing"), "--only must be part of an op or a use, got 'nothing'", id="only"),
        pytest.param(("--rounds", "4"), "Invalid value for '--rounds'", id="rounds"),
        pytest.param(("--backend", "cuda"), "'cuda' is not one of 'auto', 'triton', 'cpu', 'reference'", id="backend"),
    ],
)
def test_mistakes_are_told(run: Callable[..., Result], words: tuple[str, ...], message: str) -> None:
    result = run("bench", "kernels", *words)
    assert result.exit_code != 0
    assert message in " ".join(result.stderr.replace("│", " ").split())


def test_a_missing_gpu_is_told(run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    result = run("bench", "kernels", "--device", "cuda")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: --device cuda needs a GPU that torch can use")


def test_backends_are_those_of_the_kernels() -> None:
    from typing import get_args

    from recollect_kernels import Backend

    assert {member.value for member in bench.Implementation} == set(get_args(Backend))


@pytest.mark.parametrize(("options", "tune"), [([], True), (["--no-tune"], False)], ids=["tune", "no-tune"])
def test_prepare_prints_what_was_prepared(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, options: list[str], tune: bool
) -> None:
    monkeypatch.setattr("recollect_kernels.prepare", lambda *, tune: ["loops in [cache]/a", f"tuned: {tune}"])
    assert run("kernels", "prepare", *options).stdout.splitlines() == ["loops in [cache]/a", f"tuned: {tune}"]
    lines = run("kernels", "prepare", "--json", *options).stdout.splitlines()
    assert [json.loads(line)["prepared"] for line in lines] == ["loops in [cache]/a", f"tuned: {tune}"]


@pytest.mark.slow
def test_prepare_compiles_for_this_machine(run: Callable[..., Result]) -> None:
    pytest.importorskip("numba")
    result = run("kernels", "prepare", "--json")
    assert result.exit_code == 0, result.output
    assert [json.loads(line)["prepared"] for line in result.stdout.splitlines()]
