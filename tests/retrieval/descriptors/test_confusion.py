"""The picture of confusions: its size, what it leaves out, and that any class name can stand in it."""

import numpy as np
import pytest
from PIL import Image

from retrieval.descriptors.confusion import draw_confusion


def drawn(path, names, counts):
    assert draw_confusion(names, np.asarray(counts), path)
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def blue(picture):
    """How much of the picture is the deepest colour of the scale, which only a share of 1 has."""
    return int((np.abs(picture - (8, 48, 107)).sum(axis=2) <= 3).sum())


def test_what_is_right_is_dark_and_what_is_confused_is_not(tmp_path):
    names = ["hen", "owl", "cost: $5 or $6"]
    right = drawn(tmp_path / "right.png", names, np.diag([3, 1, 2]))
    confused = drawn(tmp_path / "confused.png", names, [[1, 1, 1], [1, 1, 1], [1, 1, 1]])
    # Three cells of nine; the scale beside the picture has a little of the colour either way.
    assert blue(right) > 20 * max(blue(confused), 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["confused.png", "right.png"]


def test_classes_that_nobody_saw_take_no_room(tmp_path):
    counts = np.zeros((200, 200), dtype=int)
    counts[5, 5] = counts[7, 6] = 1
    few = drawn(tmp_path / "few.png", [f"class {at:03}" for at in range(200)], counts)
    three = drawn(tmp_path / "three.png", ["class 005", "class 006", "class 007"], [[1, 0, 0], [0, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(few, three)


@pytest.mark.parametrize(("classes", "pixels"), [pytest.param(10, 400, id="ten"), pytest.param(81, 1_500, id="81")])
def test_the_picture_grows_with_the_classes(tmp_path, classes, pixels):
    picture = drawn(tmp_path / "picture.png", [f"class {at}" for at in range(classes)], np.eye(classes, dtype=int))
    assert min(picture.shape[:2]) >= pixels


def test_too_many_classes_are_not_drawn(tmp_path):
    assert not draw_confusion(
        [f"class {at}" for at in range(301)], np.eye(301, dtype=np.int64), tmp_path / "picture.png"
    )
    assert list(tmp_path.iterdir()) == []
