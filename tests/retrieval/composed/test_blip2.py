"""A checkpoint in the published BLIP-2 format: what transformers computes with it, we compute."""

import json

import pytest
import torch
from torch.nn import functional as F
from transformers import Blip2Config, Blip2ForImageTextRetrieval, Blip2QFormerConfig, Blip2VisionConfig

from retrieval.composed.blip2 import load_blip2
from retrieval.composed.encoder import load_composed
from retrieval.composed.modulator import Modulation, ModulatorConfig
from retrieval.composed.training.config import ComposedTrainConfig
from retrieval.composed.training.loop import modulated
from retrieval.errors import ComposedError

TEXTS = ["the same place at night", "on a beach", "by day with a red mug"]


@pytest.fixture(scope="module")
def published(tokenizer, tmp_path_factory):
    """(model of transformers, its directory)."""
    vision = Blip2VisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4, image_size=28, patch_size=14
    )
    qformer = Blip2QFormerConfig(
        vocab_size=tokenizer.vocabulary_size + 1,  # the published one has a token of its own as well
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=64,
        encoder_hidden_size=32,
        use_qformer_text_input=True,
    )
    config = Blip2Config(
        vision_config=vision.to_dict(),
        qformer_config=qformer.to_dict(),
        num_query_tokens=4,
        image_text_hidden_size=8,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Blip2ForImageTextRetrieval(config).eval()
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.2)
    directory = tmp_path_factory.mktemp("blip2")
    model.save_pretrained(directory)
    tokenizer.save(directory)
    return model, directory


@pytest.fixture
def pixels():
    return torch.randn(3, 3, 28, 28, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def test_pictures_and_texts_are_embedded_as_by_transformers(published, pixels):
    model, directory = published
    stored = load_blip2(directory)
    rows = stored.tokenizer.rows(TEXTS)
    expected = model(pixel_values=pixels, input_ids=rows.ids, attention_mask=rows.kept.long(), return_dict=True)
    gallery = stored.model.embed_gallery(stored.model.image_tokens(pixels))
    torch.testing.assert_close(gallery, expected.image_embeds, atol=1e-5, rtol=0)
    torch.testing.assert_close(stored.model.embed_texts(rows), expected.text_embeds, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_with_beta_zero_a_query_is_that_of_transformers(published, pixels, attention):
    model, directory = published
    model.qformer.config._attn_implementation = attention
    stored = load_blip2(directory)
    rows = stored.tokenizer.rows(TEXTS)
    seen = model.vision_model(pixels).last_hidden_state
    queries = model.query_tokens.expand(3, -1, -1)
    outputs = model.qformer(
        query_embeds=model.embeddings(input_ids=rows.ids, query_embeds=queries),
        query_length=4,
        attention_mask=torch.cat([torch.ones(3, 4, dtype=torch.long), rows.kept.long()], dim=1),
        encoder_hidden_states=seen,
        encoder_attention_mask=torch.ones(seen.shape[:2], dtype=torch.long),
    ).last_hidden_state
    expected = F.normalize(model.text_projection(outputs[:, 4]), dim=-1)
    box_everywhere = torch.ones(3, 5)
    found, beta = stored.model.embed_queries(stored.model.image_tokens(pixels), box_everywhere, rows)
    assert beta.tolist() == [[0.0]] * 3
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_norms_of_the_image_encoder_are_the_published_ones(published, tmp_path, pixels):
    model, directory = published
    other = Blip2ForImageTextRetrieval.from_pretrained(altered(directory, tmp_path, vision_config__layer_norm_eps=0.1))
    stored = load_blip2(tmp_path)
    rows = stored.tokenizer.rows(TEXTS)
    given = {"pixel_values": pixels, "input_ids": rows.ids, "attention_mask": rows.kept.long()}
    gallery = stored.model.embed_gallery(stored.model.image_tokens(pixels))
    torch.testing.assert_close(gallery, other.eval()(**given).image_embeds, atol=1e-5, rtol=0)
    assert (gallery - model(**given).image_embeds).abs().max() > 1e-3


@torch.no_grad()
def test_weights_in_several_files_and_halves_are_the_same_model(published, tmp_path, pixels):
    directory = published[1]
    copy = Blip2ForImageTextRetrieval.from_pretrained(directory).half()
    copy.save_pretrained(tmp_path, max_shard_size="100KB")
    (tmp_path / "tokenizer.json").write_bytes((directory / "tokenizer.json").read_bytes())
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    stored = load_blip2(tmp_path)
    assert {tensor.dtype for tensor in stored.model.state_dict().values()} == {torch.float32}
    whole = load_blip2(directory).model
    torch.testing.assert_close(stored.model.image_tokens(pixels), whole.image_tokens(pixels), atol=0.05, rtol=0.05)
    assert stored.fingerprint != load_blip2(directory).fingerprint


def test_without_its_vocabulary_it_is_refused(published, tmp_path):
    directory = altered(published[1], tmp_path)
    (directory / "tokenizer.json").unlink()
    with pytest.raises(ComposedError, match=r"tokenizer\.json cannot be read"):
        load_blip2(directory)


def test_it_is_a_start_for_adafocal(published, pixels):
    stored = load_blip2(published[1])
    config = ComposedTrainConfig(modulator=ModulatorConfig(modulation=Modulation.VECTOR, heads=4))
    model = modulated(stored.model, config)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name for name in trained if name.startswith("vision_model.")} == {
        "vision_model.post_layernorm.weight",
        "vision_model.post_layernorm.bias",
    }
    assert "modulator.probes" in trained
    rows = stored.tokenizer.rows(TEXTS)
    _, beta = model.eval().embed_queries(model.image_tokens(pixels), torch.ones(3, 5), rows)
    assert beta.shape == (3, 4)


def test_load_composed_takes_the_published_directory(published):
    encoder = load_composed(published[1])
    assert (encoder.vectors, encoder.dimension, encoder.text_tokens) == (4, 8, 32)
    assert encoder.geometry.size == 28


def altered(directory, tmp_path, **changes):
    """A copy whose config.json has other values."""
    for path in directory.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    for key, value in changes.items():
        part, _, name = key.partition("__")
        (config[part] if name else config)[name or part] = value
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        pytest.param({"model_type": "clip"}, "'clip'", id="another architecture"),
        pytest.param({"qformer_config__use_qformer_text_input": False}, "captioning model", id="no texts"),
        pytest.param({"vision_config__hidden_act": "relu"}, "hidden_act 'relu'", id="another activation"),
        pytest.param({"qformer_config__layer_norm_eps": 1e-5}, "layer_norm_eps 1e-05", id="another norm"),
        pytest.param({"vision_config__num_hidden_layers": 4}, "missing", id="weights of fewer layers"),
        pytest.param({"image_text_hidden_size": 16}, "do not fit", id="weights of another size"),
    ],
)
def test_another_checkpoint_says_what_to_use(published, tmp_path, changes, match):
    with pytest.raises(ComposedError, match=match):
        load_blip2(altered(published[1], tmp_path, **changes))


def test_pickled_weights_are_refused(published, tmp_path):
    directory = altered(published[1], tmp_path)
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    with pytest.raises(ComposedError, match="safetensors"):
        load_blip2(directory)
