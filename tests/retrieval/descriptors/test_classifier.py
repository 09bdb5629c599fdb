"""The classifier against arithmetic done by hand, and against what must hold for any texts and images."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.descriptors.classifier import Classifier, Scoring
from retrieval.descriptors.descriptor_set import DescriptorSet
from retrieval.errors import DescriptorError, EncoderError

HEN, OWL = "hen, which has {}", "owl, which has {}"
VECTORS = {
    HEN.format("legs"): (1.0, 0.0, 0.0),
    HEN.format("comb"): (0.6, 0.8, 0.0),
    OWL.format("eyes"): (0.0, 1.0, 0.0),
    OWL.format("claws"): (0.0, 0.6, 0.8),
    OWL.format("ears"): (0.0, 0.0, -1.0),
    "emu": (0.0, 0.0, 1.0),
}
BIRDS = DescriptorSet.from_mapping("birds", {"hen": ["legs", "comb"], "owl": ["eyes", "claws", "ears"], "emu": []})
IMAGE = np.array([[0.8, 0.6, 0.0]], dtype=np.float32)
"""Cosines: hen .8 and .48 + .48 = .96; owl .6, .36 and 0; emu 0."""


def embed(texts):
    return np.array([VECTORS[text] for text in texts], dtype=np.float32)


def prepare(scoring=Scoring.MEAN, logit_scale=10.0, descriptors=BIRDS, embed_texts=embed):
    return Classifier.prepare(descriptors, embed_texts, logit_scale=logit_scale, scoring=scoring)


@pytest.mark.parametrize(
    ("scoring", "scores"),
    [
        # The hen has the mean of .8 and .96, the owl that of .6, .36 and 0.
        pytest.param(Scoring.MEAN, [0.88, 0.32, 0.0], id="mean"),
        # The hen's mean (.8, .4, 0) has length sqrt(.8), the owl's, a third of (0, 1.6, -.2), sqrt(2.6) / 3.
        pytest.param(Scoring.RENORMALISED, [0.88 / 0.8**0.5, 0.96 / 2.6**0.5, 0.0], id="renormalised"),
        pytest.param(Scoring.MAX, [0.96, 0.6, 0.0], id="max"),
    ],
)
def test_scores_are_those_worked_out_by_hand(scoring, scores):
    np.testing.assert_allclose(prepare(scoring).scores(IMAGE), [scores], atol=1e-6)


def test_renormalising_ranks_differently_where_texts_of_a_class_disagree():
    # Class a has the texts (1, 0) and (0, 1): for the image (.8, .6) the mean of .8 and .6 is .7, and renormalised, by
    # the mean's length sqrt(.5), .99. Class b has one text, (.96, .28): .768 + .168 = .936 by any scoring.
    vectors = {"a, which has x": (1, 0), "a, which has y": (0, 1), "b": (0.96, 0.28)}
    letters = DescriptorSet.from_mapping("letters", {"a": ["x", "y"], "b": []})
    image = np.array([[0.8, 0.6]], dtype=np.float32)

    def embed_texts(texts):
        return np.array([vectors[text] for text in texts], dtype=np.float32)

    def best(scoring):
        return prepare(scoring, descriptors=letters, embed_texts=embed_texts).classify(image)[0].hits[0].name

    assert {scoring: best(scoring) for scoring in Scoring} == {"mean": "b", "renormalised": "a", "max": "b"}


def test_hits_come_best_first_and_probabilities_are_over_all_classes():
    (found,) = prepare().classify(IMAGE, top_k=2)
    assert [hit.name for hit in found.hits] == ["hen", "owl"]
    # Scores .88, .32 and 0, times 10: softmax over all three although two are shown.
    powers = np.exp([8.8, 3.2, 0.0])
    assert [hit.probability for hit in found.hits] == pytest.approx(list(powers[:2] / powers.sum()), rel=1e-5)
    assert [hit.reasons for hit in found.hits] == [(), ()]
    assert found.contrast is None
    assert len(prepare().classify(IMAGE, top_k=9)[0].hits) == 3


def test_probabilities_stay_finite_at_any_scale():
    (found,) = prepare(logit_scale=1e4).classify(-IMAGE)
    assert [hit.probability for hit in found.hits] == pytest.approx([1.0, 0.0, 0.0])
    assert found.hits[0].name == "emu"


@pytest.mark.parametrize(
    ("scoring", "contributions"),
    [
        pytest.param(Scoring.MEAN, [0.48, 0.4], id="mean: a half of each"),
        pytest.param(Scoring.RENORMALISED, [0.48 / 0.8**0.5, 0.4 / 0.8**0.5], id="renormalised: by the mean's length"),
        pytest.param(Scoring.MAX, [0.96, 0.0], id="max: the best alone"),
    ],
)
def test_reasons_are_highest_first_and_say_what_each_descriptor_added(scoring, contributions):
    hit = prepare(scoring).classify(IMAGE, explain=True)[0].hits[0]
    assert [reason.descriptor for reason in hit.reasons] == ["comb", "legs"]
    assert [reason.similarity for reason in hit.reasons] == pytest.approx([0.96, 0.8], abs=1e-6)
    assert [reason.contribution for reason in hit.reasons] == pytest.approx(contributions, abs=1e-6)


def test_a_class_without_descriptors_is_its_own_reason():
    hit = prepare().classify(np.array([[0, 0, 2]], dtype=np.float32), explain=True)[0].hits[0]
    assert (hit.name, hit.score) == ("emu", pytest.approx(1.0))
    assert [(each.descriptor, each.similarity, each.contribution) for each in hit.reasons] == [
        ("emu", pytest.approx(1.0), pytest.approx(1.0))
    ]


def test_a_contrast_adds_the_winners_and_takes_away_the_rivals():
    found = prepare().contrast(IMAGE[0], "hen", "OWL")
    assert (found.winner, found.rival, found.difference) == ("hen", "owl", pytest.approx(0.88 - 0.32, abs=1e-6))
    assert [(term.class_name, term.descriptor) for term in found.terms] == [
        ("hen", "comb"),
        ("hen", "legs"),
        ("owl", "eyes"),
        ("owl", "claws"),
        ("owl", "ears"),
    ]
    assert [term.contribution for term in found.terms] == pytest.approx([0.48, 0.4, -0.2, -0.12, 0.0], abs=1e-6)


def test_each_image_is_held_against_the_rival_unless_that_is_its_best_class():
    images = np.array([[0.8, 0.6, 0.0], [0.0, 1.0, 0.0]], dtype=np.float32)
    hen, owl = prepare().classify(images, contrast_with="owl")
    assert (hen.contrast.winner, hen.contrast.rival) == ("hen", "owl")
    assert hen.contrast == prepare().contrast(images[0], "hen", "owl")
    assert (owl.hits[0].name, owl.contrast) == ("owl", None)


def test_equal_scores_come_in_the_order_of_the_set():
    names = [f"bird {at}" for at in range(37)]
    alike = DescriptorSet.from_mapping("alike", {name: [] for name in names})
    vector = np.random.default_rng(1).normal(size=61).astype(np.float32)
    classifier = prepare(descriptors=alike, embed_texts=lambda texts: np.tile(vector, (len(texts), 1)))
    for image in np.random.default_rng(2).normal(size=(20, 61)).astype(np.float32):
        assert [hit.name for hit in classifier.classify(image[None], top_k=37)[0].hits] == names


def test_no_images_give_no_answers():
    nothing = np.empty((0, 3), dtype=np.float32)
    assert prepare().classify(nothing) == []
    assert prepare(Scoring.MAX).scores(nothing).shape == (0, 3)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        pytest.param([[np.nan, 1, 0]], "finite and not zero, number 0", id="not a number"),
        pytest.param([[1, 0, 0], [np.inf, 1, 0]], "finite and not zero, number 1", id="infinite"),
        pytest.param([[0, 0, 0]], "finite and not zero, number 0", id="zero"),
        pytest.param([[1, 0]], r"must be \[n, 3\] like the texts', got \[1, 2\]", id="another encoder's"),
        pytest.param([1, 0, 0], r"must be \[n, 3\] like the texts', got \[3\]", id="one image without its axis"),
    ],
)
def test_unusable_image_embeddings_are_refused(images, said):
    for use in (prepare().scores, prepare().classify):
        with pytest.raises(EncoderError, match=said):
            use(np.array(images, dtype=np.float32))


@pytest.mark.parametrize(
    ("embed_texts", "said"),
    [
        pytest.param(lambda texts: embed(texts)[1:], r"6 texts must become \[6, d\], got \[5, 3\]", id="one too few"),
        pytest.param(lambda texts: embed(texts) * 0, "text embeddings must be finite and not zero", id="zeros"),
    ],
)
def test_unusable_text_embeddings_are_refused(embed_texts, said):
    with pytest.raises(EncoderError, match=said):
        prepare(embed_texts=embed_texts)


def test_texts_that_cancel_out_have_no_direction_to_renormalise():
    vectors = {"a": (1, 0), "b, which has x": (0, 1), "b, which has y": (0, -1)}
    opposed = DescriptorSet.from_mapping("opposed", {"a": [], "b": ["x", "y"]})

    def embed_texts(texts):
        return np.array([vectors[text] for text in texts], dtype=np.float32)

    with pytest.raises(EncoderError, match="texts of class 1 cancel out"):
        prepare(Scoring.RENORMALISED, descriptors=opposed, embed_texts=embed_texts)
    mean = prepare(Scoring.MEAN, descriptors=opposed, embed_texts=embed_texts)
    np.testing.assert_allclose(mean.scores(np.array([[3, 4]], dtype=np.float32)), [[0.6, 0.0]], atol=1e-6)


def test_wrong_questions_are_refused():
    with pytest.raises(DescriptorError, match="no class 'ostrich'"):
        prepare().classify(IMAGE, contrast_with="ostrich")
    with pytest.raises(DescriptorError, match="no class 'ostrich'"):
        prepare().contrast(IMAGE[0], "ostrich", "hen")
    with pytest.raises(ValueError, match="top_k must be at least 1, got 0"):
        prepare().classify(IMAGE, top_k=0)
    with pytest.raises(EncoderError, match="logit_scale must be positive"):
        prepare(logit_scale=0.0)


def test_only_texts_are_embedded_and_all_at_once():
    asked = []

    def embed_texts(texts):
        asked.append(list(texts))
        return embed(texts)

    prepare(embed_texts=embed_texts).classify(IMAGE, explain=True)
    assert asked == [BIRDS.texts()]


@st.composite
def worlds(draw):
    """A set of 2 to 6 classes with 0 to 5 descriptors, its text vectors, images and a scoring."""
    sizes = draw(st.lists(st.integers(0, 5), min_size=2, max_size=6))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dimension = draw(st.sampled_from([2, 3, 17, 64]))
    classes = {f"class {at}": [f"thing {at} {number}" for number in range(size)] for at, size in enumerate(sizes)}
    # A common part keeps means away from zero and cosines as close together as those of real encoders.
    common = generator.normal(size=dimension) * draw(st.sampled_from([1.0, 5.0]))
    descriptors = DescriptorSet.from_mapping("world", classes)
    vectors = {text: generator.normal(size=dimension) + common for text in descriptors.texts()}
    images = (generator.normal(size=(draw(st.integers(1, 4)), dimension)) + common).astype(np.float32)

    def embed_texts(texts):
        return np.array([vectors[text] for text in texts], dtype=np.float32)

    return descriptors, embed_texts, images, draw(st.sampled_from(Scoring))


def of(world):
    descriptors, embed_texts, images, scoring = world
    return prepare(scoring, descriptors=descriptors, embed_texts=embed_texts), images


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_contributions_add_up_to_the_score(world):
    classifier, images = of(world)
    for found in classifier.classify(images, top_k=9, explain=True):
        for hit in found.hits:
            assert sum(reason.contribution for reason in hit.reasons) == pytest.approx(hit.score, abs=1e-5)
        assert sum(hit.probability for hit in found.hits) == pytest.approx(1.0)


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_a_contrast_adds_up_to_the_difference_of_the_scores(world):
    classifier, images = of(world)
    scores = classifier.scores(images)
    for (first, a), (second, b) in itertools.permutations(enumerate(classifier.class_names), 2):
        found = classifier.contrast(images[0], a, b)
        assert sum(term.contribution for term in found.terms) == pytest.approx(found.difference, abs=1e-12)
        assert found.difference == pytest.approx(float(scores[0, first] - scores[0, second]), abs=1e-5)


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_a_class_more_changes_no_bit_of_the_others_scores(world):
    descriptors, embed_texts, images, scoring = world
    whole = prepare(scoring, descriptors=descriptors, embed_texts=embed_texts)
    fewer = DescriptorSet(name="fewer", classes=descriptors.classes[:-1])
    part = prepare(scoring, descriptors=fewer, embed_texts=embed_texts)
    np.testing.assert_array_equal(whole.scores(images)[:, :-1], part.scores(images))


@settings(max_examples=60, deadline=None)
@given(worlds(), st.randoms(use_true_random=False))
def test_another_order_of_the_classes_gives_the_same_answers(world, shuffler):
    descriptors, embed_texts, images, scoring = world
    order = list(range(len(descriptors.classes)))
    shuffler.shuffle(order)
    other = DescriptorSet(name="other", classes=tuple(descriptors.classes[at] for at in order))
    before = prepare(scoring, descriptors=descriptors, embed_texts=embed_texts)
    after = prepare(scoring, descriptors=other, embed_texts=embed_texts)
    np.testing.assert_array_equal(before.scores(images)[:, order], after.scores(images))
    names = [[hit.name for hit in found.hits] for found in before.classify(images, top_k=9, explain=True)]
    assert names == [[hit.name for hit in found.hits] for found in after.classify(images, top_k=9, explain=True)]


@settings(max_examples=30, deadline=None)
@given(worlds())
def test_an_image_is_scored_alike_alone_and_among_others(world):
    classifier, images = of(world)
    np.testing.assert_array_equal(
        classifier.scores(images), np.concatenate([classifier.scores(image[None]) for image in images])
    )
