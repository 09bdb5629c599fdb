"""Which pictures an index is made of: every layout that means the same gives the same ids; what is wrong is named."""

import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from recollect.indexes.pictures import read_pictures
from retrieval.errors import DatasetError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with two files that are called pictures."""
    folder = tmp_path / "photos"
    (folder / "mugs").mkdir(parents=True)
    (folder / "a.png").write_bytes(b"a")
    (folder / "mugs" / "b.jpg").write_bytes(b"bb")
    return folder


def table(path: Path, **columns: Any) -> Path:
    pl.DataFrame(columns).write_parquet(path)
    return path


def test_a_folder_and_tables_of_its_paths_are_the_same_pictures(photos: Path) -> None:
    folder = read_pictures(photos)
    assert folder.wanted["id"].to_list() == ["a.png", "mugs/b.jpg"]
    assert folder.tables == ()
    (photos / "list.csv").write_text("image\na.png\nmugs/b.jpg\n")
    parts = photos.parent / "parts"
    parts.mkdir()
    table(parts / "0.parquet", image=["../photos/a.png"], id=["a.png"])
    table(parts / "1.parquet", image=["../photos/mugs/b.jpg"], id=["mugs/b.jpg"])
    for source in (photos / "list.csv", parts):
        assert read_pictures(source).wanted.equals(folder.wanted), source
    only_paths = table(photos / "list.parquet", image=["a.png", "mugs/b.jpg"])
    assert read_pictures(only_paths).wanted.equals(folder.wanted)


def test_numbers_may_be_ids(photos: Path) -> None:
    found = read_pictures(
        table(photos.parent / "items.parquet", id=pl.Series([7, 3], dtype=pl.UInt16), image=["a", "b"])
    )
    assert found.wanted.schema["id"] == pl.Int64
    assert found.wanted["id"].to_list() == [7, 3]


@pytest.mark.parametrize("structured", [False, True], ids=["bytes", "structure of bytes and path"])
def test_a_table_may_hold_the_pictures(structured: bool, tmp_path: Path) -> None:
    images = [{"bytes": b"1", "path": None}, {"bytes": b"2", "path": "x"}] if structured else [b"1", b"2"]
    path = table(tmp_path / "images.parquet", id=["x", "y"], image=images)
    found = read_pictures(path)
    assert found.tables == (path.resolve(),)
    assert found.wanted["id"].to_list() == ["x", "y"]
    assert found.wanted.columns == ["id", "key"]


def test_a_picture_that_is_written_anew_has_another_key(photos: Path) -> None:
    before = read_pictures(photos).wanted
    (photos / "a.png").write_bytes(b"c")
    os.utime(photos / "a.png", ns=(1, 1))
    after = read_pictures(photos).wanted
    assert (before["key"] == after["key"]).to_list() == [False, True]
    missing = read_pictures(table(photos / "list.parquet", image=["a.png", "none.png"])).wanted
    assert missing["key"].to_list() == [after["key"][0], f"{photos / 'none.png'} missing"]


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        (
            {"id": ["x"], "picture": ["a"]},
            "image of paths or of the bytes of pictures, got none among id, picture",
        ),
        ({"id": ["x"], "image": [1]}, "got Int64 among id, image"),
        ({"id": [1.5], "image": ["a"]}, "whole numbers or strings as id, got Float64"),
        ({"image": [b"a"]}, "must have a column id beside pictures without paths"),
        ({"id": ["x", "x"], "image": ["a", "b"]}, "one row for each id, 'x' came more than once"),
        (
            {"id": pl.Series([1, 2**63], dtype=pl.UInt64), "image": ["a", "b"]},
            r"numbers below 2\*\*63 as id, got 9223372036854775808",
        ),
        ({"id": ["x", None], "image": ["a", "b"]}, "row 1: id must not be empty"),
        ({"id": ["x", "y"], "image": ["a", ""]}, "row 1: image must not be empty"),
        ({"id": pl.Series([], dtype=pl.String), "image": pl.Series([], dtype=pl.String)}, "has no pictures"),
    ],
    ids=[
        "no image",
        "numbers",
        "id of floats",
        "no id",
        "id twice",
        "id too large",
        "id missing",
        "path missing",
        "nothing",
    ],
)
def test_a_table_that_names_no_pictures_is_refused(columns: dict[str, Any], match: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=match):
        read_pictures(table(tmp_path / "t.parquet", **columns))


def test_a_table_whose_name_has_brackets_is_that_table(tmp_path: Path) -> None:
    table(tmp_path / "t1.parquet", id=[9, 8], image=[b"a", b"b"])
    assert read_pictures(table(tmp_path / "t[1].parquet", id=[1], image=[b"c"])).wanted["id"].to_list() == [1]


def test_parts_must_be_alike(tmp_path: Path) -> None:
    table(tmp_path / "0.parquet", id=["x"], image=["a"])
    table(tmp_path / "1.parquet", id=["y"], image=[b"a"])
    with pytest.raises(DatasetError, match=r"1\.parquet must have id and image as the file before it"):
        read_pictures(tmp_path)


@pytest.mark.parametrize("name", ["none", "none.parquet", "none.csv"])
def test_what_is_not_there_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=name):
        read_pictures(tmp_path / name)
