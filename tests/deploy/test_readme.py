"""The README tells the truth: its commands exist, its Python runs, its links lead somewhere."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

ROOT = Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands() -> Iterator[list[str]]:
    for block in blocks("sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words:
                yield words


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    asked = {words[1] for words in commands() if words[0] == "make"}
    assert {"demo", "test"} <= asked <= targets


@pytest.mark.parametrize(
    "words",
    [pytest.param(words, id=" ".join(words)[:60]) for words in commands() if "recollect" in words[:2]],
)
def test_commands_and_their_options_exist(words: list[str]) -> None:
    from recollect.cli import app

    words = words[words.index("recollect") + 1 :]
    groups = {group.name for group in app.registered_groups}
    path = [words[0], *([words[1]] if words[0] in groups else [])]
    shown = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert shown.exit_code == 0, shown.output
    for option in (word.split("=")[0] for word in words if word.startswith("--")):
        assert option in shown.output


def example(part: str) -> str:
    (found,) = (block for block in blocks("python") if part in block)
    return found


def run_example(example: str, address: str, *, port: int = 50051) -> None:
    assert f"localhost:{port}" in example
    exec(compile(example.replace(f"localhost:{port}", address), "README.md", "exec"), {})


def test_scoring_example_runs(gateway: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run_example(example("client.score("), gateway.address)
    printed = capsys.readouterr().out
    assert re.search(r"\b101\b.*\d\.\d+", printed), printed


def test_stream_example_runs(gateway: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run_example(example("score_stream"), gateway.address)
    printed = capsys.readouterr().out.splitlines()
    assert sorted(printed) == sorted(f"user-{number} 101" for number in range(1_000))


def test_admin_example_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np
    import polars as pl

    from recollect.admin.server import AdminConfig, RunningAdmin
    from recollect.settings import Settings

    (tmp_path / "vectors").mkdir()
    vectors = np.random.default_rng(0).normal(size=(100, 8)).astype(np.float32)
    pl.DataFrame({"id": np.arange(100), "vector": vectors}).write_parquet(tmp_path / "vectors" / "monday.parquet")
    with RunningAdmin(AdminConfig(settings=Settings(var=tmp_path, build_niceness=0), port=0)) as admin:
        run_example(example("AdminClient"), admin.address, port=50052)
    assert capsys.readouterr().out == "100 True\n"
    assert (tmp_path / "indexes" / "items" / "labels" / "stable").exists()


def test_classification_example_runs_with_what_is_shipped(
    start_classifying: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from retrieval.encoders.load import load_encoder
    from retrieval.shop import render

    render("blue stoneware coffee mug", seed=3).save(tmp_path / "mug.jpg")
    monkeypatch.chdir(tmp_path)
    run_example(example("client.classify"), start_classifying(encoder=load_encoder("demo-shop")).address)
    printed = capsys.readouterr().out
    assert printed.startswith("coffee mug (Reason("), printed


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_map_of_the_house_names_what_is_there() -> None:
    listed = re.findall(r"^(\w[\w/.]*)/? {2,}\S", blocks("text")[0], flags=re.MULTILINE)
    assert listed, "the map is a text block"
    for name in listed:
        assert (ROOT / name).exists(), name
