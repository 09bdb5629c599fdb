"""Data sets in their published layouts, and what is said of broken ones."""

import json

import pytest
from PIL import Image

from retrieval.composed.datasets import KINDS, load_dataset
from retrieval.composed.geometry import Box
from retrieval.errors import DatasetError


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (10, 10)).save(path)


def oacirr(directory, *, box=(1, 2, 8, 9), target="n2", **fields):
    write(directory / "split.val.json", {"n1": "./img/0001/a.jpg", "n2": "./img/0001/b.jpg"})
    for file in "ab":
        touch(directory / "img" / "0001" / f"{file}.jpg")
    write(directory / "bounding_box.val.json", {"n1": [1, 2, 8, 9], "n2": [0, 0, 5, 5]})
    row = {
        "reference": "n1",
        "target": target,
        "modification_text_mllm": "on a beach",
        "object_category": "cup",
        "reference_bounding_box": box,
    }
    write(directory / "caption_full.val.json", [row | fields])


def test_oacirr_of_one_domain(tmp_path):
    oacirr(tmp_path)
    data = load_dataset("oacirr", tmp_path, "val")
    (query,) = data.queries
    assert (query.reference, query.target, query.text) == ("n1", "n2", "on a beach")
    assert query.box == Box(1, 2, 8, 9)
    assert data.instances == {"n1": "0001", "n2": "0001"}
    assert data.images["n1"] == tmp_path / "img" / "0001" / "a.jpg"
    assert data.remove_reference


def test_oacirr_does_not_merge_equal_folder_names_of_domains(tmp_path):
    for domain in ("Car", "Fashion"):
        oacirr(tmp_path / domain)
    data = load_dataset("oacirr", tmp_path, "val")
    assert data.instances == {
        "Car/n1": "Car/0001",
        "Car/n2": "Car/0001",
        "Fashion/n1": "Fashion/0001",
        "Fashion/n2": "Fashion/0001",
    }
    assert [query.category for query in data.queries] == ["Car", "Fashion"]
    assert data.gallery_of("Car") == ("Car/n1", "Car/n2")


@pytest.mark.parametrize(
    ("broken", "match"),
    [
        pytest.param({"box": (1, 2, 3)}, "row 0: a box must be four numbers", id="three numbers"),
        pytest.param({"box": ("a", 2, 3, 4)}, "row 0: a box must be four numbers", id="no numbers"),
        pytest.param({"box": (8, 2, 1, 9)}, "row 0: box must have x1 < x2", id="no area"),
        pytest.param({"target": "n9"}, "row 0: 'n9' is not in split.val.json", id="unknown target"),
        pytest.param({"target": ["n2"]}, r"row 0: \['n2'\] is not in split.val.json", id="target is a list"),
        pytest.param({"box": (10**400, 2, 3, 4)}, "row 0: a box must be four numbers", id="beyond floats"),
        pytest.param(
            {"modification_text_mllm": None}, "row 0: modification_text_mllm must be text, got None", id="no text"
        ),
        pytest.param({"id": None}, "row 0: id must be a whole number or text, got None", id="no id"),
        pytest.param({"kind": None}, "row 0: kind must be text, got None", id="no kind"),
    ],
)
def test_oacirr_names_the_bad_row(tmp_path, broken, match):
    oacirr(tmp_path, **broken)
    with pytest.raises(DatasetError, match=match):
        load_dataset("oacirr", tmp_path, "val")


def cirr(directory, pictures):
    write(directory / "image_splits" / "split.rc2.val.json", {name: f"./dev/{name}.png" for name in "abcd"})
    for name in "abcd":
        touch(pictures / "dev" / f"{name}.png")
    rows = [
        {
            "pairid": 12,
            "reference": "a",
            "target_hard": "b",
            "caption": "two dogs",
            "img_set": {"members": list("abc")},
        },
        {"pairid": 13, "reference": "c", "caption": "no dog", "img_set": {"members": list("cd")}},
    ]
    write(directory / "captions" / "cap.rc2.val.json", rows)


@pytest.mark.parametrize("folder", ["img_raw", "."], ids=["as published", "pictures beside the captions"])
def test_cirr(tmp_path, folder):
    cirr(tmp_path, tmp_path / folder)
    data = load_dataset("cirr", tmp_path, "val")
    assert data.queries[0].subset == ("b", "c")
    assert [query.target for query in data.queries] == ["b", None]
    assert data.queries[0].query_id == "12"
    assert data.images["d"] == tmp_path / folder / "dev" / "d.png"


