"""Released checkpoints: names as LAVIS has them, written down here by themselves, come back as the model they were."""

import re

import pytest
import torch

from retrieval.composed.directory import StoredModel
from retrieval.composed.lavis import convert, read_checkpoint
from retrieval.composed.model import AdaFocal, AdaFocalConfig, QFormerConfig, VisionTransformerConfig
from retrieval.composed.modulator import Modulation, ModulatorConfig
from retrieval.composed.text import TextTokenizer
from retrieval.errors import ComposedError

TEXTS = ["the same place at night", "on a beach"]


def model_of(modulation, tokenizer):
    sizes = AdaFocalConfig(
        vision=VisionTransformerConfig(image_size=28, patch=14, hidden_size=16, inner=32, layers=2, heads=2),
        qformer=QFormerConfig(
            vocabulary=tokenizer.vocabulary_size, width=24, layers=2, heads=2, inner=48, query_tokens=4, dimension=8
        ),
        # Not four times the width: torch's own default is what was released.
        modulator=ModulatorConfig(modulation=Modulation(modulation), probes=3, layers=2, heads=8, hidden=10, inner=20),
    )
    with torch.random.fork_rng():
        torch.manual_seed(4)
        model = AdaFocal(sizes).eval()
        for parameter in model.parameters():
            if parameter.ndim:
                torch.nn.init.normal_(parameter, std=0.3)
        for layer in model.vision_model.encoder.layers:
            layer.self_attn.qkv.bias.data[16:32] = 0  # EVA's keys have no bias
    return model


def in_lavis(model):
    """The state of a model under the names of the released code."""
    renamed = {}
    for name, tensor in model.state_dict().items():
        if name == "log_temperature":
            renamed["temp"] = tensor.exp()
            continue
        found = re.match(r"vision_model\.encoder\.layers\.(\d+)\.self_attn\.qkv\.bias", name)
        if found:
            q, _, v = tensor.chunk(3)
            renamed[f"visual_encoder.blocks.{found[1]}.attn.q_bias"] = q
            renamed[f"visual_encoder.blocks.{found[1]}.attn.v_bias"] = v
            continue
        for ours, theirs in (
            ("vision_model.embeddings.class_embedding", "visual_encoder.cls_token"),
            ("vision_model.embeddings.position_embedding", "visual_encoder.pos_embed"),
            ("vision_model.embeddings.patch_embedding", "visual_encoder.patch_embed.proj"),
            ("vision_model.encoder.layers", "visual_encoder.blocks"),
            ("vision_model.post_layernorm", "ln_vision"),
            ("layer_norm1", "norm1"),
            ("layer_norm2", "norm2"),
            ("self_attn.qkv", "attn.qkv"),
            ("self_attn.projection", "attn.proj"),
            ("vision_projection", "vision_proj"),
            ("text_projection", "text_proj"),
            ("qformer.layernorm", "Qformer.bert.embeddings.LayerNorm"),
            ("qformer.encoder", "Qformer.bert.encoder"),
            ("attention.attention.", "attention.self."),
            ("modulator.probes", "contextual_probe_tokens"),
            ("modulator.cls", "crm_module.cls_token"),
            ("modulator.encoder.", "crm_module.transformer_encoder."),
            ("modulator.judge.", "crm_module.output_head."),
        ):
            name = name.replace(ours, theirs)
        renamed[re.sub(r"^embeddings\.", "Qformer.bert.embeddings.", name)] = tensor.clone()
    renamed["Qformer.cls.predictions.bias"] = torch.zeros(40)
    renamed["itm_head.weight"] = torch.zeros(2, 24)
    renamed["Qformer.bert.embeddings.position_ids"] = torch.arange(512)[None]
    return renamed


@pytest.fixture
def base(tokenizer):
    with torch.no_grad():
        model = model_of("none", tokenizer)
        for parameter in model.parameters():
            parameter.mul_(0.5)
    return StoredModel(model, tokenizer, "0")


@torch.no_grad()
def answers(model, rows):
    """What a model says of two pictures: gallery, queries with a box, β."""
    generator = torch.Generator().manual_seed(1)
    tokens = model.image_tokens(torch.randn(2, 3, 28, 28, generator=generator))
    mask = torch.tensor([[0.0, 1, 0, 0, 1]]).expand(2, -1)
    return (model.embed_gallery(tokens), *model.embed_queries(tokens, mask, rows))


