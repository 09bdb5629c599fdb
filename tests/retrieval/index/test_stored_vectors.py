"""Vectors on disk: each storage gives them back as closely as it says, row by row and one after the other."""

from pathlib import Path

import numpy as np
import pytest

from retrieval.errors import IndexingError
from retrieval.index.spec import Storage
from retrieval.index.stored_vectors import StoredVectors, write_rows, write_vectors

CLOSENESS = {Storage.FP32: 0, Storage.FP16: 5e-4, Storage.SQ8: 5e-3, Storage.PQ: 5e-3}


def _unit(*shape: int) -> np.ndarray:
    drawn = np.random.default_rng(1).normal(size=shape)
    return (drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("storage", Storage)
@pytest.mark.parametrize(("vectors", "dimension"), [(1, 1), (3, 7), (32, 16)])
def test_what_is_written_is_read(tmp_path: Path, storage: Storage, vectors: int, dimension: int) -> None:
    given = _unit(1_030, vectors, dimension)
    write_vectors(tmp_path / "v.npy", given, storage)
    stored = StoredVectors(tmp_path / "v.npy", storage)
    assert stored.shape == given.shape
    np.testing.assert_allclose(stored.take(slice(None)), given, atol=CLOSENESS[storage])
    np.testing.assert_array_equal(stored.take(np.array([1_029, 5, 5])), stored.take(slice(None))[[1_029, 5, 5]])
    flat, all_of_them = stored.flat(), stored.take(slice(None)).reshape(-1, dimension)
    begin, end = vectors + 1, 5 * vectors + 2
    np.testing.assert_array_equal(flat[begin:end], all_of_them[begin:end])
    rows = np.random.default_rng(2).integers(len(all_of_them), size=3_000)
    np.testing.assert_array_equal(flat[rows], all_of_them[rows])


@pytest.mark.parametrize("storage", Storage)
def test_what_was_there_is_kept_byte_by_byte(tmp_path: Path, storage: Storage) -> None:
    given = _unit(1_100, 2, 8)
    write_vectors(tmp_path / "a.npy", given[:1_050], storage)
    first = StoredVectors(tmp_path / "a.npy", storage)
    write_vectors(tmp_path / "b.npy", given[1_050:], storage, before=first)
    write_vectors(tmp_path / "at-once.npy", given, storage)
    assert (tmp_path / "b.npy").read_bytes() == (tmp_path / "at-once.npy").read_bytes()
    write_rows(tmp_path / "c.npy", StoredVectors(tmp_path / "b.npy", storage), np.arange(1_050))
    assert (tmp_path / "c.npy").read_bytes() == (tmp_path / "a.npy").read_bytes()


def test_a_byte_a_dimension_by_hand(tmp_path: Path) -> None:
    write_vectors(tmp_path / "v.npy", np.array([[[0.6, -0.8, 0.0]]]), Storage.SQ8)
    raw = np.load(tmp_path / "v.npy")[0, 0]
    # 0.8 / 127 lies a little under the half 0.006302; 0.6 is 95.2 of it.
    assert raw[:3].view(np.int8).tolist() == [95, -127, 0]
    np.testing.assert_allclose(raw[3:].view(np.float16), 0.8 / 127, rtol=2e-3)


def test_another_storage_than_was_written_is_refused(tmp_path: Path) -> None:
    write_vectors(tmp_path / "v.npy", _unit(2, 1, 4), Storage.FP16)
    with pytest.raises(IndexingError, match=r"of float32 for storage fp32, got \[2, 1, 4\] of float16; build it again"):
        StoredVectors(tmp_path / "v.npy", Storage.FP32)
