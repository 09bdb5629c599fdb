"""Building in steps: the same index however it is built, killed anywhere and gone on with, refused with a reason."""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from retrieval.errors import IndexingError
from retrieval.index import building, steps
from retrieval.index.build import build_index
from retrieval.index.building import BuildPlan, build_vector_index
from retrieval.index.search import search
from retrieval.index.sources import ArrayVectors
from retrieval.index.spec import IndexSpec, Kind, Storage
from retrieval.index.vector_index import unit

COUNT, DIMENSION = 3_000, 16
LISTS = {"kind": Kind.IVF, "lists": 16, "probes": 16}
SPECS = {
    "flat": IndexSpec(),
    "flat-sq8": IndexSpec(storage=Storage.SQ8),
    "ivf": IndexSpec(**LISTS),
    "ivf-sq8": IndexSpec(**LISTS, storage=Storage.SQ8),
    "ivf-pq-refined": IndexSpec(**LISTS, storage=Storage.PQ, codes=8, refine=Storage.FP16),
    "ivf-fast-scan-refined": IndexSpec(**LISTS, storage=Storage.PQ, codes=8, bits=4, refine=Storage.FP16),
    "hnsw": IndexSpec(kind=Kind.HNSW, links=16, probes=64),
}


@pytest.fixture(scope="module")
def source() -> ArrayVectors:
    """Vectors of lengths 1 to 3 under ids that are in no order."""
    random = np.random.default_rng(8)
    vectors = random.normal(size=(COUNT, DIMENSION)).astype(np.float32)
    vectors *= np.linspace(1, 3, COUNT)[:, None] / np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = pl.Series("id", random.permutation(COUNT) * 7 - 500)
    return ArrayVectors(ids, vectors.astype(np.float32), {"kind": "drawn", "seed": 8})


def plan(spec: IndexSpec, *, normalized: bool = True) -> BuildPlan:
    return BuildPlan(choose=lambda _count, _dimension: spec, normalized=normalized)


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "_SHARD", 700)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_shards_find_what_one_index_finds(
    spec: IndexSpec, source: ArrayVectors, tmp_path: Path, small_shards: None
) -> None:
    built = build_vector_index(source, plan(spec), tmp_path)
    assert len(list(tmp_path.glob("shard-*.faiss"))) == (5 if spec.mergeable else 0)
    order = source.ids.arg_sort().to_numpy()
    vectors = unit(source.vectors)[order].astype(np.float16).astype(np.float32)
    whole = build_index(spec, vectors)
    queries = unit(np.random.default_rng(1).normal(size=(50, DIMENSION)).astype(np.float32))
    found, expected = built.search(queries, 10), search(whole, queries, 10)
    if spec.kind is not Kind.HNSW:
        np.testing.assert_array_equal(found.rows, expected[1])
    np.testing.assert_allclose(found.scores, expected[0], atol=1e-5 if spec.kind is not Kind.HNSW else 0.2)


def test_vectors_that_are_not_normalized_are_compared_by_their_inner_product(
    source: ArrayVectors, tmp_path: Path
) -> None:
    built = build_vector_index(source, plan(IndexSpec(), normalized=False), tmp_path)
    query = 1e5 * np.ones((1, DIMENSION), dtype=np.float32)
    scores = source.vectors @ query[0]
    best = np.argsort(-scores)[:5]
    found = built.search(query, 5)
    assert built.ids.gather(found.rows[0]).to_list() == source.ids.gather(best).to_list()
    np.testing.assert_allclose(found.scores[0], scores[best], rtol=1e-5)
    np.testing.assert_array_equal(built.exact(query, 5).rows, found.rows)


def test_the_same_bytes_for_the_same_source(source: ArrayVectors, tmp_path: Path, small_shards: None) -> None:
    reversed_tasks = lambda function, tasks: (function(task) for task in reversed(list(tasks)))  # noqa: E731
    first = build_vector_index(source, plan(SPECS["ivf-sq8"]), tmp_path / "a")
    second = build_vector_index(source, plan(SPECS["ivf-sq8"]), tmp_path / "b", apply=reversed_tasks, threads=2)
    assert content(first.manifest.directory) == content(second.manifest.directory)


