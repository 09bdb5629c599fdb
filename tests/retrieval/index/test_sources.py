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
    monkeypatch.setattr("retrieval.index.vector_files._BATCH", batch)
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


@pytest.mark.parametrize("batch", [1, 7, 16_384])
def test_rows_that_cannot_be_used_are_left_out_and_told(
    batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrieval.index.vector_files._BATCH", batch)
    vectors: list = np.random.default_rng(2).normal(size=(1_000, 3)).tolist()
    ids: list = [10 * number for number in range(1_000)]
    vectors[1], vectors[2], vectors[3] = [1.0, 2.0], None, []
    vectors[400], vectors[401], vectors[402] = [1.0, float("nan"), 0.0], [1.0, None, 0.0], [0.0, 1e300, 0.0]
    ids[500], ids[701], ids[702] = None, 7_000, 7_000
    first = written(tmp_path / "a.parquet", ids[:600], vectors[:600], vector_type=pl.List(pl.Float64))
    second = written(tmp_path / "b.parquet", ids[600:], vectors[600:], vector_type=pl.List(pl.Float64))
    told: list[tuple[int, int]] = []
    source = ParquetVectors([first, second], told=lambda done, of: told.append((done, of)))
    assert told[-1] == (1_000, 1_000)
    assert {each.id: each.reason.partition(";")[0] for each in source.refused} == {
        10: "the vector of id 10 must have 3 numbers, as those of most rows, got 2",
        20: "the vector of id 20 is empty",
        30: "the vector of id 30 is empty",
        4000: "the vector of id 4000 must be finite",
        4010: "the vector of id 4010 must be finite",
        4020: "the vector of id 4020 must be finite",
        None: f"row 500 of {first} has no id",
        7000: "id 7000 is there 3 times",
    }
    assert source.facts["refused"] == len(source.refused) == 8
    left = [row for row in range(1_000) if row not in {1, 2, 3, 400, 401, 402, 500, 700, 701, 702}]
    found, matrix = ordered(source, tmp_path / "v.npy")
    assert found == [ids[row] for row in left]
    np.testing.assert_array_equal(matrix, np.array([vectors[row] for row in left], dtype=np.float32))


def test_more_bad_rows_than_are_allowed_are_not_left_out(tmp_path: Path) -> None:
    vectors = [[1.0, float(number)] for number in range(200)]
    vectors[5][0] = vectors[150][0] = float("nan")
    path = written(tmp_path / "a.parquet", list(range(200)), vectors, vector_type=pl.List(pl.Float32))
    assert len(ParquetVectors([path]).ids) == 198
    match = r"more than 0\.50% of 200 rows .*\(max_bad_rows\).* the first: the vector of id 5 must be finite"
    with pytest.raises(IndexingError, match=match):
        ParquetVectors([path], max_bad_rows=0.005)
    twice = written(tmp_path / "b.parquet", [1, 1, *range(2, 200)], [[1.0, 2.0]] * 200)
    assert len(ParquetVectors([twice]).ids) == 198
    with pytest.raises(IndexingError, match="the first: id 1 is there 2 times; keep one"):
        ParquetVectors([twice], max_bad_rows=0.005)


@pytest.mark.parametrize(
    ("vectors", "reason"),
    [
        pytest.param([[1.0, 2.0], [1.0], [3.0, 4.0]], "id 8 must have 2 numbers, as those of most", id="shorter"),
        pytest.param([[1.0], [1.0, 2.0], [3.0, 4.0]], "id 7 must have 2 numbers, as those of most", id="the first"),
        pytest.param([None, [1.0, 2.0], [3.0, 4.0]], "vector of id 7 is empty", id="missing"),
        pytest.param([None, None, None], "vector of id 7 is empty", id="all missing"),
    ],
)
def test_a_bad_row_is_told_wherever_it_is(vectors: list, reason: str, tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", [7, 8, 9], vectors, vector_type=pl.List(pl.Float64))
    with pytest.raises(IndexingError, match=reason):
        ParquetVectors([path], max_bad_rows=0)


def test_ids_that_no_int64_holds_are_told(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", [2**63, 1], VECTORS[:2].tolist(), id_type=pl.UInt64)
    source = ParquetVectors([path], max_bad_rows=0.5)
    assert source.ids.to_list() == [1]
    assert [each.id for each in source.refused] == [2**63]
    assert "must be below 2**63" in source.refused[0].reason


def test_files_with_ids_of_two_kinds_are_refused(tmp_path: Path) -> None:
    numbers = written(tmp_path / "a.parquet", [1], VECTORS[:1].tolist())
    names = written(tmp_path / "b.parquet", ["1"], VECTORS[:1].tolist())
    with pytest.raises(IndexingError, match=r"b\.parquet must have whole numbers as id, as .*a\.parquet, got strings"):
        ParquetVectors([numbers, names])


def test_a_file_that_is_written_anew_while_it_is_read_is_refused(tmp_path: Path) -> None:
    source = ParquetVectors([written(tmp_path / "a.parquet", [1, 2], VECTORS[:2].tolist())])
    written(tmp_path / "a.parquet", [1, 2, 3], VECTORS[:3].tolist())
    with pytest.raises(IndexingError, match=r"a\.parquet was changed while it was read; build again"):
        list(source.batches())


def test_rows_in_another_order_since_the_ids_were_read_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", [1, 2, 3, 4], VECTORS.tolist())
    source = ParquetVectors([path])
    written(tmp_path / "b.parquet", [4, 3, 2, 1], VECTORS[::-1].tolist()).replace(path)
    with pytest.raises(IndexingError, match="was changed while it was read"):
        ordered(source, tmp_path / "v.npy")


def test_a_first_file_without_rows_says_nothing_of_the_others(tmp_path: Path) -> None:
    empty = written(tmp_path / "a.parquet", [], [], vector_type=pl.List(pl.Float32), id_type=pl.Int32)
    source = ParquetVectors([empty, written(tmp_path / "b.parquet", [1, 2], VECTORS[:2].tolist())])
    assert (source.dimension, source.ids.to_list()) == (3, [1, 2])


def test_a_name_with_brackets_is_a_name(tmp_path: Path) -> None:
    meant = written(tmp_path / "items[1].parquet", [1, 2], VECTORS[:2].tolist())
    written(tmp_path / "items1.parquet", [101, 102], VECTORS[2:].tolist())
    ids, vectors = ordered(ParquetVectors([meant]), tmp_path / "v.npy")
    assert ids == [1, 2]
    np.testing.assert_array_equal(vectors, VECTORS[:2])


def test_a_file_that_is_damaged_further_in_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", list(range(50_000)), np.zeros((50_000, 4), dtype=np.float32))
    content = bytearray(path.read_bytes())
    content[100 : len(content) // 2] = bytes(len(content) // 2 - 100)
    path.write_bytes(content)
    with pytest.raises(IndexingError, match=r"a\.parquet cannot be read from row \d+ on"):
        ParquetVectors([path])


def test_what_is_no_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(IndexingError, match=r"a\.parquet cannot be read as Parquet"):
        ParquetVectors([tmp_path / "a.parquet"])
    with pytest.raises(IndexingError, match="no Parquet file is named"):
        ParquetVectors([])
    with pytest.raises(IndexingError, match=r"b\.parquet cannot be read"):
        ParquetVectors([tmp_path / "b.parquet"])
