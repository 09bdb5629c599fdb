"""`recollect index` and `recollect model` as a person at a shell meets them: built, refused, rolled back, removed."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import Result
from typer.testing import CliRunner

from recollect.artifacts.workplace import workplace
from recollect.cli import app
from recsys.data.catalogue import Catalogue
from recsys.models.dare import Dare, DareConfig
from recsys.models.directory import save_model
from retrieval.index.vector_index import VectorIndex

Run = Callable[..., Result]
COUNT = 30_000


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    environment = {"RECOLLECT_VAR": "var", "COLUMNS": "200", "TERM": "dumb"}
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words], env=environment)


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same catalogue on two nights, and one that has nothing to do with it."""
    folder, random = tmp_path_factory.mktemp("vectors"), np.random.default_rng(4)
    centres = random.normal(size=(500, 16))
    monday = centres[random.integers(500, size=COUNT)] + 0.5 * random.normal(size=(COUNT, 16))
    nights = {
        "monday": monday,
        "tuesday": monday + 0.02 * random.normal(size=monday.shape),
        "broken": random.normal(size=monday.shape),
    }
    paths = {}
    for night, values in nights.items():
        paths[night] = folder / f"{night}.parquet"
        frame = pl.DataFrame({"id": np.arange(COUNT) * 5, "vector": values.astype(np.float32)})
        frame.write_parquet(paths[night])
    return paths