def test_an_index_says_what_it_is(source: ArrayVectors, tmp_path: Path) -> None:
    facts = build_vector_index(source, plan(SPECS["ivf"]), tmp_path).facts
    assert (facts.count, facts.dimension, facts.normalized, facts.spec) == (COUNT, DIMENSION, True, SPECS["ivf"])
    assert facts.source == {"kind": "drawn", "seed": 8}
    assert facts.norm_mean == pytest.approx(2, abs=1e-3)
    assert facts.norm_std == pytest.approx(2 / 12**0.5, abs=1e-3)


class Killed(BaseException):
    """In the place of SIGKILL, where it must be known between which steps it came."""


def test_a_killed_build_goes_on_after_its_last_whole_step(
    source: ArrayVectors, tmp_path: Path, small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = content(build_vector_index(source, plan(SPECS["ivf"]), tmp_path / "whole").manifest.directory)
    made: list[str] = []
    real = steps.make

    def make(path, write, *, dies_at=None):
        if not steps.is_whole(path):
            if path.name == dies_at:
                path.with_name(f".{path.name}.partial").write_bytes(b"half")
                raise Killed
            made.append(path.name)
        real(path, write)

    order = ["ids.parquet", "vectors.npy", "trained.faiss", *(f"shard-{number:04d}.faiss" for number in range(5))]
    for name in order:
        monkeypatch.setattr(steps, "make", partial(make, dies_at=name))
        with pytest.raises(Killed):
            build_vector_index(source, plan(SPECS["ivf"]), tmp_path / "killed")
    monkeypatch.setattr(steps, "make", make)
    built = build_vector_index(source, plan(SPECS["ivf"]), tmp_path / "killed")
    assert made == order  # each once
    assert content(built.manifest.directory) == whole
    assert not list((tmp_path / "killed").glob(".*"))


BUILD = """
import sys
import numpy as np, polars as pl
from pathlib import Path
from retrieval.index import building
from retrieval.index.building import BuildPlan, build_vector_index
from retrieval.index.sources import ParquetVectors
from retrieval.index.spec import IndexSpec, Kind

building._SHARD = 700
spec = IndexSpec(kind=Kind.IVF, lists=16, probes=16)
print("ready", flush=True)
build_vector_index(ParquetVectors([Path(sys.argv[1])]), BuildPlan(choose=lambda n, d: spec), Path(sys.argv[2]))
print("done", flush=True)
"""


@pytest.mark.slow
def test_a_build_killed_at_any_moment_ends_the_same(source: ArrayVectors, tmp_path: Path) -> None:
    log = tmp_path / "v.parquet"
    source.ids.to_frame().with_columns(pl.Series("vector", source.vectors)).write_parquet(log)

    def run(work: str, dies_after_s: float | None) -> bool:
        command = [sys.executable, "-c", BUILD, str(log), str(tmp_path / work)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            try:
                return process.communicate(timeout=dies_after_s)[0] == "done\n"
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                return False

    assert run("whole", None)
    ends = [run("killed", 0.004 * 1.6**attempt) for attempt in range(14)]
    assert not ends[0]  # at least one was killed early
    assert run("killed", None)
    assert content(tmp_path / "killed" / "index") == content(tmp_path / "whole" / "index")


def test_another_plan_or_source_begins_anew(source: ArrayVectors, tmp_path: Path) -> None:
    build_vector_index(source, plan(SPECS["ivf"]), tmp_path)
    other = ArrayVectors(source.ids, -source.vectors, {"kind": "drawn", "seed": 9})
    assert build_vector_index(other, plan(SPECS["ivf"]), tmp_path).facts.source["seed"] == 9
    assert build_vector_index(other, plan(SPECS["flat"]), tmp_path).facts.spec == SPECS["flat"]


def test_faiss_reads_no_step_that_was_altered(source: ArrayVectors, tmp_path: Path, small_shards: None) -> None:
    first = content(build_vector_index(source, plan(SPECS["ivf"]), tmp_path).manifest.directory)
    for name in ("trained.faiss", "shard-0002.faiss"):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:-40] + bytes(40))
    (tmp_path / "index" / "manifest.json").unlink()
    assert content(build_vector_index(source, plan(SPECS["ivf"]), tmp_path).manifest.directory) == first


