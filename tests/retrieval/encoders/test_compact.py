"""The compact encoder: what its texts are made of, and that a saved one answers as the one that was trained."""

import json

import numpy as np
import pytest
import torch

from retrieval.encoders.compact.directory import CompactEncoder, load_compact, save_compact
from retrieval.encoders.compact.model import DualEncoder, DualEncoderConfig
from retrieval.encoders.compact.words import MAX_WORDS, Vocabulary, split
from retrieval.errors import EncoderError

WORDS = Vocabulary(["cap", "carton", "red", "white"])


@pytest.fixture
def model():
    torch.manual_seed(0)
    return DualEncoder(DualEncoderConfig(vocabulary=len(WORDS), image_size=32, widths=(8, 16), dimension=12)).eval()


@pytest.fixture
def saved(model, tmp_path):
    directory = tmp_path / "encoder"
    save_compact(directory, model, WORDS, training={}, data={}, metrics={"validation": {}})
    return directory


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("A white carton, which has a red cap.", "a white carton which has a red cap", id="punctuation"),
        pytest.param("Golden-Delicious 1.5", "golden delicious 1 5", id="hyphens and numbers"),
        pytest.param("crème_BRÛLÉE", "crème brûlée", id="accents, capitals and underscores"),
        pytest.param(" \t", "", id="nothing"),
    ],
)
def test_words_of_a_text(text, words):
    assert split(text) == words.split()


def test_rows_are_padded_to_the_longest_and_unknown_words_are_left_out():
    rows = WORDS.rows(["a red cap", "white", "", "nothing known"])
    assert rows.tolist() == [[3, 1], [4, 0], [0, 0], [0, 0]]
    assert WORDS.unknown("a red hat") == ["a", "hat"]


def test_words_beyond_the_limit_do_not_count():
    rows = WORDS.rows(["red " * MAX_WORDS + "cap"])
    assert rows.shape == (1, MAX_WORDS)
    assert set(rows[0].tolist()) == {3}


def test_no_texts_give_no_rows():
    assert WORDS.rows([]).shape == (0, 1)


def test_a_vocabulary_reads_what_it_wrote(tmp_path):
    words = Vocabulary.of(["zwei Brûlées", "a-b zwei"])
    words.save(tmp_path / "words.json")
    assert Vocabulary.load(tmp_path / "words.json").words == words.words == ("a", "b", "brûlées", "zwei")


def test_a_word_that_is_there_twice_is_refused():
    with pytest.raises(ValueError, match="'red'"):
        Vocabulary(["red", "cap", "red"])


def test_texts_of_the_same_known_words_are_the_same_and_padding_changes_nothing(model, saved):
    encoder = load_compact(saved)
    alone = encoder.embed_texts(["the red cap"])
    among = encoder.embed_texts(["white carton white carton white", "cap, red!", "the red cap"])
    np.testing.assert_allclose(among[1], alone[0], atol=1e-6)
    np.testing.assert_allclose(among[2], alone[0], atol=1e-6)
    assert not np.allclose(among[0], alone[0], atol=1e-2)


def test_embeddings_have_unit_length_and_no_input_gives_none(saved):
    encoder = load_compact(saved)
    pixels = np.random.default_rng(0).standard_normal((3, 3, 32, 32)).astype(np.float32)
    np.testing.assert_allclose(np.linalg.norm(encoder.embed_pixels(pixels), axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(encoder.embed_texts(["red", "nothing known", ""]), axis=1), 1, atol=1e-5)
    assert encoder.embed_pixels(pixels[:0]).shape == encoder.embed_texts([]).shape == (0, 12)


def test_the_saved_encoder_answers_as_the_trained_one(model, saved):
    trained = CompactEncoder(model, WORDS, name="trained", fingerprint="")
    loaded = load_compact(saved)
    pixels = np.random.default_rng(1).standard_normal((4, 3, 32, 32)).astype(np.float32)
    # The weights are kept in fp16, so cosines move in the fourth digit.
    assert (loaded.embed_pixels(pixels) * trained.embed_pixels(pixels)).sum(1).min() > 0.9999
    assert (loaded.embed_texts(["red cap"]) * trained.embed_texts(["red cap"])).sum() > 0.9999
    assert loaded.logit_scale == pytest.approx(trained.logit_scale, rel=1e-3)
    assert (loaded.dimension, loaded.preprocessing.height, loaded.preprocessing.width) == (12, 32, 32)


def test_the_fingerprint_follows_weights_and_words_and_not_the_place(saved, tmp_path):
    before = load_compact(saved).fingerprint
    moved = saved.rename(tmp_path / "elsewhere")
    assert load_compact(moved).fingerprint == before
    (moved / "words.json").write_text(json.dumps(["carton", "cap", "red", "white"]))
    assert load_compact(moved).fingerprint != before


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        pytest.param(lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors", id="no weights"),
        pytest.param(
            lambda folder: (folder / "model.safetensors").write_bytes(b"torn"), "compact encoder", id="torn weights"
        ),
        pytest.param(lambda folder: (folder / "words.json").write_text('["red"]'), "1 words", id="other words"),
        pytest.param(lambda folder: (folder / "words.json").write_text('{"red": 1}'), "JSON list", id="no word list"),
        pytest.param(lambda folder: (folder / "config.json").write_text("{}"), "schema None", id="another schema"),
    ],
)
def test_a_damaged_directory_is_named(saved, damage, says):
    damage(saved)
    with pytest.raises(EncoderError, match=says):
        load_compact(saved)


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        pytest.param({"vocabulary": 1}, "vocabulary", id="no words"),
        pytest.param({"vocabulary": 9, "widths": ()}, "widths", id="no stages"),
        pytest.param(
            {"vocabulary": 9, "image_size": 16}, "image_size must be at least 32", id="too small for four stages"
        ),
    ],
)
def test_sizes_that_cannot_work_are_refused(sizes, says):
    with pytest.raises(ValueError, match=says):
        DualEncoderConfig(**sizes)
