"""Parquet files of id and vector: every layout that means the same gives the same, and what is wrong is named."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from retrieval.errors import IndexingError
from retrieval.index.sources import ArrayVectors, ParquetVectors, ordered_ids, write_ordered

VECTORS = np.arange(12, dtype=np.float32).reshape(4, 3)


def written(path: Path, ids: list, vectors: object, *, vector_type: object = None, id_type: object = None) -> Path:
    vector = pl.Series("vector", vectors, dtype=vector_type)
    pl.DataFrame([pl.Series("id", ids, dtype=id_type), vector]).write_parquet(path)
    return path


def ordered(source: ParquetVectors | ArrayVectors, path: Path) -> tuple[list, np.ndarray]:
    ids, rows = ordered_ids(source)
    write_ordered(path, source, rows, lambda _done, _of: None)
    return ids.to_list(), np.load(path)


@pytest.mark.parametrize(
    "vector_type",
    [pl.List(pl.Float32), pl.List(pl.Float64), pl.Array(pl.Float32, 3), pl.Array(pl.Float64, 3), pl.List(pl.Int64)],
    ids=str,
)
@pytest.mark.parametrize("batch", [1, 3, 16_384])
def test_vectors_stand_in_the_order_of_their_ids(
    vector_type: object, batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrieval.index.sources._BATCH", batch)
    values = VECTORS.astype(int).tolist()
    first = written(tmp_path / "a.parquet", [9, -4], values[:2], vector_type=vector_type)
    second = written(tmp_path / "b.parquet", [5, 7], values[2:], vector_type=vector_type)
    ids, vectors = ordered(ParquetVectors([first, second]), tmp_path / "v.npy")
    assert ids == [-4, 5, 7, 9]
    np.testing.assert_array_equal(vectors, VECTORS[[1, 2, 3, 0]])


@pytest.mark.parametrize("id_type", [pl.UInt16, pl.Int32, pl.String], ids=str)
def test_ids_are_numbers_or_names(id_type: object, tmp_path: Path) -> None:
    ids = ["b", "a"] if id_type == pl.String else [2, 1]
    path = written(tmp_path / "a.parquet", ids, VECTORS[:2].tolist(), id_type=id_type)
    assert ordered(ParquetVectors([path]), tmp_path / "v.npy")[0] == sorted(ids)


def test_progress_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrieval.index.sources._BATCH", 3)
    source = ArrayVectors(pl.Series("id", [1, 2, 3, 4]), VECTORS)
    told: list[tuple[int, int]] = []
    write_ordered(tmp_path / "v.npy", source, ordered_ids(source)[1], lambda done, of: told.append((done, of)))
    assert told == [(3, 4), (4, 4)]


@pytest.mark.parametrize(
    ("frame", "match"),
    [
        pytest.param({"item": [1], "vector": [[1.0]]}, "must have a column id", id="no id"),
        pytest.param({"id": [1.5], "vector": [[1.0]]}, "whole numbers or strings, got Float64", id="id of floats"),
        pytest.param({"id": [1], "embedding": [[1.0]]}, "must have a column vector", id="no vector"),
        pytest.param({"id": [1], "vector": [1.0]}, "lists of numbers, got Float64", id="one number"),
        pytest.param({"id": [1], "vector": [["x"]]}, "lists of numbers, got List", id="words"),
    ],
)
def test_other_columns_are_refused(frame: dict, match: str, tmp_path: Path) -> None:
    pl.DataFrame(frame).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(IndexingError, match=match):
        ParquetVectors([tmp_path / "a.parquet"])


@pytest.mark.parametrize(
    ("vectors", "match"),
    [
        pytest.param([[1.0, 2.0], [1.0]], r"all have 2 numbers as the first one, row 1 of .* has 1", id="shorter"),
        pytest.param([[1.0, 2.0], None], "row 1 of .* has 0", id="missing"),
        pytest.param([[1.0, 2.0], []], "row 1 of .* has 0", id="empty"),
        pytest.param([[1.0, 2.0], [1.0, None]], "that of id 8 is not", id="a number missing"),
    ],
)
def test_vectors_that_do_not_fit_are_named(vectors: list, match: str, tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", [7, 8], vectors, vector_type=pl.List(pl.Float64))
    with pytest.raises(IndexingError, match=match):
        ordered(ParquetVectors([path]), tmp_path / "v.npy")


def test_what_is_no_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(IndexingError, match=r"a\.parquet cannot be read as Parquet"):
        ParquetVectors([tmp_path / "a.parquet"])
    with pytest.raises(IndexingError, match="no Parquet file is named"):
        ParquetVectors([])
    with pytest.raises(IndexingError, match=r"b\.parquet cannot be read"):
        ParquetVectors([tmp_path / "b.parquet"])