def rows(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Have writes beyond `size` bytes fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def labelled(run: Run) -> dict[str, list[str]]:
    return {row["version"]: row["labels"] for row in rows(run("index", "list", "--json"))}


def test_a_night_after_the_other_and_back(run: Run, vectors: dict[str, Path], tmp_path: Path) -> None:
    (monday,) = rows(run("index", "build", "items", "--vectors", vectors["monday"], "--json"))
    assert (monday["vectors"], monday["dim"]) == (COUNT, 16)
    assert monday["recall"] >= 0.95
    assert monday["spec"].startswith("IVF")
    (tuesday,) = rows(run("index", "build", "items", "--vectors", vectors["tuesday"], "--json"))
    assert tuesday["overlap"] > 0.5
    assert tuesday["coverage"] == 1.0
    assert labelled(run) == {monday["version"]: [], tuesday["version"]: ["stable"]}

    refused = run("index", "build", "items", "--vectors", vectors["broken"])
    assert refused.exit_code == 1
    assert "may not answer, what answered before does so still" in refused.stderr
    assert "of the neighbours are those of the index that answers" in refused.stderr
    assert labelled(run)[tuesday["version"]] == ["stable"]
    (broken,) = set(labelled(run)) - {monday["version"], tuesday["version"]}
    again = run("index", "activate", "items", broken)
    assert again.exit_code == 1
    assert "may not answer" in again.stderr

    (back,) = rows(run("index", "rollback", "items", "--expected", tuesday["version"], "--json"))
    assert (back["version"], back["before"]) == (monday["version"], tuesday["version"])
    overtaken = run("index", "activate", "items", tuesday["version"], "--expected", tuesday["version"])
    assert overtaken.exit_code == 1
    assert f"points at {monday['version']}, not at" in overtaken.stderr
    assert run("index", "verify", "items@stable").exit_code == 0

    (removed,) = rows(run("index", "gc", "--keep", "0", "--json"))
    assert sorted(removed["removed"]) == sorted([tuesday["version"], broken])
    assert labelled(run) == {monday["version"]: ["stable"]}
    index = VectorIndex.open(tmp_path / "var" / "indexes" / "items" / monday["version"] / "index")
    assert index.ids[int(index.search(index.vectors_at(np.array([77])), 1).rows[0, 0])] == 77 * 5


def test_rows_that_cannot_be_used_are_left_out_and_told(run: Run, vectors: dict[str, Path], tmp_path: Path) -> None:
    frame = pl.read_parquet(vectors["monday"])
    bad = pl.when(pl.col("id") % 2_000 == 0).then(pl.lit([float("nan")] * 16)).otherwise(pl.col("vector"))
    frame.with_columns(bad.alias("vector")).write_parquet(tmp_path / "night.parquet")
    words = ["build", "items", "--vectors", "night.parquet", "--kind", "flat"]
    built = run("index", *words)
    assert built.exit_code == 0, built.output
    assert f"{COUNT - 75:,} vectors of 16" in built.stdout
    assert "the vector of id 148000 must be finite" not in built.stderr
    assert "the vector of id 2000 must be finite; embed it again or leave it out\n" in built.stderr
    assert "… and 65 more that are left out" in built.stderr
    (row,) = rows(run("index", *words, "--json"))
    assert (row["refused_count"], row["refused"][-1]["id"]) == (75, 148_000)
    environment = {"RECOLLECT_VAR": "var", "RECOLLECT_INDEX_MAX_BAD_ROWS": "0.002"}
    refused = CliRunner().invoke(app, ["index", *words], env=environment)
    assert refused.exit_code == 1
    assert "more than 0.20% of 30,000 rows cannot be used (max_bad_rows)" in refused.stderr


def test_an_altered_version_is_neither_verified_nor_activated(
    run: Run, vectors: dict[str, Path], tmp_path: Path
) -> None:
    (built,) = rows(run("index", "build", "items", "--vectors", vectors["monday"], "--kind", "flat", "--json"))
    path = tmp_path / "var" / "indexes" / "items" / built["version"] / "index" / "index.faiss"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    for words in (["verify", "items@stable"], ["activate", "items", built["version"], "--label", "canary"]):
        done = run("index", *words)
        assert done.exit_code == 1
        assert "index.faiss is altered since it was published" in done.stderr


def test_a_damaged_version_hides_no_other(run: Run, vectors: dict[str, Path], tmp_path: Path) -> None:
    found = [
        rows(run("index", "build", "items", "--vectors", vectors[night], "--json"))
        for night in vectors
        if night != "broken"
    ]
    monday, tuesday = (row["version"] for (row,) in found)
    root = tmp_path / "var" / "indexes" / "items"
    for file in ("verdict.json", "index/manifest.json"):
        (root / monday / file).write_text("{")
        damaged, whole = rows(run("index", "list", "--json"))
        assert (damaged["version"], whole["version"], whole["vectors"]) == (monday, tuesday, COUNT)
        assert f"{monday} cannot be read" in damaged["problem"]
    (root / monday / "index" / "manifest.json").unlink()
    assert run("index", "list").stdout.count("DAMAGED: ") == 1


@pytest.mark.parametrize(("kilobytes", "file"), [(4, "ids.parquet"), (700, "vectors.npy")])
def test_a_full_disk_is_told_in_one_line(kilobytes: int, file: str, run: Run, vectors: dict[str, Path]) -> None:
    with files_up_to(kilobytes << 10):
        done = run("index", "build", "items", "--vectors", vectors["monday"], "--kind", "flat")
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit)
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert file in line
    assert "File too large" in line
    assert line.endswith("; make room and repeat")


