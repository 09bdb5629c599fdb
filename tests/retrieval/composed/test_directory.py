"""Models on disk: what comes back, and what is said where something is missing or altered."""

import json

import pytest
import torch

from retrieval.composed.directory import CONFIG_FILE, WEIGHTS_FILE, load_model, save_model
from retrieval.composed.encoder import load_composed
from retrieval.errors import ComposedError


@pytest.mark.parametrize("modulation", ["none", "fixed", "scalar", "vector"])
def test_a_model_comes_back_as_it_was(make_model, tokenizer, tmp_path, modulation):
    model = make_model(modulation, fixed=3.0)
    save_model(tmp_path / "model", model, tokenizer, training={"seed": 1}, metrics={"validation": {"r@1": 0.5}})
    again = load_model(tmp_path / "model")
    assert again.model.config == model.config
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], tensor), name
    assert json.loads((tmp_path / "model" / CONFIG_FILE).read_text())["training"] == {"seed": 1}


def test_halves_take_half_the_bytes_and_change_little(make_model, tokenizer, tmp_path):
    model = make_model()
    for half in (False, True):
        save_model(tmp_path / str(half), model, tokenizer, training={}, metrics={}, half=half)
    sizes = [(tmp_path / str(half) / WEIGHTS_FILE).stat().st_size for half in (False, True)]
    assert sizes[1] < 0.65 * sizes[0]
    seen = torch.randn(2, 17, 8)
    torch.testing.assert_close(
        load_model(tmp_path / "True").model.embed_gallery(seen), model.embed_gallery(seen), atol=0.01, rtol=0
    )


def test_the_fingerprint_follows_the_weights_and_not_the_place(make_model, tokenizer, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        save_model(tmp_path / name, make_model(seed=seed), tokenizer, training={"name": name}, metrics={})
    a, b, c = (load_model(tmp_path / name).fingerprint for name in "abc")
    assert a == b != c


@pytest.mark.parametrize(
    ("file", "content", "match"),
    [
        pytest.param(CONFIG_FILE, "{", "config.json cannot be read", id="torn configuration"),
        pytest.param(CONFIG_FILE, "[]", "must be a JSON object", id="other configuration"),
        pytest.param(WEIGHTS_FILE, "not weights", "cannot be loaded", id="damaged weights"),
        pytest.param("tokenizer.json", "{}", "tokenizer", id="damaged tokenizer"),
    ],
)
def test_a_damaged_directory_says_which_file(make_model, tokenizer, tmp_path, file, content, match):
    directory = tmp_path / "model"
    save_model(directory, make_model(), tokenizer, training={}, metrics={})
    (directory / file).write_text(content)
    with pytest.raises(ComposedError, match=match):
        load_model(directory)


def test_a_later_schema_is_not_guessed_at(tiny_model_directory, tmp_path):
    config = json.loads((tiny_model_directory / CONFIG_FILE).read_text())
    (tmp_path / CONFIG_FILE).write_text(json.dumps({**config, "schema_version": 9}))
    with pytest.raises(ComposedError, match="schema 9"):
        load_composed(tmp_path)


def test_a_name_that_cannot_be_fetched_says_what_to_name():
    with pytest.raises(ComposedError, match="Salesforce/blip2-itm-vit-g"):
        load_composed("nobody/nothing", allow_download=False)
