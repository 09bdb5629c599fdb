"""The benchmark of indexes tells what is so: both answer alike, and figures are those of the index that was built."""

from pathlib import Path

import numpy as np
import pytest

from retrieval.index.benchmarks.vectors import Sizes, make_vectors, measure
from retrieval.index.spec import IndexSpec, Kind, Storage

SIZES = Sizes(count=4_000, dimension=16, centres=200, queries=40, rounds=2, threads=1)


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        (IndexSpec(), "Flat"),
        (IndexSpec(kind=Kind.IVF, lists=32, probes=2, storage=Storage.SQ8), "IVF32,SQ8 · "),
    ],
    ids=["flat", "ivf"],
)
def test_a_row_is_of_the_index_that_was_built(spec: IndexSpec, named: str) -> None:
    steps: list[str] = []
    row = measure(spec, SIZES, told=steps.append)
    assert row.spec.startswith(named)
    assert row.recall10 >= 0.93
    assert (row.n, row.dim) == (4_000, 16)
    assert row.memory_mb == pytest.approx(row.bare_memory_mb + 4_000 * 8 / 1e6, rel=0.1)
    assert row.disk_mb > row.memory_mb
    assert min(row.qps, row.bare_faiss_qps, row.build_s, row.bare_build_s, row.build_peak_mb) > 0
    assert "building bare FAISS" in steps


def test_the_vectors_are_the_same_for_the_same_sizes(tmp_path: Path) -> None:
    first = make_vectors(tmp_path / "a.npy", SIZES)
    np.testing.assert_array_equal(first, make_vectors(tmp_path / "b.npy", SIZES))
    vectors = np.load(tmp_path / "a.npy")
    np.testing.assert_array_equal(vectors, np.load(tmp_path / "b.npy"))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert ((first @ vectors.T).max(axis=1) > 0.8).all()  # each query is near its vector
