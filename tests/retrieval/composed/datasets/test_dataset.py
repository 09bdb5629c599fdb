"""A split's digest: the same while nothing changes, another one where queries, boxes or pictures do."""

import json
import os

import pytest
from PIL import Image

from retrieval.composed.datasets import load_dataset

PICTURES = ("cup/a.png", "cup/b.png", "mug/c.png")
QUERIES = "reference,target,text,category\ncup/a.png,cup/b.png,at night,one\n"
BOXES = "image,x1,y1,x2,y2\ncup/a.png,1,1,5,5\n"


@pytest.fixture
def shop(tmp_path):
    for name in PICTURES:
        path = tmp_path / "test" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (10, 10)).save(path)
    (tmp_path / "queries.test.csv").write_text(QUERIES)
    (tmp_path / "boxes.test.csv").write_text(BOXES)
    return tmp_path


def digest(directory):
    return load_dataset("folders", directory, "test").digest()


def test_the_same_files_have_the_same_digest(shop):
    assert digest(shop) == digest(shop)


def touched_later(path):
    state = path.stat()
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 1))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda d: (d / "queries.test.csv").write_text(QUERIES.replace("night", "day")), id="a text"),
        pytest.param(lambda d: (d / "queries.test.csv").write_text(QUERIES.replace("b.png", "a.png")), id="a target"),
        pytest.param(lambda d: (d / "queries.test.csv").write_text(QUERIES.replace("one", "two")), id="a category"),
        pytest.param(lambda d: (d / "boxes.test.csv").write_text(BOXES.replace("5,5", "5,6")), id="a query's box"),
        pytest.param(lambda d: (d / "boxes.test.csv").write_text(f"{BOXES}mug/c.png,1,1,2,2\n"), id="another's box"),
        pytest.param(lambda d: Image.new("RGB", (20, 10)).save(d / "test" / "mug" / "c.png"), id="a picture's size"),
        pytest.param(lambda d: touched_later(d / "test" / "mug" / "c.png"), id="a picture's time"),
        pytest.param(lambda d: (d / "test" / "mug" / "c.png").rename(d / "test" / "cup" / "c.png"), id="an instance"),
    ],
)
def test_whatever_changes_changes_the_digest(shop, change):
    before = digest(shop)
    change(shop)
    assert digest(shop) != before


def test_the_order_of_right_answers_is_none(tmp_path):
    pictures = tmp_path / "COCO2017_unlabeled"
    infos = [{"id": number, "file_name": f"{number}.png"} for number in range(9)]
    for info in infos:
        (pictures / "unlabeled2017").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (10, 10)).save(pictures / "unlabeled2017" / info["file_name"])
    (pictures / "annotations").mkdir()
    (pictures / "annotations" / "image_info_unlabeled2017.json").write_text(json.dumps({"images": infos}))
    (tmp_path / "annotations").mkdir()
    digests = set()
    for answers in ([1, 2, 3, 4, 5], [5, 4, 3, 2, 1], [1, 2, 3, 4]):
        row = {"id": 0, "reference_img_id": 0, "relative_caption": "red", "gt_img_ids": answers}
        (tmp_path / "annotations" / "val.json").write_text(json.dumps([row]))
        digests.add(load_dataset("circo", tmp_path, "val").digest())
    assert len(digests) == 2
