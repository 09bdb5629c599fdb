"""Evaluating a set on five images whose every score is worked out by hand."""

import json

import numpy as np
import pytest

from retrieval.descriptors.bootstrap import Interval
from retrieval.descriptors.classifier import Scoring
from retrieval.descriptors.controls import CLASS_NAME, OTHERS_DESCRIPTORS, PROMPT_ENSEMBLE, RANDOM_WORDS
from retrieval.descriptors.descriptor_set import DescriptorSet
from retrieval.descriptors.evaluation import DESCRIPTORS, EDITED, ClassResult, Edit, evaluate
from retrieval.descriptors.report import markdown, remarks, tables
from retrieval.errors import DatasetError

BIRDS = DescriptorSet.from_mapping("birds", {"hen": ["legs", "comb"], "owl": ["eyes"], "emu": []})
VECTORS = {
    "hen, which has legs": (1.0, 0.0, 0.0),
    "hen, which has comb": (0.8, 0.6, 0.0),
    "owl, which has eyes": (0.0, 0.8, 0.6),
}
NAMES = {"hen": (1.0, 0.0, 0.0), "owl": (0.0, 1.0, 0.0), "emu": (0.0, 0.0, 1.0)}
"""What any other text is: the class that it names."""
IMAGES = np.array([[1, 0, 0], [1, 1, 1], [0.6, 0.8, 0], [0, 1, 0], [0, 0.6, 0.8]], dtype=np.float32)
LABELS = ["HEN", "dodo", "HEN", "Owl", "Owl"]
FILES = ["0.png", "1.png", "2.png", "3.png", "4.png"]
# Scores of hen (mean (.9, .3, 0)), owl and emu for the images with a known label:
#   0.png  .9  .0  .0    2.png  .78  .64  .0    3.png  .3  .8  .0    4.png  .18  .96  .8    all right.
# Names alone:
#   0.png  1   0   0     2.png  .6   .8   0     3.png  0   1   0     4.png  0    .6   .8    every second one is right.


def embed(texts):
    return np.array([VECTORS.get(text) or next(NAMES[name] for name in NAMES if name in text) for text in texts], "f4")


@pytest.fixture(scope="module")
def found():
    return evaluate(BIRDS, embed, IMAGES, LABELS, edited=BIRDS.without_descriptor("owl", "eyes"), seed=3, repetitions=2)


def test_methods_are_compared_with_the_class_names_alone(found):
    assert [(each.name, each.top1, each.top5, each.difference) for each in found.methods] == [
        (DESCRIPTORS, 1.0, 1.0, 0.5),
        # The owl's bare name: .8 against the hen's .78 on 2.png, .6 against the emu's .8 on 4.png.
        (EDITED, 0.5, 1.0, 0.0),
        (CLASS_NAME, 0.5, 1.0, 0.0),
        (PROMPT_ENSEMBLE, 0.5, 1.0, 0.0),
        (RANDOM_WORDS, 0.5, 1.0, 0.0),
        (OTHERS_DESCRIPTORS, 0.5, 1.0, 0.0),
    ]


def test_intervals_are_over_the_same_images_for_both(found):
    descriptors, edited, *_ = found.methods
    # Two of four images differ: with a chance of 1 in 16 each, none or all of a resample do, more than 2.5 %.
    assert descriptors.difference_interval == Interval(low=0.0, high=1.0)
    assert descriptors.top1_interval == Interval(low=1.0, high=1.0)
    assert edited.top1_interval == Interval(low=0.0, high=1.0)
    assert edited.difference_interval == Interval(low=0.0, high=0.0)


def test_labels_without_a_class_are_left_out_and_named(found):
    assert (found.scored, found.unknown, found.extra) == ((0, 2, 3, 4), {"dodo": 1}, ("emu",))


def test_each_descriptor_has_its_effect_and_its_images(found):
    # Without legs the hen is (.8, .6, 0): .6 against the owl's .8 on 3.png, nothing changes. Without the comb it is
    # (1, 0, 0): .6 against .64 on 2.png. Without eyes the owl goes by its name.
    assert [(each.class_name, each.descriptor, each.turn_right, each.turn_wrong) for each in found.effects] == [
        ("hen", "legs", (), ()),
        ("hen", "comb", (), (1,)),
        ("owl", "eyes", (), (1, 3)),
    ]
    assert found.edit == Edit(turn_right=(), turn_wrong=(1, 3))


def test_classes_and_their_confusions():
    found = evaluate(BIRDS.without_descriptor("owl", "eyes"), embed, IMAGES, LABELS)
    np.testing.assert_array_equal(found.confusion, [[1, 1, 0], [0, 1, 1], [0, 0, 0]])
    assert found.classes == (
        ClassResult(name="hen", images=2, right=1, confused_with="owl", confused=1),
        ClassResult(name="owl", images=2, right=1, confused_with="emu", confused=1),
    )
    assert found.classes[0].accuracy == 0.5
    assert found.edit is None