def test_thresholds_come_from_the_settings(run: Run, vectors: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    rows(run("index", "build", "items", "--vectors", vectors["monday"], "--json"))
    monkeypatch.setenv("RECOLLECT_INDEX_MIN_OVERLAP", "0")
    rows(run("index", "build", "items", "--vectors", vectors["broken"], "--json"))
    monkeypatch.setenv("RECOLLECT_INDEX_MIN_RECALL", "1")
    options = ("--kind", "ivf", "--aim", "0", "--storage", "sq8")
    refused = run("index", "build", "items", "--vectors", vectors["tuesday"], *options)
    assert refused.exit_code == 1
    assert "of the true 10 neighbours, fewer than 1.0" in refused.stderr


@pytest.mark.slow
def test_shards_are_made_on_ray(
    run: Run, vectors: dict[str, Path], ray_node: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("retrieval.index.building._SHARD", 8_000)
    (built,) = rows(run("index", "build", "items", "--vectors", vectors["monday"], "--json"))
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    (whole,) = rows(run("index", "build", "other", "--vectors", vectors["monday"], "--json"))
    assert built["recall"] == whole["recall"]
    # The content's hash is in the version: shards give the index that one piece gives.
    root = tmp_path / "var" / "indexes"
    digests = [
        json.loads((root / name / row["version"] / "manifest.json").read_text())["files"]["index/index.faiss"]
        for name, row in (("items", built), ("other", whole))
    ]
    assert digests[0] == digests[1]


def save_tiny_model(directory: Path) -> None:
    import torch

    catalogue = Catalogue(
        item_ids=np.array([-1, 10, 20, 30], dtype=np.int64),
        category_rows=np.array([0, 1, 1, 2], dtype=np.int32),
        category_ids=np.array([-1, 1, 2], dtype=np.int64),
    )
    config = DareConfig(n_items=3, n_categories=2, attention_dim=2, representation_dim=3)
    model = Dare(config, torch.from_numpy(catalogue.category_rows), generator=torch.Generator().manual_seed(1))
    save_model(directory, model, catalogue, training={}, data={}, metrics={"test": {"auc": 0.75}})


def test_the_items_of_a_model_are_indexed_by_its_version(run: Run, tmp_path: Path) -> None:
    from recollect.artifacts import ArtifactStore
    from recsys.models.directory import load_model

    save_tiny_model(tmp_path / "model")
    store = ArtifactStore(tmp_path / "var" / "models")
    artifact = store.publish("dare", tmp_path / "model")
    store.set_label("dare", "stable", artifact.version)
    (built,) = rows(run("index", "build", "items", "--model", "dare@stable", "--json"))
    index = VectorIndex.open(tmp_path / "var" / "indexes" / "items" / built["version"] / "index")
    assert index.facts.source == {"kind": "model", "model": artifact.reference}
    assert index.ids.to_list() == [10, 20, 30]
    model = load_model(artifact.directory).model
    joined = np.concatenate(
        [
            model.representation.item.weight.detach().numpy()[1:],
            model.representation.category.weight.detach().numpy()[[1, 1, 2]],
        ],
        axis=1,
    )
    units = joined / np.linalg.norm(joined, axis=1, keepdims=True)
    np.testing.assert_allclose(index.vectors_at(np.arange(3)), units, atol=1e-3)
    (listed,) = rows(run("model", "list", "--json"))
    assert (listed["labels"], listed["test"]) == (["stable"], {"auc": 0.75})
    verified = run("model", "verify", "dare@stable").stdout
    assert verified == f"{artifact.reference} is whole, and answers as it did\n"


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["build", "items"], "name one of --model, --vectors, --images and --gallery"),
        (["build", "items", "--vectors", "none.parquet"], "none.parquet cannot be read as Parquet"),
        (["build", "items", "--model", "dare@stable"], "no model 'dare@stable'"),
        (["build", "items", "--vectors", "x", "--kind", "tree"], "--kind must be one of flat, ivf, hnsw, got 'tree'"),
        (["list", "items"], "there is no 'items'"),
        (["verify", "items@stable"], "no index or gallery 'items@stable'"),
        (["activate", "items", "1"], "no version '1' of 'items'"),
        (["rollback", "items"], "items@stable"),
        (["gc", "items"], "there is no 'items'"),
    ],
    ids=lambda value: "-".join(value[:2]) if isinstance(value, list) else "",
)
def test_what_is_missing_is_told(run: Run, words: list[str], match: str) -> None:
    done = run("index", *words)
    assert done.exit_code in (1, 2)
    assert match in " ".join(done.stderr.replace("│", " ").split())


