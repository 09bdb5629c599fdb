"""The controls: texts of the same classes that know nothing of what tells them apart."""

import numpy as np
import pytest

from retrieval.descriptors.classifier import Scoring
from retrieval.descriptors.controls import (
    PROMPTS,
    class_name_baseline,
    controls_of,
    others_descriptors,
    prompt_ensemble,
    random_words,
)
from retrieval.descriptors.descriptor_set import DescriptorSet

BIRDS = DescriptorSet.from_mapping(
    "birds",
    {
        "snowy owl": ["white feathers", "yellow eyes", "a round face", "round face ", "a round  FACE"],
        "Rock_Dove": ["grey wings", "", "a green neck", "orange feet", "two bars", "a short beak"],
        "hen": ["a red comb"],
        "emu": [],
    },
    prefix="a bird: ",
    suffix="!",
)


def test_the_baseline_is_the_class_name_in_a_photo():
    assert class_name_baseline(BIRDS).texts() == [
        "a photo of a snowy owl.",
        "a photo of a Rock_Dove.",
        "a photo of a hen.",
        "a photo of a emu.",
    ]


def test_the_ensemble_says_every_prompt_of_each_class():
    owl, hen = prompt_ensemble(["owl", "{hen}"])
    assert len(owl) == len(PROMPTS) == len(set(owl))
    assert owl[0] == "a photo of a owl."
    assert all(text.count("{hen}") == 1 for text in hen)


def test_random_words_are_alike_for_all_classes_and_as_many_as_descriptors_on_average():
    found = random_words(BIRDS, np.random.default_rng(1))
    # 4, 5, 1 and 0 descriptors that count: 2.5 on average, which rounds to the even 2: one of words, one of letters.
    (nonsense,) = {each.descriptors for each in found.classes}
    assert len(nonsense) == 2
    # The names have 2, 2, 1 and 1 words: 1.5, rounded to 2; their letters 5, 3, 4, 4, 3 and 3: 3.67, rounded to 4.
    words, letters = (each.split() for each in nonsense)
    assert (len(words), [len(each) for each in letters]) == (2, [4, 4])
    assert found.class_names == BIRDS.class_names
    assert found.texts()[0] == f"a bird: snowy owl, which has {nonsense[0]}!"


def test_random_words_differ_by_the_draw_and_not_by_the_run():
    generator = np.random.default_rng(1)
    first, second = random_words(BIRDS, generator), random_words(BIRDS, generator)
    assert first.texts() != second.texts()
    assert random_words(BIRDS, np.random.default_rng(1)).texts() == first.texts()


def test_a_set_without_descriptors_still_has_random_words():
    bare = DescriptorSet.from_mapping("bare", {"hen": [], "owl": []})
    assert [len(each.descriptors) for each in random_words(bare, np.random.default_rng(1)).classes] == [1, 1]


def test_more_random_words_are_drawn_than_are_known():
    many = DescriptorSet.from_mapping("many", {"a b c d": [f"thing {at}" for at in range(200)]})
    (found,) = random_words(many, np.random.default_rng(1)).classes
    assert len(found.descriptors) == 200


@pytest.mark.parametrize("seed", range(5))
def test_no_class_keeps_its_own_descriptors_and_none_are_lost(seed):
    found = others_descriptors(BIRDS, np.random.default_rng(seed))
    assert found.class_names == BIRDS.class_names
    pairs = list(zip(found.classes, BIRDS.classes, strict=True))
    assert all(after.descriptors != before.descriptors for after, before in pairs)
    assert sorted(after.descriptors for after, _ in pairs) == sorted(before.descriptors for _, before in pairs)


def test_all_controls_of_a_set():
    found = controls_of(BIRDS, Scoring.MAX, np.random.default_rng(1), repetitions=3)
    assert [(each.name, each.scoring, len(each.repetitions)) for each in found] == [
        ("class name", Scoring.MAX, 1),
        ("prompt ensemble", Scoring.RENORMALISED, 1),
        ("random words", Scoring.MAX, 3),
        ("descriptors of other classes", Scoring.MAX, 3),
    ]
    assert all(len(texts) == 4 for each in found for texts in each.repetitions)
    assert found[2].repetitions[0] != found[2].repetitions[1]
