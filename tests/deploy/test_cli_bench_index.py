"""`recollect bench index` prints a row an index, with the machine it was measured on."""

import json

from typer.testing import CliRunner

from recollect.cli import app

OPTIONS = ["bench", "index", "-n", "1000", "--dimension", "8", "--storage", "fp32", "--rounds", "5"]


def test_rows_carry_the_figures_and_where_they_are_from() -> None:
    done = CliRunner().invoke(app, [*OPTIONS, "--json"])
    assert done.exit_code == 0, done.output
    (row,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert {"spec", "n", "dim", "recall10", "qps", "bare_faiss_qps", "ratio", "build_s", "memory_mb"} <= row.keys()
    assert {"date", "machine", "faiss", "threads", "rounds"} <= row.keys()
    assert (row["n"], row["dim"], row["recall10"]) == (1_000, 8, 1.0)


def test_a_table_for_people() -> None:
    done = CliRunner().invoke(app, OPTIONS, env={"COLUMNS": "160"})
    assert done.exit_code == 0, done.output
    assert "1,000 vectors of 8" in done.stdout
    assert "Flat" in done.stdout


def test_an_unknown_storage_is_named() -> None:
    done = CliRunner().invoke(app, ["bench", "index", "--storage", "fp8"], env={"COLUMNS": "160"})
    assert done.exit_code == 2
    assert "--storage must be of fp32, fp16, sq8, pq, got fp8" in done.stderr
