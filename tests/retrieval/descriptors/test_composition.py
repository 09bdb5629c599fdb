"""One sentence of a class and a descriptor: what stands between them is decided by whole words."""

import pytest

from retrieval.descriptors.composition import compose


@pytest.mark.parametrize(
    ("descriptor", "text"),
    [
        pytest.param("two legs", "hen, which has two legs", id="a noun"),
        pytest.param("a red cap", "hen, which is a red cap", id="a"),
        pytest.param("an orange beak", "hen, which is an orange beak", id="an"),
        pytest.param("used for eggs", "hen, which is used for eggs", id="used"),
        pytest.param("Used for eggs", "hen, which is Used for eggs", id="used with a capital"),
        pytest.param("has wings", "hen, which has wings", id="has"),
        pytest.param("often brown", "hen, which often brown", id="often"),
        pytest.param("typically has wings", "hen, which typically has wings", id="typically"),
        pytest.param("may be white", "hen, which may be white", id="may"),
        pytest.param("can fly a little", "hen, which can fly a little", id="can"),
        pytest.param("which lays eggs", "hen, which lays eggs", id="a clause already"),
        pytest.param("amber wings", "hen, which has amber wings", id="a word that begins with a"),
        pytest.param("another colour", "hen, which has another colour", id="a word that begins with an"),
        pytest.param("candles on top", "hen, which has candles on top", id="a word that begins with can"),
        pytest.param("hasty steps", "hen, which has hasty steps", id="a word that begins with has"),
        pytest.param("A-shaped tail", "hen, which has A-shaped tail", id="a hyphenated word is one word"),
        pytest.param("often, a comb", "hen, which often, a comb", id="a comma is no part of the word"),
        pytest.param("  two \t legs ", "hen, which has two legs", id="spacing"),
        pytest.param("", "hen", id="no descriptor"),
        pytest.param("   ", "hen", id="a blank descriptor"),
    ],
)
def test_the_first_word_decides(descriptor, text):
    assert compose("hen", descriptor) == text


def test_prefix_and_suffix_stand_around_the_whole():
    assert (
        compose(" guinea  hen", "dots", prefix="A photo of a ", suffix=".")
        == "A photo of a guinea hen, which has dots."
    )
    assert compose("hen", "", prefix="A photo of a ", suffix=".") == "A photo of a hen."
