"""Pictures and boxes on their way to the encoder's square: every number here was worked out by hand."""

import math

import numpy as np
import pytest
from PIL import Image

from retrieval.composed.geometry import Box, ImageGeometry
from retrieval.errors import BoxError

PLAIN = ImageGeometry(size=224, patch=14)
SMALL = ImageGeometry(size=8, patch=2, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def grid(mask, side):
    return mask[1:].reshape(side, side)


def test_a_square_picture_is_only_resized():
    # 448 pixels to 224: everything halves.
    assert PLAIN.moved(Box(20, 40, 100, 200), 448, 448) == Box(10, 20, 50, 100)


def test_a_wide_picture_is_padded_to_five_quarters_and_its_middle_kept():
    # 400 × 200: 400 / 1.25 = 320, so 60 rows go above and below; 320 → 224 is a factor 0.7, 400 → 280; 28 are cut off.
    moved = PLAIN.moved(Box(100, 50, 300, 150), 400, 200)
    assert (moved.x1, moved.y1, moved.x2, moved.y2) == pytest.approx((42, 77, 182, 147))


def test_what_lies_in_the_margin_that_is_cut_away_has_no_box():
    assert PLAIN.moved(Box(0, 0, 30, 200), 400, 200) is None


def test_a_box_that_is_partly_cut_away_keeps_the_rest():
    moved = PLAIN.moved(Box(0, 0, 100, 200), 400, 200)
    assert (moved.x1, moved.x2) == (0.0, pytest.approx(42.0))


def test_the_box_follows_the_pixels():
    picture = Image.new("RGB", (300, 170))
    picture.paste((255, 255, 255), (120, 60, 180, 110))
    moved = PLAIN.moved(Box(120, 60, 180, 110), 300, 170)
    bright = np.asarray(PLAIN.fitted(picture).convert("L")) > 127
    rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
    assert columns[0] == pytest.approx(moved.x1, abs=1)
    assert columns[-1] + 1 == pytest.approx(moved.x2, abs=1)
    assert rows[0] == pytest.approx(moved.y1, abs=1)
    assert rows[-1] + 1 == pytest.approx(moved.y2, abs=1)


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        pytest.param(Box(2, 2, 4, 4), [1], [1], id="one patch exactly, and none beside it"),
        pytest.param(Box(1.9, 2, 4, 4.1), [1, 2], [0, 1], id="a tenth of a pixel over"),
        pytest.param(Box(0, 0, 8, 8), [0, 1, 2, 3], [0, 1, 2, 3], id="all"),
        pytest.param(Box(7.5, 0, 8, 0.5), [0], [3], id="less than a patch"),
    ],
)
def test_patches_that_the_box_overlaps_are_marked(box, rows, columns):
    expected = np.zeros((4, 4))
    expected[np.ix_(rows, columns)] = 1
    assert np.array_equal(grid(SMALL.mask(box), 4), expected)


@pytest.mark.parametrize(
    ("picture", "sides", "columns"),
    [
        pytest.param(640, (360, 400), [9], id="126 on the left"),
        pytest.param(1600, (600, 700), [6], id="98 on the right"),
        pytest.param(640, (359, 400), [8, 9], id="a pixel more"),
    ],
)
def test_a_box_of_whole_patches_marks_none_beside_it(picture, sides, columns):
    # A patch of 14 is 40 pixels of 640, and 100 of 1600.
    marked = grid(PLAIN.mask(PLAIN.moved(Box(sides[0], 0, sides[1], picture), picture, picture)), PLAIN.side)
    assert np.array_equal(marked.all(axis=0), marked.any(axis=0))
    assert np.flatnonzero(marked.any(axis=0)).tolist() == columns


def test_a_box_that_ends_where_the_square_begins_is_cut_away():
    # 500 × 400 to 280 × 224: the first 50 columns become the 28 that are cut off.
    assert PLAIN.moved(Box(0, 0, 50, 400), 500, 400) is None


@pytest.mark.parametrize("box", [pytest.param(None, id="no box"), pytest.param(Box(0, 0, 8, 8), id="full box")])
def test_cls_is_never_marked(box):
    assert SMALL.mask(box)[0] == 0


def test_no_box_marks_nothing():
    assert not SMALL.mask(None).any()


@pytest.mark.parametrize(
    ("box", "match"),
    [
        pytest.param(Box(math.nan, 0, 1, 1), "finite", id="NaN"),
        pytest.param(Box(0, 0, math.inf, 1), "finite", id="infinite"),
        pytest.param(Box(3, 0, 3, 5), "x1 < x2", id="no width"),
        pytest.param(Box(0, 5, 3, 4), "y1 < y2", id="upside down"),
        pytest.param(Box(10, 0, 12, 5), "picture of 10 by 8", id="right of the picture"),
        pytest.param(Box(-5, -5, 0, 0), "picture of 10 by 8", id="left of the picture"),
    ],
)
def test_a_box_that_marks_nothing_is_refused_with_its_numbers(box, match):
    with pytest.raises(BoxError, match=match) as caught:
        box.checked(10, 8)
    assert f"{box.x1}" in str(caught.value)


def test_a_box_over_the_edge_is_clipped():
    assert Box(-3, 2, 50, 7).checked(10, 8) == Box(0, 2, 10, 7)


def test_pixels_are_normalised_by_channel():
    geometry = ImageGeometry(size=4, patch=2, mean=(0.5, 0.0, 0.25), std=(0.5, 1.0, 0.25))
    pixels = geometry.pixels(Image.new("RGB", (4, 4), (255, 51, 0)))
    assert pixels.shape == (3, 4, 4)
    assert pixels[:, 0, 0] == pytest.approx([1.0, 0.2, -1.0])