@pytest.mark.parametrize(
    ("row", "match"),
    [
        pytest.param({"target_hard": "z"}, "row 0: 'z' is not in split.rc2.val.json", id="unknown target"),
        pytest.param({"img_set": {"members": ["a", "z"]}}, "row 0: 'z' is not in", id="unknown member"),
        pytest.param({"img_set": {}}, "row 0: img_set must have a list of members, got {}", id="no members"),
        pytest.param({"caption": None}, "row 0: caption must be text, got None", id="no caption"),
        pytest.param({"pairid": True}, "row 0: pairid must be a whole number or text, got True", id="no pairid"),
    ],
)
def test_cirr_names_the_bad_row(tmp_path, row, match):
    cirr(tmp_path, tmp_path)
    good = {"pairid": 1, "reference": "a", "target_hard": "b", "caption": "x", "img_set": {"members": list("abc")}}
    write(tmp_path / "captions" / "cap.rc2.val.json", [good | row])
    with pytest.raises(DatasetError, match=match):
        load_dataset("cirr", tmp_path, "val")


def test_paths_of_pictures_must_be_text(tmp_path):
    cirr(tmp_path, tmp_path)
    write(tmp_path / "image_splits" / "split.rc2.val.json", {"a": None})
    with pytest.raises(DatasetError, match="picture 'a' must have a path, got None"):
        load_dataset("cirr", tmp_path, "val")


def test_missing_pictures_are_named_before_anything_runs(tmp_path):
    cirr(tmp_path, tmp_path)
    for name in "bd":
        (tmp_path / "dev" / f"{name}.png").unlink()
    with pytest.raises(DatasetError, match=r"2 of the 4 pictures .* are not there: b \(.*dev/b.png\), d \("):
        load_dataset("cirr", tmp_path, "val")


def fashioniq(directory):
    for number, category in enumerate(("dress", "shirt", "toptee")):
        names = [f"{category}{at}" for at in range(3)]
        write(directory / "image_splits" / f"split.{category}.val.json", [*names, "lost"])
        for at, name in enumerate(names):
            touch(directory / "images" / f"{name}.{'png' if at else 'jpg'}")
        rows = [
            {"candidate": names[0], "target": names[1], "captions": ["is red.", "has long sleeves"]},
            {"candidate": "lost", "target": names[1], "captions": ["x", "y"]},
        ]
        write(directory / "captions" / f"cap.{category}.val.json", rows[: 1 + (number == 0)])


def test_fashioniq_joins_captions_and_leaves_out_what_is_not_there(tmp_path):
    fashioniq(tmp_path)
    data = load_dataset("fashioniq", tmp_path, "val")
    assert [query.text for query in data.queries] == ["is red and has long sleeves"] * 3
    assert data.gallery_of("shirt") == ("shirt0", "shirt1", "shirt2")
    assert not data.remove_reference
    assert data.left_out == 1


@pytest.mark.parametrize(
    ("row", "match"),
    [
        pytest.param({"captions": [None, "is red"]}, r"row 0: captions must be a list of texts", id="no caption"),
        pytest.param({"candidate": ["dress0"]}, r"names of pictures, got \['dress0'\] and 'dress1'", id="a list"),
        pytest.param({"candidate": None}, "names of pictures, got None and 'dress1'", id="no candidate"),
        pytest.param({"target": 3}, "names of pictures, got 'dress0' and 3", id="a number as target"),
    ],
)
def test_fashioniq_names_the_bad_row(tmp_path, row, match):
    fashioniq(tmp_path)
    good = {"candidate": "dress0", "target": "dress1", "captions": ["is red", "is long"]}
    write(tmp_path / "captions" / "cap.dress.val.json", [good | row])
    with pytest.raises(DatasetError, match=match):
        load_dataset("fashioniq", tmp_path, "val")


def circo(directory, *, image=None, **fields):
    infos = [{"id": number, "file_name": f"{number:012d}.jpg"} for number in (5, 6, 7)]
    for info in infos:
        touch(directory / "COCO2017_unlabeled" / "unlabeled2017" / info["file_name"])
    infos[0] |= image or {}
    write(directory / "COCO2017_unlabeled" / "annotations" / "image_info_unlabeled2017.json", {"images": infos})
    row = {"id": 3, "reference_img_id": 5, "target_img_id": 6, "relative_caption": "at night", "gt_img_ids": [6, 7]}
    write(directory / "annotations" / "val.json", [row | fields])


def test_circo(tmp_path):
    circo(tmp_path)
    data = load_dataset("circo", tmp_path, "val")
    assert data.queries[0].accepted == {"6", "7"}
    assert not data.remove_reference
    assert data.images["5"] == tmp_path / "COCO2017_unlabeled" / "unlabeled2017" / "000000000005.jpg"


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        pytest.param({"relative_caption": None}, "row 0: relative_caption must be text, got None", id="no caption"),
        pytest.param({"gt_img_ids": 6}, "row 0: gt_img_ids must be a list of ids, got 6", id="one answer, no list"),
        pytest.param({"gt_img_ids": "67"}, "row 0: gt_img_ids must be a list of ids, got '67'", id="answers as text"),
        pytest.param({"gt_img_ids": [None]}, "row 0: each of gt_img_ids must be a whole number", id="no answer"),
        pytest.param({"reference_img_id": None}, "row 0: reference_img_id must be a whole number", id="no reference"),
        pytest.param({"id": None}, "row 0: id must be a whole number or text, got None", id="no id"),
        pytest.param({"gt_img_ids": [6, 9]}, "row 0: picture 9 is not in image_info", id="unknown answer"),
        pytest.param({"image": {"file_name": None}}, "image 0: file_name must be text, got None", id="no file"),
        pytest.param({"image": {"id": [5]}}, r"image 0: id must be a whole number or text, got \[5\]", id="id a list"),
    ],
)
def test_circo_names_the_bad_row(tmp_path, fields, match):
    circo(tmp_path, **fields)
    with pytest.raises(DatasetError, match=match):
        load_dataset("circo", tmp_path, "val")