@pytest.mark.parametrize(
    ("ids", "vectors", "match"),
    [
        pytest.param([], np.empty((0, 4)), "there are no vectors", id="none"),
        pytest.param([1, 2, 1], np.ones((3, 4)), r"ids must be distinct, 1 is there twice", id="an id twice"),
        pytest.param([1, None], np.ones((2, 4)), "row 1 has none", id="no id"),
        pytest.param([4, 5], [[1, 2], [1, np.nan]], "that of id 5 is not", id="not a number"),
        pytest.param([4, 5], [[1, np.inf], [1, 2]], "that of id 4 is not", id="infinite"),
        pytest.param([4, 5], np.empty((2, 0)), "at least one number", id="no numbers"),
        pytest.param(["a", "b", "a"], np.ones((3, 4)), "'a' is there twice", id="a name twice"),
    ],
)
def test_what_cannot_be_indexed_is_named(ids: list, vectors: object, match: str, tmp_path: Path) -> None:
    given = ArrayVectors(pl.Series("id", ids), np.asarray(vectors, dtype=np.float32))
    with pytest.raises(IndexingError, match=match):
        build_vector_index(given, plan(IndexSpec()), tmp_path)


@pytest.mark.parametrize(
    "spec", [IndexSpec(storage=Storage.FP16), IndexSpec(refine=Storage.FP16)], ids=["stored", "refined"]
)
def test_what_halves_cannot_hold_is_named_rather_than_kept_as_infinity(spec: IndexSpec, tmp_path: Path) -> None:
    vectors = np.eye(3, dtype=np.float32)
    vectors[1] *= -70_000
    given = ArrayVectors(pl.Series("id", [30, 10, 20]), vectors)
    with pytest.raises(IndexingError, match=r"within ±65,504 to be kept as fp16, that of id 10 has 70,000; keep fp32"):
        build_vector_index(given, plan(spec, normalized=False), tmp_path)
    assert len(build_vector_index(given, plan(spec), tmp_path)) == 3


@pytest.mark.parametrize("scale", [1e-25, 1e-40, 1e22, 3e37])
def test_a_vector_of_any_length_is_compared_by_its_direction(scale: float, tmp_path: Path) -> None:
    vectors = np.random.default_rng(4).normal(size=(50, 4)).astype(np.float32)
    scaled = vectors.copy()
    scaled[7] *= np.float32(scale)
    ids = pl.Series("id", range(50))
    built = build_vector_index(ArrayVectors(ids, scaled), plan(IndexSpec()), tmp_path)
    np.testing.assert_allclose(built.vectors_at(np.arange(50)), unit(vectors), atol=6e-4)
    assert built.search(scaled[7:8], 1).rows.tolist() == [[7]]
    assert built.facts.norm_mean == pytest.approx(np.linalg.norm(scaled.astype(np.float64), axis=1).mean())


def test_too_few_vectors_for_the_lists_are_told(tmp_path: Path) -> None:
    given = ArrayVectors(pl.Series("id", range(10)), np.eye(10, dtype=np.float32))
    with pytest.raises(IndexingError, match="at least 16 vectors, got 10"):
        build_vector_index(given, plan(SPECS["ivf"]), tmp_path)


def test_strings_are_ids_too(tmp_path: Path) -> None:
    given = ArrayVectors(pl.Series("id", ["pear", "apple", "fig"]), np.eye(3, dtype=np.float32))
    built = build_vector_index(given, plan(IndexSpec()), tmp_path)
    assert built.ids.to_list() == ["apple", "fig", "pear"]
    assert built.rows_of(["fig", "kiwi"]).tolist() == [1, -1]
    assert built.ids[int(built.search([[0, 1, 0]], 1).rows[0, 0])] == "apple"
