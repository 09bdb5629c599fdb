"""`recollect index build --images`, `add --images` and `search` as a person at a shell meets them, on a real Ray."""

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
from retrieval.shop import render

Run = Callable[..., Result]
MUG, VASE = "blue stoneware coffee mug", "green glass vase"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    environment = {"RECOLLECT_VAR": "var", "COLUMNS": "200", "TERM": "dumb"}
    return lambda *words: CliRunner().invoke(app, ["index", *map(str, words)], env=environment)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Five mugs, five vases, and a file that is no picture."""
    for name in (MUG, VASE):
        folder = tmp_path / "photos" / name.split()[-1]
        folder.mkdir(parents=True)
        for seed in range(5):
            render(name, seed=seed).save(folder / f"{seed}.jpg")
    (tmp_path / "photos" / "notes.png").write_text("no picture")
    return tmp_path / "photos"


def rows(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.slow
def test_pictures_are_indexed_searched_and_added(run: Run, photos: Path, ray_node: None, tmp_path: Path) -> None:
    done = run("build", "photos", "--images", photos, "--json")
    (built,) = rows(done)
    assert (built["vectors"], built["dim"]) == (10, 128)
    assert [each["id"] for each in built["refused"]] == ["notes.png"]
    assert "notes.png: image must be JPEG, PNG, WebP, GIF or BMP" in done.stderr

    for folder, text in (("mug", MUG), ("vase", VASE)):
        found = rows(run("search", "photos", "--text", text, "-k", 5, "--json"))
        assert {hit["id"] for hit in found} == {f"{folder}/{seed}.jpg" for seed in range(5)}
    (first,) = rows(run("search", "photos", "--image", photos / "vase" / "3.jpg", "-k", 1, "--json"))
    assert first["id"] == "vase/3.jpg"
    assert {hit["id"] for hit in rows(run("search", "photos", "--like", "mug/1.jpg", "-k", 4, "--json"))} == {
        f"mug/{seed}.jpg" for seed in (0, 2, 3, 4)
    }

    new = tmp_path / "new"
    new.mkdir()
    render(MUG, seed=9).save(new / "new.jpg")
    (new / "empty.jpg").touch()
    added = run("add", "photos", "--images", new, "--json")
    assert added.exit_code == 1
    (row,) = (json.loads(line) for line in added.stdout.splitlines())
    assert (row["added"], row["vectors"], [each["id"] for each in row["refused"]]) == (1, 11, ["empty.jpg"])
    assert "new.jpg" in {hit["id"] for hit in rows(run("search", "photos", "--text", MUG, "-k", 6, "--json"))}
    assert sorted(path.name for path in (tmp_path / "var" / "indexes" / ".building").iterdir()) == ["photos.lock"]

    (again,) = rows(run("build", "photos", "--images", photos, "--json"))
    assert (again["vectors"], again["merged"]["kept"]) == (11, 1)


@pytest.mark.slow
def test_a_build_that_is_killed_while_it_embeds_goes_on(run: Run, photos: Path, ray_node: None, tmp_path: Path) -> None:
    many = tmp_path / "many"
    many.mkdir()
    content = (photos / "mug" / "0.jpg").read_bytes()
    for number in range(1_500):
        (many / f"{number:04d}.jpg").write_bytes(content)
    command = [sys.executable, "-c", "from recollect.entry import main; main()", "index", "build", "many"]
    environment = {**os.environ, "RECOLLECT_VAR": "var", "TERM": "dumb"}
    parts = tmp_path / "var" / "indexes" / ".building" / "many" / "embedding"
    with subprocess.Popen([*command, "--images", many], env=environment) as process:
        deadline = time.monotonic() + 200
        while not list(parts.glob("part-*.whole")) and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    kept = {path.name: path.read_bytes() for path in parts.glob("part-*.parquet")}
    assert kept
    assert not list((tmp_path / "var" / "indexes").glob("many/*/manifest.json"))
    (built,) = rows(run("build", "many", "--images", many, "--json"))
    assert built["vectors"] == 1_500
    assert not parts.exists()


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["build", "x"], "name one of --model, --vectors, --images and --gallery"),
        (["build", "x", "--images", "photos", "--model", "dare@stable"], "name one of --model, --vectors, --images"),
        (["build", "x", "--images", "none"], "none must be a folder of pictures or a .csv or .tsv"),
        (["build", "x", "--images", "photos", "--encoder", "none"], "encoder must be demo-shop (shipped), a directory"),
        (["build", "x", "--model", "m", "--encoder", "e"], "--encoder and --workers say how --images are embedded"),
        (["add", "x"], "say what to add: Parquet files, or --images"),
        (["add", "x", "--images", "photos"], "no index 'x@stable'"),
        (["search", "x", "--text", "a mug"], "no index 'x@stable'"),
        (["search", "x"], "give one of --like, --image and --text"),
        (["search", "x", "--like", "1", "--text", "a mug"], "give one of --like, --image and --text"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_what_is_missing_is_told(run: Run, photos: Path, words: list[str], match: str) -> None:
    done = run(*words)
    assert done.exit_code in (1, 2)
    assert match in " ".join(done.stderr.replace("│", " ").split())
