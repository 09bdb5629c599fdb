"""The model as serving calls it: boxes, cut texts, given β, where it looks and which words matter."""

import numpy as np
import pytest
from PIL import Image

from retrieval.composed.explanation import attention_picture, attention_png
from retrieval.composed.geometry import Box
from retrieval.errors import BoxError, ComposedError


@pytest.fixture(scope="module")
def picture():
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def tokens(encoder, picture):
    return encoder.image_tokens(encoder.prepare(picture).pixels[None])


def test_a_box_becomes_a_mask(encoder, picture):
    prepared = encoder.prepare(picture, Box(20, 10, 40, 30))
    assert prepared.box_kept
    assert 0 < prepared.mask[1:].sum() < 16
    assert prepared.mask[0] == 0
    assert prepared.pixels.shape == (3, 32, 32)


def test_without_a_box_the_mask_is_empty(encoder, picture):
    prepared = encoder.prepare(picture)
    assert prepared.box_kept
    assert not prepared.mask.any()


def test_a_box_that_is_cropped_away_is_told(encoder):
    prepared = encoder.prepare(Image.new("RGB", (200, 100)), Box(0, 0, 3, 100))
    assert not prepared.box_kept
    assert not prepared.mask.any()


def test_a_box_outside_is_refused(encoder, picture):
    with pytest.raises(BoxError, match="64 by 48"):
        encoder.prepare(picture, Box(64, 0, 70, 10))


def test_features_are_halves_and_the_gallery_has_all_vectors(encoder, tokens):
    assert tokens.dtype == np.float16
    assert tokens.shape == (1, 17, 8)
    assert encoder.embed_gallery(tokens).shape == (1, 4, 8)


def test_many_queries_are_embedded_as_one_by_one(encoder, tokens):
    texts = [f"the same place at night {number % 3}" for number in range(70)]
    masks = np.zeros((70, 17), dtype=np.float32)
    masks[::2, 3:6] = 1
    many = encoder.embed_queries(np.repeat(tokens, 70, axis=0), masks, texts)
    for at in (0, 65, 69):
        one = encoder.embed_queries(tokens, masks[at : at + 1], texts[at : at + 1])
        np.testing.assert_allclose(many.vectors[at], one.vectors[0], atol=1e-5)
        np.testing.assert_allclose(many.beta[at], one.beta[0], atol=1e-5)


def test_no_queries_and_no_pictures_are_fine(encoder, tokens):
    assert encoder.embed_queries(tokens[:0], np.zeros((0, 17), dtype=np.float32), []).vectors.shape == (0, 8)
    assert encoder.embed_gallery(tokens[:0]).shape == (0, 4, 8)


def test_a_long_text_is_told(encoder, tokens):
    masks = np.zeros((2, 17), dtype=np.float32)
    cut = encoder.embed_queries(np.repeat(tokens, 2, axis=0), masks, ["at night", "the " * 40])
    assert cut.truncated.tolist() == [False, True]


@pytest.mark.parametrize("beta", [-0.1, float("nan"), float("inf")])
def test_a_beta_that_is_none_is_refused(encoder, tokens, beta):
    with pytest.raises(ComposedError, match="beta must be a finite number of at least 0"):
        encoder.embed_queries(tokens, np.zeros((1, 17), dtype=np.float32), ["x"], beta=beta)


def test_maps_show_more_of_the_box_the_larger_beta_is(encoder, tokens, picture):
    mask = encoder.prepare(picture, Box(20, 10, 40, 30)).mask
    inside = mask[1:].reshape(4, 4) > 0
    shares = [encoder.explain(tokens[0], mask, "at night", beta=beta).modulated[inside].sum() for beta in (0, 1, 4)]
    maps = encoder.explain(tokens[0], mask, "at night", beta=0.0)
    np.testing.assert_allclose(maps.base, maps.modulated, atol=1e-6)
    assert shares[0] < shares[1] < shares[2]


def test_importance_of_a_word_is_what_the_similarity_loses_without_it(encoder, tokens):
    mask = np.zeros(17, dtype=np.float32)
    target = encoder.embed_gallery(tokens)[0]
    told = encoder.word_importance(tokens[0], mask, "place at night", target)
    assert [each.word for each in told] == ["place", "at", "night"]

    def score(text):
        return float((target @ encoder.embed_queries(tokens, mask[None], [text]).vectors[0]).max())

    assert told[1].importance == pytest.approx(score("place at night") - score("place night"), abs=1e-5)


def test_a_map_is_bright_where_attention_is(picture):
    attention = np.zeros((4, 4), dtype=np.float32)
    attention[0, 0] = 1
    square = Image.new("RGB", (32, 32), (200, 200, 200))
    drawn = np.asarray(attention_picture(attention, square).convert("L"), dtype=int)
    assert drawn[:4, :4].mean() > 2 * drawn[16:, 16:].mean()
    assert attention_png(attention, picture).startswith(b"\x89PNG")