def test_what_a_killed_build_left_is_removed_unless_a_command_is_there(
    run: Run, vectors: dict[str, Path], tmp_path: Path
) -> None:
    rows(run("index", "build", "items", "--vectors", vectors["monday"], "--kind", "flat", "--json"))
    left = tmp_path / "var" / "indexes" / ".building" / "items"
    left.mkdir()
    (left / "vectors.npy").write_bytes(bytes(2_000_000))
    # Of a first build, too, which has no version yet.
    first = left.with_name("first")
    first.mkdir()
    (first / "vectors.npy").write_bytes(bytes(1_000_000))
    with workplace(tmp_path / "var" / "indexes", "items", "index", label=None):
        others, removed = rows(run("index", "gc", "--json"))
        assert (others["name"], others["being built"], others["leftovers"], others["mb"]) == ("first", False, 1, 1.0)
        assert (removed["name"], removed["being built"], removed["leftovers"]) == ("items", True, 0)
        assert left.exists()
        assert "yes" in run("index", "gc", "items").stdout
    assert not first.exists()
    assert "there is no 'first'" in run("index", "gc", "first").stderr
    (removed,) = rows(run("index", "gc", "items", "--json"))
    assert (removed["being built"], removed["leftovers"], removed["mb"]) == (False, 1, 2.0)
    assert not left.exists()


@pytest.mark.parametrize("name", ["first", "others"])
def test_what_a_killed_first_build_left_is_removed_by_its_name(run: Run, tmp_path: Path, name: str) -> None:
    root = tmp_path / "var" / "indexes"
    left = {"first": root / ".building" / "first", "others": root / "others" / ".20260101T000000-deadbeef.partial"}[
        name
    ]
    left.mkdir(parents=True)
    (left / "vectors.npy").write_bytes(bytes(2_000_000))
    (removed,) = rows(run("index", "gc", name, "--json"))
    assert (removed["name"], removed["leftovers"], removed["mb"]) == (name, 1, 2.0)
    assert not left.exists()


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["../../../evil"], "name of index must be 1 to 100 letters"),
        (["items", "--label", "bad label"], "label must be 1 to 100 letters"),
    ],
    ids=["name", "label"],
)
def test_what_cannot_be_a_name_or_a_label_is_refused_before_anything_is_built(
    run: Run, vectors: dict[str, Path], tmp_path: Path, words: list[str], match: str
) -> None:
    refused = run("index", "build", *words, "--vectors", vectors["monday"])
    assert refused.exit_code == 1
    assert match in refused.stderr
    assert not (tmp_path.parent / "evil").exists()
    assert not list((tmp_path / "var").rglob("*.npy"))
    assert not (tmp_path / "var" / "indexes").exists()


@pytest.mark.slow
def test_a_rebuild_killed_at_ten_moments_leaves_what_answers_and_nothing_behind(
    run: Run, vectors: dict[str, Path], tmp_path: Path
) -> None:
    (monday,) = rows(run("index", "build", "items", "--vectors", vectors["monday"], "--json"))
    answering = tmp_path / "var" / "indexes" / "items" / monday["version"]
    before = {path.name: path.read_bytes() for path in sorted(answering.rglob("*")) if path.is_file()}
    command = [sys.executable, "-c", "from recollect.entry import main; main()", "index", "build", "items"]
    environment = {**os.environ, "RECOLLECT_VAR": "var", "TERM": "dumb"}
    random, killed = np.random.default_rng(0), 0
    started = time.monotonic()
    subprocess.run([*command, "--vectors", vectors["monday"], "--label", ""], env=environment, check=True)
    whole_s = time.monotonic() - started
    for number, moment in enumerate(random.uniform(0.4, 1.0, 10)):
        # Every other time another source, so that the build begins anew.
        night = ("tuesday", "broken")[number // 2 % 2]
        with subprocess.Popen([*command, "--vectors", vectors[night], "--label", ""], env=environment) as process:
            try:
                process.wait(whole_s * float(moment))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                killed += 1
        assert labelled(run)[monday["version"]] == ["stable"]
        assert {path.name: path.read_bytes() for path in sorted(answering.rglob("*")) if path.is_file()} == before
    assert killed >= 3
    (tuesday,) = rows(run("index", "build", "items", "--vectors", vectors["tuesday"], "--json"))
    assert labelled(run)[tuesday["version"]] == ["stable"]
    rows(run("index", "gc", "--keep", "0", "--json"))
    root = tmp_path / "var" / "indexes"
    assert sorted(path.name for path in (root / ".building").iterdir()) == ["items.lock"]
    left = {path.name for path in (root / "items").iterdir()}
    assert left == {tuesday["version"], "labels", ".holds", ".publishing", ".removing"}
