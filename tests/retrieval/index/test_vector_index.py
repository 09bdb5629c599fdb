"""An index of one vector an id: exact answers, lookups, and files that are refused before FAISS reads a byte."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import faiss
import numpy as np
import polars as pl
import pytest

from retrieval.errors import IndexingError
from retrieval.index.building import BuildPlan, build_vector_index
from retrieval.index.files import read_manifest, write_manifest
from retrieval.index.sources import ArrayVectors
from retrieval.index.spec import IndexSpec, Kind, Storage
from retrieval.index.vector_index import VectorIndex

COUNT, DIMENSION = 1_000, 12


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """IVF with all lists looked through, so that answers are exact; vectors repeat from row 900 on."""
    vectors = np.random.default_rng(2).normal(size=(COUNT, DIMENSION)).astype(np.float32)
    vectors[900:] = vectors[:100]
    source = ArrayVectors(pl.Series("id", np.arange(COUNT) * 3), vectors, {"kind": "drawn"})
    spec = IndexSpec(kind=Kind.IVF, storage=Storage.FP16, lists=8, probes=8)
    plan = BuildPlan(choose=lambda _count, _dimension: spec)
    return build_vector_index(source, plan, tmp_path_factory.mktemp("index")).manifest.directory


@pytest.fixture(params=[False, True], ids=["read", "mapped"])
def index(request: pytest.FixtureRequest, directory: Path) -> VectorIndex:
    return VectorIndex.open(directory, mapped=request.param)


def test_a_search_that_looks_everywhere_is_exact(index: VectorIndex) -> None:
    queries = np.random.default_rng(3).normal(size=(20, DIMENSION))
    found, true = index.search(queries, 7), index.exact(queries, 7)
    np.testing.assert_allclose(found.scores, true.scores, atol=2e-3)
    units = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    scores = units.astype(np.float32) @ np.asarray(index.vectors, dtype=np.float32).T
    np.testing.assert_array_equal(true.rows, np.argsort(-scores, axis=1, kind="stable")[:, :7])


def test_of_equal_vectors_the_first_comes_first(index: VectorIndex) -> None:
    assert index.exact(index.vectors_at(np.array([905])), 2).rows.tolist() == [[5, 905]]


@pytest.mark.parametrize("block", [1, 3, 64, 5_000])
def test_blocks_change_no_exact_answer(index: VectorIndex, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    queries = index.vectors_at(np.array([1, 905, 17]))
    whole = index.exact(queries, 5)
    monkeypatch.setattr("retrieval.index.vector_index._BLOCK", block)
    np.testing.assert_array_equal(index.exact(queries, 5).rows, whole.rows)


def test_only_what_is_allowed_is_found(index: VectorIndex) -> None:
    allowed = np.zeros(COUNT, dtype=np.bool_)
    allowed[[3, 500]] = True
    rows = index.search(np.ones((1, DIMENSION)), 5, allowed=allowed).rows
    assert set(rows[0].tolist()) == {3, 500, -1}


def test_rows_of_ids_and_ids_of_rows(index: VectorIndex) -> None:
    assert index.rows_of([0, 2997, 3, 4, -3, 10**12]).tolist() == [0, 999, 1, -1, -1, -1]
    assert index.ids[1] == 3


@pytest.mark.parametrize("k", [1_000, 5_000])
def test_no_more_is_found_than_there_is(index: VectorIndex, k: int) -> None:
    assert index.search(np.ones((2, DIMENSION)), k).rows.shape == (2, COUNT)
    assert sorted(index.exact(np.ones((1, DIMENSION)), k).rows[0].tolist()) == list(range(COUNT))


@pytest.mark.parametrize(
    ("queries", "match"),
    [
        (np.ones((1, DIMENSION - 1)), r"queries must be \[Q, 12\], got \[1, 11\]"),
        (np.ones(DIMENSION), r"queries must be \[Q, 12\], got \[12\]"),
        (np.full((1, DIMENSION), np.nan), "finite"),
    ],
    ids=["dimension", "axes", "nan"],
)
def test_a_query_that_does_not_fit_is_refused(index: VectorIndex, queries: np.ndarray, match: str) -> None:
    with pytest.raises(IndexingError, match=match):
        index.search(queries, 3)
    with pytest.raises(IndexingError, match=match):
        index.exact(queries, 3)


def mutated(directory: Path, copy: Path) -> Iterator[str]:
    """200 times a copy of the index with one thing wrong; tells what."""
    random = np.random.default_rng(6)
    files = sorted(path.name for path in directory.iterdir())
    for number in range(200):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(directory, copy)
        path = copy / files[int(random.integers(len(files)))]
        content = bytearray(path.read_bytes())
        match number % 5:
            case 0:
                path.write_bytes(content[: int(random.integers(len(content)))])
                yield f"{path.name} cut short"
            case 1:
                at = int(random.integers(len(content)))
                content[at] ^= 1 << int(random.integers(8))
                path.write_bytes(content)
                yield f"{path.name} with a bit of byte {at} flipped"
            case 2:
                path.unlink()
                yield f"{path.name} removed"
            case 3:
                path.write_bytes(content + random.bytes(int(random.integers(1, 50))))
                yield f"{path.name} with more behind it"
            case _:
                # An honest manifest of an index that is not what it tells.
                _of_another_dimension(copy) if number % 2 else _of_other_rows(copy)
                yield "another index under a right hash"


def _of_another_dimension(copy: Path) -> None:
    _replace(copy, faiss.IndexFlatIP(DIMENSION + 1))


def _of_other_rows(copy: Path) -> None:
    index = faiss.IndexFlatIP(DIMENSION)
    index.add(np.ones((COUNT - 1, DIMENSION), dtype=np.float32))
    _replace(copy, index)


def _replace(copy: Path, index: faiss.Index) -> None:
    before = read_manifest(copy)
    faiss.write_index(index, str(copy / "index.faiss"))
    write_manifest(copy, before.roles, before.facts)


def test_200_mutated_indexes_are_refused_and_altered_bytes_never_parsed(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[str] = []
    real = faiss.read_index
    monkeypatch.setattr(faiss, "read_index", lambda path, flags: parsed.append(path) or real(path, flags))
    refused = 0
    for what in mutated(directory, tmp_path / "copy"):
        parsed.clear()
        with pytest.raises(IndexingError, match=re.escape(str(tmp_path / "copy"))):
            VectorIndex.open(tmp_path / "copy")
        refused += 1
        assert not parsed or what == "another index under a right hash", what
    assert refused == 200