def test_the_seed_alone_decides():
    vectors = np.random.default_rng(1)

    def scattered(texts):
        return np.stack([np.random.default_rng(sum(text.encode())).normal(size=3) for text in texts]).astype(np.float32)

    images, labels = vectors.normal(size=(60, 3)).astype(np.float32), ["hen", "owl", "emu"] * 20
    first = evaluate(BIRDS, scattered, images, labels, seed=1).methods
    assert evaluate(BIRDS, scattered, images, labels, seed=1).methods == first
    assert evaluate(BIRDS, scattered, images, labels, seed=2).methods != first


@pytest.mark.parametrize("scoring", Scoring)
def test_five_highest_and_ties_in_the_order_of_the_set(scoring):
    letters = DescriptorSet.from_mapping("letters", {name: [] for name in "abcdefg"})
    found = evaluate(
        letters, lambda texts: np.ones((len(texts), 2), "f4"), np.ones((7, 2), "f4"), "abcdefg", scoring=scoring
    )
    # All seven score alike: a is the first, a to e are the first five.
    assert [(each.top1, each.top5) for each in found.methods] == [(1 / 7, 5 / 7)] * 5
    assert [each.confused_with for each in found.classes] == ["", *"aaaaaa"]


def test_a_set_for_another_data_set_is_refused():
    with pytest.raises(
        DatasetError, match="class for none of the labels; labels are 'cat', 'dog', classes 'hen', 'owl'"
    ):
        evaluate(BIRDS, embed, IMAGES[:2], ["cat", "dog"])


def test_progress_hears_of_each_control():
    heard = []
    evaluate(BIRDS, embed, IMAGES, LABELS, progress=lambda *step: heard.append(step))
    assert heard == [
        ("control: class name", 0, 4),
        ("control: prompt ensemble", 1, 4),
        ("control: random words", 2, 4),
        ("control: descriptors of other classes", 3, 4),
    ]


def test_the_result_is_json_with_images_by_name(found):
    plain = json.loads(json.dumps(found.as_dict(FILES)))
    assert plain["effects"][2] == {
        "class_name": "owl",
        "descriptor": "eyes",
        "turn_right": [],
        "turn_wrong": ["2.png", "4.png"],
        "change": -2,
    }
    assert plain["edit"] == {"turn_right": [], "turn_wrong": ["2.png", "4.png"], "change": -2}
    assert plain["confusion"] == [[0, 0, 2], [1, 1, 2]]
    assert (plain["scored"], plain["scoring"], plain["digest"]) == (4, "mean", BIRDS.digest)
    assert plain["classes"][0]["accuracy"] == 1.0
    assert plain["methods"][0]["difference_interval"] == {"low": 0.0, "high": 1.0}
    assert "edit" in plain
    assert json.loads(json.dumps(evaluate(BIRDS, embed, IMAGES, LABELS).as_dict(FILES)))["edit"] is None


def test_tables_hold_what_was_found_and_leave_out_what_is_empty(found):
    methods, helpful = tables(found)
    assert methods.rows[0] == ("descriptors", "100.00%", "100.00 to 100.00", "100.00%", "+50.00", "+0.00 to +100.00")
    assert helpful.title == "Descriptors that help most"
    assert helpful.rows == (("owl", "eyes", "-2", "0", "2"), ("hen", "comb", "-1", "0", "1"))
    # Where the owl goes by its name, .8 on 2.png, the hen needs the comb alone, .96, to be seen there.
    others = tables(evaluate(BIRDS.without_descriptor("owl", "eyes"), embed, IMAGES, LABELS))
    assert [table.title for table in others] == [
        methods.title,
        "Classes least recognised",
        "Descriptors that harm most",
    ]
    assert others[1].rows == (("hen", "2", "1", "50%", "owl", "1"), ("owl", "2", "1", "50%", "emu", "1"))
    assert others[2].rows == (("hen", "legs", "+1", "1", "0"),)


def test_remarks_say_what_was_left_out(found):
    assert remarks(found) == [
        "The set has no class for these labels, whose images (so many) are left out: dodo (1).",
        "No image shows these classes, which were scored all the same: emu.",
        "With the edited set 0 images turn right and 2 turn wrong.",
    ]


def test_the_markdown_report_is_whole(found):
    text = markdown(found, encoder="tiny", source="five | images")
    assert text.startswith(
        "# Descriptor set birds on five | images\n\nEncoder tiny; 4 images; 3 classes; scoring mean;"
    )
    assert "| owl | eyes | -2 | 0 | 2 |\n" in text
    assert "dodo (1)" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {7, 6}
