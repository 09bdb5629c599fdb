"""The effect of each descriptor: by hand, and against taking it out for real."""

import numpy as np
import pytest

from retrieval.descriptors.classifier import Classifier, ClassTexts, Scoring
from retrieval.descriptors.descriptor_set import DescriptorSet
from retrieval.descriptors.leave_one_out import descriptor_effects


def test_effects_worked_out_by_hand():
    vectors = {
        "hen, which has legs": (1.0, 0.0),
        "hen, which has wings": (0.0, 1.0),
        "owl, which has eyes": (0.6, 0.8),
        "owl": (0.8, 0.6),
    }
    birds = DescriptorSet.from_mapping("birds", {"hen": ["legs", "wings"], "owl": ["eyes"]})
    images = np.array([[1.0, 0.0], [0.0, 1.0]], dtype=np.float32)

    def embed(texts):
        return np.array([vectors[text] for text in texts], dtype=np.float32)

    texts = ClassTexts.embed(birds.texts_by_class(), embed, Scoring.MEAN)
    found = descriptor_effects(birds, texts, images, np.array([0, 1]), embed)
    # Image 0, a hen: hen (1 + 0) / 2 = .5, owl .6: wrong. Image 1, an owl: hen .5, owl .8: right.
    # Without legs: image 0 hen 0, wrong; image 1 hen 1 against .8: turns wrong.
    # Without wings: image 0 hen 1 against .6: turns right; image 1 hen 0: right.
    # Without eyes the owl goes by its bare name: image 0 .8, wrong; image 1 .6 against .5: right.
    assert [(each.descriptor, each.turn_right, each.turn_wrong, each.change) for each in found] == [
        ("legs", (), (1,), -1),
        ("wings", (0,), (), 1),
        ("eyes", (), (), 0),
    ]
    assert [each.class_name for each in found] == ["hen", "hen", "owl"]


def test_equal_scores_go_to_the_class_that_stands_first():
    vectors = {
        "hen, which has legs": (1.0, 0.0),
        "hen, which has wings": (0.0, 1.0),
        "owl, which has legs": (1.0, 0.0),
        "owl, which has wings": (0.0, 1.0),
    }
    alike = DescriptorSet.from_mapping("alike", {"hen": ["legs", "wings"], "owl": ["legs", "wings"]})
    images = np.array([[1.0, 0.0]], dtype=np.float32)

    def embed(texts):
        return np.array([vectors[text] for text in texts], dtype=np.float32)

    # Both 1 by the best descriptor: the hen wins, and still does without what did not decide.
    texts = ClassTexts.embed(alike.texts_by_class(), embed, Scoring.MAX)
    moved = [
        (each.class_name, each.descriptor, each.change)
        for label in (0, 1)
        for each in descriptor_effects(alike, texts, images, np.array([label]), embed)
        if each.change
    ]
    assert moved == [("hen", "legs", -1), ("hen", "legs", 1)]


@pytest.mark.parametrize("scoring", Scoring)
def test_effects_are_those_of_taking_each_descriptor_out(scoring):
    generator = np.random.default_rng(7)
    birds = DescriptorSet.from_mapping(
        "birds", {f"bird {at}": [f"thing {at} {number}" for number in range(at % 5)] for at in range(12)}
    )
    common = generator.normal(size=16)
    vectors = {}

    def embed(texts):
        for text in texts:
            vectors.setdefault(text, common + generator.normal(size=16))
        return np.array([vectors[text] for text in texts], dtype=np.float32)

    images = (common + generator.normal(size=(300, 16))).astype(np.float32)
    labels = generator.integers(0, 12, size=300)

    def right(descriptors):
        classifier = Classifier.prepare(descriptors, embed, logit_scale=1.0, scoring=scoring)
        return classifier.scores(images).argmax(axis=1) == labels

    before = right(birds)
    texts = ClassTexts.embed(birds.texts_by_class(), embed, scoring)
    found = descriptor_effects(birds, texts, texts.unit(images), labels, embed)
    assert [(each.class_name, each.descriptor) for each in found] == [
        (each.name, descriptor) for each in birds.classes for descriptor in each.descriptors
    ]
    for effect in found:
        after = right(birds.without_descriptor(effect.class_name, effect.descriptor))
        assert effect.turn_right == tuple(np.flatnonzero(after & ~before))
        assert effect.turn_wrong == tuple(np.flatnonzero(before & ~after))
    assert sum(len(each.turn_right) + len(each.turn_wrong) for each in found) > 20