def test_circo_keeps_its_answers_secret(tmp_path):
    circo(tmp_path, target_img_id=None, gt_img_ids=None)
    (query,) = load_dataset("circo", tmp_path, "val").queries
    assert (query.target, query.accepted) == (None, frozenset())


def folders(directory):
    for name in ("cup1/a.jpg", "cup1/b.png", "cup2/c.jpg"):
        touch(directory / "train" / name)
    write(directory / "boxes.train.csv", "image,x1,y1,x2,y2\ncup1/a.jpg,1,1,5,5\ncup2/c.jpg,0,0,9,9\n")
    write(
        directory / "queries.train.csv",
        "reference,target,text,x1,y1,x2,y2\ncup1/a.jpg,cup1/b.png,at night,,,,\ncup1/b.png,,here,2,2,4,4\n",
    )


def test_folders_of_anyone(tmp_path):
    folders(tmp_path)
    data = load_dataset("folders", tmp_path, "train")
    assert data.name == "folders"
    assert data.instances == {"cup1/a.jpg": "cup1", "cup1/b.png": "cup1", "cup2/c.jpg": "cup2"}
    assert [query.box for query in data.queries] == [Box(1, 1, 5, 5), Box(2, 2, 4, 4)]
    assert [query.target for query in data.queries] == ["cup1/b.png", None]


@pytest.mark.parametrize(
    ("file", "text", "match"),
    [
        pytest.param("boxes.train.csv", "image,x1,y1,x2\n", "y2 missing", id="a column is missing"),
        pytest.param(
            "boxes.train.csv", "image,x1,y1,x2,y2\nx.jpg,1,1,2,2\n", "line 2: no picture 'x.jpg'", id="no picture"
        ),
        pytest.param("boxes.train.csv", "image,x1,y1,x2,y2\ncup1/a.jpg,1,1,nan,2\n", "line 2: box must be", id="NaN"),
        pytest.param(
            "boxes.train.csv",
            "image,x1,y1,x2,y2\ncup1/a.jpg,1,1,2,2\ncup1/a.jpg,1,1,3,3\n",
            "line 3: a second box of 'cup1/a.jpg'",
            id="two boxes",
        ),
        pytest.param("queries.train.csv", "reference,target,text\n,cup1/a.jpg,x\n", "line 2", id="no reference"),
    ],
)
def test_folders_name_file_and_line(tmp_path, file, text, match):
    folders(tmp_path)
    write(tmp_path / file, text)
    with pytest.raises(DatasetError, match=match) as caught:
        load_dataset("folders", tmp_path, "train")
    assert file in str(caught.value)


def test_a_missing_file_is_named_with_what_is_there(tmp_path):
    oacirr(tmp_path)
    with pytest.raises(DatasetError, match=r"caption_full.test.json is missing.*caption_full.val.json"):
        load_dataset("oacirr", tmp_path, "test")


def test_an_unknown_format_lists_the_known(tmp_path):
    with pytest.raises(DatasetError, match="oacirr, cirr, fashioniq, circo, folders"):
        load_dataset("imagenet", tmp_path, "val")
    assert set(KINDS) == {"oacirr", "cirr", "fashioniq", "circo", "folders"}


def released(directory, name):
    """A domain as OACIRR was released: annotations in folders of their own, pictures beside them."""
    oacirr(directory)
    for kind, folder in (
        ("caption_full", "quadruple_captions"),
        ("split", "image_splits"),
        ("bounding_box", "image_bounding_box"),
    ):
        moved = directory / name / folder / f"{kind}.val.json"
        moved.parent.mkdir(parents=True)
        (directory / f"{kind}.val.json").rename(moved)


def test_oacirr_is_read_as_it_was_released(tmp_path):
    for domain in ("OACIRR-Car", "OACIRR-Fashion"):
        released(tmp_path / domain, domain.lower())
    data = load_dataset("oacirr", tmp_path, "val")
    assert data.images["OACIRR-Car/n1"] == tmp_path / "OACIRR-Car" / "img" / "0001" / "a.jpg"
    assert [query.category for query in data.queries] == ["OACIRR-Car", "OACIRR-Fashion"]
    one = load_dataset("oacirr", tmp_path / "OACIRR-Car", "val")
    assert set(one.images) == {"n1", "n2"}
    assert one.images["n2"] == tmp_path / "OACIRR-Car" / "img" / "0001" / "b.jpg"
    assert one.boxes["n1"] == Box(1, 2, 8, 9)