@pytest.mark.parametrize("modulation", ["scalar", "vector", "none"])
def test_a_released_checkpoint_answers_as_it_did(tokenizer, base, tmp_path, modulation):
    original = model_of(modulation, tokenizer)
    torch.save({"epoch": 7, "Blip2QformerOacirAdaFocal": in_lavis(original)}, tmp_path / "released.pt")
    made = convert(read_checkpoint(tmp_path / "released.pt"), base)
    assert made.model.config.modulator.modulation == modulation
    if modulation != "none":
        assert made.model.config.modulator == original.config.modulator
    rows = tokenizer.rows(TEXTS)
    for found, expected in zip(answers(made.model, rows), answers(original, rows), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert made.model.temperature.item() == pytest.approx(original.temperature.item())
    assert not made.model.training


def test_every_tensor_is_accounted_for(tokenizer, base):
    original = model_of("scalar", tokenizer)
    made = convert(in_lavis(original), base)
    assert made.kept_from_base == ()
    assert set(made.mapped.values()) == set(original.state_dict())
    assert made.mapped["crm_module.output_head.2.weight"] == "modulator.judge.2.weight"
    assert set(made.dropped) == {
        "Qformer.cls.predictions.bias",
        "itm_head.weight",
        "Qformer.bert.embeddings.position_ids",
    }


def test_a_frozen_image_encoder_comes_from_the_base_and_its_last_norm_does_not(tokenizer, base):
    original = model_of("scalar", tokenizer)
    released = {name: each for name, each in in_lavis(original).items() if not name.startswith("visual_encoder.")}
    made = convert(released, base)
    assert made.kept_from_base
    for name, tensor in made.model.state_dict().items():
        source = base.model if name in made.kept_from_base else original
        torch.testing.assert_close(tensor, source.state_dict()[name], msg=name)
        assert (name in made.kept_from_base) == (name.startswith("vision_model.") and "post_layernorm" not in name)


def test_halves_become_whole_numbers_of_32_bits(tokenizer, base):
    released = {name: each.half() for name, each in in_lavis(model_of("scalar", tokenizer)).items()}
    assert {tensor.dtype for tensor in convert(released, base).model.state_dict().values()} == {torch.float32}


def test_texts_are_read_as_lavis_reads_them(tokenizer, base, tmp_path):
    made = convert(in_lavis(model_of("scalar", tokenizer)), base)
    made.tokenizer.save(tmp_path)
    for each in (made.tokenizer, TextTokenizer.load(tmp_path, longest=12)):
        # Full stops and exclamation marks go, commas stay.
        read = each.rows(["On a beach. By day, with: a (red) mug!"]).ids.tolist()
        assert read == tokenizer.rows(["on a beach by day, with a red mug"]).ids.tolist()
        assert read != tokenizer.rows(["on a beach by day with a red mug"]).ids.tolist()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(lambda state: state, id="bare"),
        pytest.param(lambda state: {"model": state, "optimizer": {"state": {}, "param_groups": []}}, id="lavis"),
        pytest.param(lambda state: {"x": {f"module.{name}": each for name, each in state.items()}}, id="distributed"),
    ],
)
def test_weights_are_found_in_a_checkpoint(tmp_path, content):
    state = {"temp": torch.tensor(0.07), "query_tokens": torch.zeros(1, 4, 24)}
    torch.save(content(state), tmp_path / "released.pt")
    assert list(read_checkpoint(tmp_path / "released.pt")) == ["temp", "query_tokens"]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        pytest.param({"text_proj.bias": None}, "lacks 1 tensors, such as text_projection.bias", id="missing"),
        pytest.param({"crm_module.cls_token": None}, "modulator.cls", id="a part of the modulator"),
        pytest.param({"contextual_probe_tokens": None}, "modulator.probes", id="no probes"),
        pytest.param({"visual_encoder.blocks.1.attn.q_bias": None}, r"q_bias and v_bias .* \['v'\]", id="half a bias"),
        pytest.param({"instance_proj.weight": torch.zeros(7, 5)}, r"instance_proj.weight \[7, 5\]", id="unknown"),
        pytest.param({"ln_vision.weight": torch.zeros(3)}, "does not fit the sizes of its base", id="another size"),
    ],
)
def test_what_cannot_be_converted_is_named(tokenizer, base, change, match):
    released = in_lavis(model_of("scalar", tokenizer)) | change
    with pytest.raises(ComposedError, match=match):
        convert({name: tensor for name, tensor in released.items() if tensor is not None}, base)


class Evil:
    """Would run code when it is unpickled."""

    def __reduce__(self):
        return print, ("run",)


def test_a_pickle_that_would_run_code_is_refused(tmp_path, capsys):
    torch.save({"model": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ComposedError, match="tensors alone"):
        read_checkpoint(tmp_path / "evil.pth")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [{"epoch": 3}, {"a": {"x": torch.ones(1)}, "b": {"y": torch.ones(1)}}, [1, 2]])
def test_a_file_without_one_set_of_weights_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(ComposedError, match="one mapping of names to tensors"):
        read_checkpoint(tmp_path / "other.pt")
