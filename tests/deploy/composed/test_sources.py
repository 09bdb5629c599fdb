"""Which pictures a gallery gets: from folders and tables, and what is told of tables that cannot be read."""

import pytest

from recollect.composed.sources import read_source
from retrieval.errors import DatasetError


@pytest.fixture
def folder(tmp_path):
    directory = tmp_path / "photos"
    for name in ("b.jpg", "a.PNG", "deep/er/c.webp", ".hidden/d.png", ".e.png", "notes.txt"):
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return directory


def test_a_folder_gives_its_pictures_at_any_depth(folder):
    (folder / "deep" / "round").symlink_to(folder, target_is_directory=True)
    source = read_source(folder)
    assert source.ids == ("a.PNG", "b.jpg", "deep/er/c.webp")
    assert source.paths == tuple(folder / name for name in source.ids)
    assert source.metadata is None


def test_metadata_is_joined_by_id(folder, tmp_path):
    table = tmp_path / "metadata.csv"
    table.write_text("image,colour,price\nb.jpg, red ,3\nunknown.jpg,blue,4\na.PNG,,5\n")
    source = read_source(folder, metadata=table)
    assert source.metadata.to_dict(as_series=False) == {"colour": [None, "red", None], "price": ["5", "3", None]}


def test_a_table_gives_ids_paths_and_metadata(folder):
    table = folder / "photos.csv"
    table.write_text("id,image,colour\n7,b.jpg,red\n8,deep/er/c.webp,\n")
    source = read_source(table)
    assert source.ids == ("7", "8")
    assert source.paths == (folder / "b.jpg", folder / "deep/er/c.webp")
    assert source.metadata.to_dict(as_series=False) == {"colour": ["red", None]}
    table.write_text("image\nb.jpg\n")
    assert read_source(table).ids == ("b.jpg",)


def test_tables_may_have_tabs(folder):
    table = folder / "photos.tsv"
    table.write_text("id\timage\n7\tb.jpg\n")
    assert read_source(table).ids == ("7",)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("picture\nb.jpg\n", "must have a column 'image', it has 'picture'", id="no image"),
        pytest.param("id,image\n7,\n", "line 2: image and id must not be empty", id="empty image"),
        pytest.param("id,image\n,b.jpg\n", "line 2: image and id must not be empty", id="empty id"),
        pytest.param("id,image\n7,b.jpg\n7,a.PNG\n", "7 came more than once", id="id twice"),
        pytest.param("image\n", "has no pictures", id="no rows"),
        pytest.param("", "must have a column 'image', it has none", id="empty file"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(folder, text, says):
    table = folder / "photos.csv"
    table.write_text(text)
    with pytest.raises(DatasetError, match=says):
        read_source(table)


def test_bytes_that_are_no_text_are_refused(folder):
    (folder / "photos.csv").write_bytes(b"image\n\xff\xfe\n")
    with pytest.raises(DatasetError, match="cannot be read as a table"):
        read_source(folder / "photos.csv")


def test_other_files_and_empty_folders_are_refused(folder, tmp_path):
    with pytest.raises(DatasetError, match=r"must be a folder of pictures or a \.csv"):
        read_source(folder / "b.jpg")
    with pytest.raises(DatasetError, match="there is no such file"):
        read_source(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="has no pictures"):
        read_source(tmp_path / "empty")


def test_metadata_of_other_pictures_is_a_mistake(folder, tmp_path):
    table = tmp_path / "metadata.csv"
    table.write_text("id,colour\nc.webp,red\n")
    with pytest.raises(DatasetError, match=r"says nothing of any picture \('c.webp' of line 2\); ids are as 'a.PNG'"):
        read_source(folder, metadata=table)
