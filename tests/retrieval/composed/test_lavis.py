"""Released checkpoints: names as LAVIS has them, written down here by themselves, come back as the model they were."""

import re

import pytest
import torch
from transformers import Blip2VisionConfig, Blip2VisionModel

from retrieval.composed.directory import StoredModel
from retrieval.composed.lavis import convert, read_checkpoint
from retrieval.composed.model import AdaFocal, AdaFocalConfig, QFormerConfig, VisionTransformerConfig
from retrieval.composed.modulator import Modulation, ModulatorConfig
from retrieval.errors import ComposedError

SIZES = {
    "vision": VisionTransformerConfig(image_size=28, patch=14, hidden_size=16, inner=32, layers=2, heads=2),
    "qformer": QFormerConfig(vocabulary=40, width=24, layers=2, heads=2, inner=48, query_tokens=4, dimension=8),
}


def model_of(modulation):
    modulator = ModulatorConfig(modulation=Modulation(modulation), probes=3, layers=2, heads=8, hidden=10)
    with torch.random.fork_rng():
        torch.manual_seed(4)
        model = AdaFocal(AdaFocalConfig(**SIZES, modulator=modulator)).eval()
        for parameter in model.parameters():
            if parameter.ndim:
                torch.nn.init.normal_(parameter, std=0.3)
        for layer in model.vision_model.encoder.layers:
            layer.self_attn.qkv.bias.data[16:32] = 0  # EVA's keys have no bias
    return model


def in_lavis(model, *, prefix="modulator.net."):
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
        ):
            name = name.replace(ours, theirs)
        name = re.sub(r"^embeddings\.", "Qformer.bert.embeddings.", name)
        name = re.sub(r"^modulator\.(probes|cls)$", rf"{prefix}\1_token", name)
        name = re.sub(r"^modulator\.encoder\.", f"{prefix}transformer.", name)
        name = re.sub(r"^modulator\.judge\.", f"{prefix}head.", name)
        renamed[name] = tensor.clone()
    renamed["Qformer.cls.predictions.bias"] = torch.zeros(40)
    renamed["itm_head.weight"] = torch.zeros(2, 24)
    renamed["Qformer.bert.embeddings.position_ids"] = torch.arange(512)[None]
    return renamed


def base(tokenizer):
    return StoredModel(model_of("none"), tokenizer, "0")


def test_the_published_image_encoder_is_really_called_so():
    config = Blip2VisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    ours = {name for name in model_of("none").state_dict() if name.startswith("vision_model.")}
    assert ours == {f"vision_model.{name}" for name in Blip2VisionModel(config).state_dict()}


@pytest.mark.parametrize("modulation", ["scalar", "vector"])
def test_a_released_checkpoint_comes_back_as_it_was(tokenizer, tmp_path, modulation):
    original = model_of(modulation)
    torch.save({"model": in_lavis(original)}, tmp_path / "released.pth")
    made = convert(read_checkpoint(tmp_path / "released.pth"), base(tokenizer))
    assert made.model.config.modulator == original.config.modulator
    for name, tensor in original.state_dict().items():
        torch.testing.assert_close(made.model.state_dict()[name], tensor, msg=name)
    assert made.kept_from_base == ()
    assert set(made.dropped) == {
        "Qformer.cls.predictions.bias",
        "itm_head.weight",
        "Qformer.bert.embeddings.position_ids",
    }


def test_what_was_frozen_comes_from_the_base(tokenizer):
    original = model_of("scalar")
    released = {name: each for name, each in in_lavis(original).items() if not name.startswith("visual_encoder.")}
    kept = base(tokenizer)
    made = convert(released, kept)
    assert made.kept_from_base
    assert all(name.startswith("vision_model.") for name in made.kept_from_base)
    pixels = torch.randn(1, 3, 28, 28)
    torch.testing.assert_close(made.model.image_tokens(pixels), kept.model.image_tokens(pixels))


def test_tokens_without_a_leading_one_are_known_as_well(tokenizer):
    original = model_of("scalar")
    released = in_lavis(original)
    released["modulator.net.probes_token"] = released["modulator.net.probes_token"][0]
    released["modulator.net.cls_token"] = released["modulator.net.cls_token"][0, 0]
    made = convert(released, base(tokenizer))
    torch.testing.assert_close(made.model.modulator.probes, original.modulator.probes)
    torch.testing.assert_close(made.model.modulator.cls, original.modulator.cls)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        pytest.param(
            lambda state: state.pop("text_proj.bias"), "lacks 1 tensors, such as text_projection.bias", id="missing"
        ),
        pytest.param(
            lambda state: state.update({"extra.table": torch.zeros(7, 5)}), r"extra.table \[7, 5\]", id="unknown"
        ),
        pytest.param(
            lambda state: state.update({"ln_vision.weight": torch.zeros(3)}), "does not fit", id="another size"
        ),
    ],
)
def test_what_cannot_be_converted_is_named(tokenizer, change, match):
    released = in_lavis(model_of("scalar"))
    change(released)
    with pytest.raises(ComposedError, match=match):
        convert(released, base(tokenizer))


class Evil:
    """Would run code when it is unpickled."""

    def __reduce__(self):
        return print, ("run",)


def test_a_pickle_that_would_run_code_is_refused(tmp_path, capsys):
    torch.save({"model": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ComposedError, match="tensors alone"):
        read_checkpoint(tmp_path / "evil.pth")
    assert capsys.readouterr().out == ""
