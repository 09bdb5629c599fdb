"""What is to be added or deleted: what fits is taken, and each of the others named with its reason."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from retrieval.errors import IndexingError
from retrieval.index.building import BuildPlan, build_vector_index
from retrieval.index.increment_input import read_ids_to_delete, usable_ids, usable_vectors
from retrieval.index.sources import ArrayVectors
from retrieval.index.spec import IndexSpec
from retrieval.index.vector_index import VectorIndex

VECTORS = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)


def index_of(ids: list[Any], work: Path) -> VectorIndex:
    plan = BuildPlan(choose=lambda _count, _dimension: IndexSpec())
    return build_vector_index(ArrayVectors(pl.Series("id", ids), VECTORS[: len(ids)]), plan, work)


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> VectorIndex:
    return index_of([10, 20, 30], tmp_path_factory.mktemp("numbers"))


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> VectorIndex:
    return index_of(["a", "b", "7"], tmp_path_factory.mktemp("names"))


def written(path: Path, ids: list[Any], vectors: list[Any], id_type: Any = pl.Int64) -> Path:
    vector = pl.Series("vector", vectors, pl.List(pl.Float64))
    pl.DataFrame([pl.Series("id", ids, id_type), vector]).write_parquet(path)
    return path


def test_good_vectors_are_taken_and_each_bad_one_is_named(numbers: VectorIndex, tmp_path: Path) -> None:
    nan, huge = float("nan"), 1e300
    first = written(
        tmp_path / "a.parquet",
        [9, 10, 11, 12, None, 13, 14],
        [[1, 2, 3], [4, 5, 6], [1, 2], [nan, 0, 0], [0, 0, 1], None, [huge, 0, 0]],
    )
    second = written(tmp_path / "b.parquet", [8, 15, 15, 16], [[7, 8, 9], [1, 0, 0], [1, 0, 0], [1, None, 2]])
    found, refused = usable_vectors([first, second], numbers)
    assert found.ids.to_list() == [8, 9, 10]
    np.testing.assert_array_equal(found.vectors, [[7, 8, 9], [1, 2, 3], [4, 5, 6]])
    reasons = {each.id: each.reason for each in refused}
    assert len(reasons) == len(refused) == 7
    assert "the vector of id 11 must have 3 numbers, as those of the index, got 2" in reasons[11]
    assert "the vector of id 12 must be finite" in reasons[12]
    assert f"row 4 of {first} has no id" in reasons[None]
    assert reasons[13] == "the vector of id 13 is empty; embed it, or leave it out"
    assert "id 14 must be finite" in reasons[14]
    assert reasons[15] == "id 15 is there 2 times; keep one"
    assert "id 16 must be finite" in reasons[16]


@pytest.mark.parametrize("id_type", [pl.Int32, pl.UInt8])
def test_any_whole_numbers_are_ids(id_type: Any, numbers: VectorIndex, tmp_path: Path) -> None:
    found, _ = usable_vectors([written(tmp_path / "a.parquet", [3], [[1, 2, 3]], id_type)], numbers)
    assert (found.ids.dtype, found.ids.to_list()) == (pl.Int64, [3])


def test_ids_of_another_type_are_refused(numbers: VectorIndex, names: VectorIndex, tmp_path: Path) -> None:
    texts = written(tmp_path / "a.parquet", ["1"], [[1, 2, 3]], pl.String)
    with pytest.raises(IndexingError, match="ids must be whole numbers, as those of the index, got strings"):
        usable_vectors([texts], numbers)
    with pytest.raises(IndexingError, match="ids must be strings, as those of the index, got whole numbers"):
        usable_vectors([written(tmp_path / "b.parquet", [1], [[1, 2, 3]])], names)


def test_a_file_without_the_columns_is_refused(numbers: VectorIndex, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame({"id": [1], "embedding": [[1.0]]}).write_parquet(path)
    with pytest.raises(IndexingError, match="a column vector of lists of numbers, got none among id, embedding"):
        usable_vectors([path], numbers)
    with pytest.raises(IndexingError, match=r"no\.parquet cannot be read"):
        usable_vectors([tmp_path / "no.parquet"], numbers)


def test_ids_to_delete_are_those_that_are_there(numbers: VectorIndex, names: VectorIndex) -> None:
    found, refused = usable_ids(["30", 10, "10", "11", "x", "1_0", " 20", "9" * 30, 2**70], numbers)
    assert found.to_list() == [10, 30]
    assert [each.id for each in refused] == ["11", "x", "1_0", " 20", "9" * 30, 2**70]
    assert refused[0].reason == "id '11' is not in the index; leave it out"
    found, refused = usable_ids(["b", "c", 7], names)
    assert (found.to_list(), [each.id for each in refused]) == (["7", "b"], ["c"])


def test_ids_are_read_from_a_text_or_a_table(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("17\n\n  a b \n", encoding="utf-8-sig")
    assert read_ids_to_delete(tmp_path / "ids.txt") == ["17", "a b"]
    pl.DataFrame({"id": [3, None, 5], "why": ["x", "y", "z"]}).write_parquet(tmp_path / "ids.parquet")
    assert read_ids_to_delete(tmp_path / "ids.parquet") == [3, 5]


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("none.txt", None, "cannot be read as a text with an id a line"),
        ("none.parquet", None, "cannot be read as Parquet"),
        ("binary.txt", b"\xff\xfe\x00", "cannot be read as a text with an id a line"),
        ("floats.parquet", {"id": [1.5]}, "column id of whole numbers or strings, got Float64 among id"),
        ("other.parquet", {"item": [1]}, "column id of whole numbers or strings, got none among item"),
    ],
)
def test_what_holds_no_ids_is_refused(name: str, content: Any, match: str, tmp_path: Path) -> None:
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif content is not None:
        pl.DataFrame(content).write_parquet(tmp_path / name)
    with pytest.raises(IndexingError, match=match):
        read_ids_to_delete(tmp_path / name)
