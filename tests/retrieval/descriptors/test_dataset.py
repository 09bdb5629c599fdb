"""Images with labels, from each layout, with what cannot be used named rather than fatal."""

import pytest

from retrieval.descriptors.dataset import DatasetFormat, read_images
from retrieval.errors import DatasetError


@pytest.fixture
def files(tmp_path):
    """Make empty files at paths below a folder; which are images is told by their names alone."""

    def make(*paths):
        for path in paths:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).touch()
        return tmp_path

    return make


def pairs(found):
    return [(str(each.path.relative_to(found.source.parent)), each.label) for each in found.images]


def test_a_folder_a_class_at_any_depth(files):
    root = files(
        "birds/owl/2.JPG",
        "birds/owl/1.jpeg",
        "birds/farm/hen/1.png",
        "birds/farm/hen/notes.txt",
        "birds/.git/hen/1.png",
    )
    found = read_images(root / "birds")
    assert pairs(found) == [
        ("birds/farm/hen/1.png", "hen"),
        ("birds/owl/1.jpeg", "owl"),
        ("birds/owl/2.JPG", "owl"),
    ]
    assert (found.labels, found.skipped) == (("hen", "owl"), ())


def test_an_image_outside_any_class_is_named(files):
    root = files("birds/stray.png", "birds/owl/1.png", "birds/.hidden.png")
    found = read_images(root / "birds")
    assert [(each.path.name, each.reason) for each in found.skipped] == [("stray.png", "has no label")]
    assert len(found.images) == 1


def test_linked_folders_are_followed_and_never_round(files):
    root = files("kept/hen/1.png", "birds/owl/1.png")
    (root / "birds" / "hen").symlink_to(root / "kept" / "hen")
    (root / "birds" / "owl" / "round").symlink_to(root / "birds")
    found = read_images(root / "birds")
    assert sorted(pairs(found)) == [("birds/hen/1.png", "hen"), ("birds/owl/1.png", "owl")]


@pytest.mark.parametrize(
    ("name", "text", "columns"),
    [
        pytest.param("t.csv", "image,label\na.png,hen\nb/c.png,owl\n", {}, id="csv"),
        pytest.param("t.tsv", "label\timage\nhen\ta.png\nowl\tb/c.png\n", {}, id="tsv, columns the other way round"),
        pytest.param("t.csv", "\ufeffimage,label\r\na.png, hen\r\nb/c.png,owl \r\n", {}, id="as spreadsheets write it"),
        pytest.param(
            "t.csv",
            'file,price,kind\na.png,1,hen\n"b/c.png",2,"owl"\n',
            {"image_column": "file", "label_column": "kind"},
            id="other columns",
        ),
    ],
)
def test_a_table_names_images_relative_to_itself(files, name, text, columns):
    root = files("a.png", "b/c.png")
    (root / name).write_text(text, newline="")
    assert pairs(read_images(root / name, **columns)) == [("a.png", "hen"), ("b/c.png", "owl")]


def test_missing_files_and_labels_are_named(files):
    root = files("a.png", "b.png")
    (root / "t.csv").write_text("image,label\na.png,hen\ngone.png,hen\nb.png,\n")
    found = read_images(root / "t.csv")
    assert [(each.path.name, each.reason) for each in found.skipped] == [
        ("gone.png", "is missing"),
        ("b.png", "has no label"),
    ]
    assert pairs(found) == [("a.png", "hen")]


def test_the_grocery_layout_is_recognised_by_the_classes_beside_it(files):
    root = files("test/Fruit/Lime/1.jpg", "test/Fruit/Kiwi/1.jpg")
    (root / "classes.csv").write_text("Class Name (str),Class ID (int),Coarse\nKiwi,7,Kiwi\nSour-Lime,9,Lime\n")
    (root / "test.txt").write_text("test/Fruit/Lime/1.jpg, 9, 5\n\ntest/Fruit/Kiwi/1.jpg, 7, 3\n")
    expected = [("test/Fruit/Lime/1.jpg", "Sour-Lime"), ("test/Fruit/Kiwi/1.jpg", "Kiwi")]
    assert pairs(read_images(root / "test.txt")) == expected
    (root / "test.csv").write_text((root / "test.txt").read_text())
    assert pairs(read_images(root / "test.csv", dataset_format=DatasetFormat.GROCERY)) == expected


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        pytest.param(
            "t.csv", "image,kind\na.png,hen\n", "column 'label', it has 'image', 'kind'", id="a column missing"
        ),
        pytest.param("t.csv", "", "column 'image', it has none", id="an empty table"),
        pytest.param("t.csv", "image,label\n", "names 0 images", id="a table without rows"),
        pytest.param("t.csv", "image,label\nx.png,hen\n", "names 1 images, none .*x.png, is missing", id="all missing"),
        pytest.param("t.txt", "a.png, 0, 0\n", "must be a folder .* or a list", id="a list without classes"),
        pytest.param("t.zip", None, "must be a folder .*; there is no such file", id="nothing there"),
        pytest.param("t.csv", None, "cannot be read as table", id="a table that is not there"),
    ],
)
def test_what_is_no_data_set_is_refused(files, name, text, said):
    root = files("a.png")
    if text is not None:
        (root / name).write_text(text)
    with pytest.raises(DatasetError, match=said):
        read_images(root / name)


def test_a_grocery_class_without_a_name_is_refused_by_its_line(files):
    root = files("a.jpg")
    (root / "classes.csv").write_text("Kiwi,7,Kiwi\n")
    (root / "test.txt").write_text("a.jpg, 7, 0\na.jpg, 8, 0\n")
    with pytest.raises(DatasetError, match=r"line 2 of .*test.txt .* got 'a.jpg, 8, 0'"):
        read_images(root / "test.txt")


def test_an_empty_folder_is_refused(files):
    root = files("birds/owl/notes.txt")
    with pytest.raises(DatasetError, match="names 0 images"):
        read_images(root / "birds")
