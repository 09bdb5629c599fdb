"""Bring AdaFocal checkpoints, as they were released under LAVIS's parameter names, to ours.

A checkpoint is {"epoch": …, name of the model's class: weights}; the weights may hold the frozen image encoder or not.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from retrieval.composed.directory import StoredModel
from retrieval.composed.model import AdaFocal
from retrieval.composed.modulator import Modulation, ModulatorConfig
from retrieval.composed.text import TextTokenizer
from retrieval.errors import ComposedError

_HEADS = 8
"""Attention heads of the released modulator; no weight tells."""
_BLANKS = '.!"()*#:;~'
"""What LAVIS takes out of a text before it is cut into tokens."""
_VISION = "vision_model."
_LAYER = r"Qformer\.bert\.encoder\.layer\.(\d+)\."
_BLOCK = r"visual_encoder\.blocks\.(\d+)\."
_OUR_BLOCK = r"vision_model.encoder.layers.\1."
_NAMES = [
    (r"query_tokens", "query_tokens"),
    (r"ln_vision\.(weight|bias)", r"vision_model.post_layernorm.\1"),
    (r"vision_proj\.(weight|bias)", r"vision_projection.\1"),
    (r"text_proj\.(weight|bias)", r"text_projection.\1"),
    (r"Qformer\.bert\.embeddings\.(word|position)_embeddings\.weight", r"embeddings.\1_embeddings.weight"),
    (r"Qformer\.bert\.embeddings\.LayerNorm\.(weight|bias)", r"qformer.layernorm.\1"),
    (
        _LAYER + r"(attention|crossattention)\.self\.(query|key|value)\.(weight|bias)",
        r"qformer.encoder.layer.\1.\2.attention.\3.\4",
    ),
    (
        _LAYER + r"(attention|crossattention)\.output\.(dense|LayerNorm)\.(weight|bias)",
        r"qformer.encoder.layer.\1.\2.output.\3.\4",
    ),
    (_LAYER + r"(intermediate|intermediate_query)\.dense\.(weight|bias)", r"qformer.encoder.layer.\1.\2.dense.\3"),
    (_LAYER + r"(output|output_query)\.(dense|LayerNorm)\.(weight|bias)", r"qformer.encoder.layer.\1.\2.\3.\4"),
    (r"visual_encoder\.cls_token", "vision_model.embeddings.class_embedding"),
    (r"visual_encoder\.pos_embed", "vision_model.embeddings.position_embedding"),
    (r"visual_encoder\.patch_embed\.proj\.(weight|bias)", r"vision_model.embeddings.patch_embedding.\1"),
    (_BLOCK + r"norm([12])\.(weight|bias)", _OUR_BLOCK + r"layer_norm\2.\3"),
    (_BLOCK + r"attn\.qkv\.weight", _OUR_BLOCK + "self_attn.qkv.weight"),
    (_BLOCK + r"attn\.proj\.(weight|bias)", _OUR_BLOCK + r"self_attn.projection.\2"),
    (_BLOCK + r"mlp\.(fc[12])\.(weight|bias)", _OUR_BLOCK + r"mlp.\2.\3"),
    (r"contextual_probe_tokens", "modulator.probes"),
    (r"crm_module\.cls_token", "modulator.cls"),
    (r"crm_module\.transformer_encoder\.(.+)", r"modulator.encoder.\1"),
    (r"crm_module\.output_head\.([02]\.(?:weight|bias))", r"modulator.judge.\1"),
]
"""LAVIS's name → ours."""
_DROPPED = re.compile(r"Qformer\.cls\..*|itm_head\..*|Qformer\.bert\.embeddings\.position_ids")
"""What composed retrieval does not ask: the language head, the matching head, and a counter."""
_BIASES = re.compile(_BLOCK + r"attn\.([qv])_bias")


@dataclass(frozen=True, slots=True)
class Conversion:
    """A converted model, and what became of each tensor of the checkpoint."""

    model: AdaFocal
    tokenizer: TextTokenizer
    mapped: dict[str, str]
    """Name in the checkpoint → ours."""
    dropped: tuple[str, ...]
    """What composed retrieval does not need."""
    kept_from_base: tuple[str, ...]
    """Ours that the checkpoint does not have: a frozen image encoder that was not released with it."""


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The weights of a .pt or .pth file: what it holds, or the one of its entries that is a mapping of tensors.

    Such a file is a pickle, which can run code when it is read: only tensors and plain containers are let through.
    ComposedError where there is anything else.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle raises whatever it likes
        raise ComposedError(
            f"{path} cannot be read as a checkpoint of tensors alone: {error}; download it again, and convert no file "
            "that holds anything else"
        ) from error
    entries = [content, *content.values()] if isinstance(content, Mapping) else []
    found = [entry for entry in entries if _weights(entry)]
    if len(found) != 1:
        held = sorted(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
        raise ComposedError(f"{path} must hold one mapping of names to tensors, got {held}; name a released checkpoint")
    return {str(name).removeprefix("module."): tensor for name, tensor in found[0].items()}


def convert(checkpoint: Mapping[str, Tensor], base: StoredModel) -> Conversion:
    """AdaFocal from a released checkpoint and the BLIP-2 that it was trained from.

    `base` gives the sizes, the tokenizer, and what the checkpoint leaves out. ComposedError names what is unknown,
    missing, or of another size.
    """
    mapped, weights, dropped = _renamed(checkpoint)
    model = AdaFocal(replace(base.model.config, modulator=_modulator(weights)))
    missing = [name for name in model.state_dict() if name not in weights]
    lacking = [name for name in missing if not name.startswith(_VISION) or "post_layernorm" in name]
    if lacking:
        raise ComposedError(
            f"the checkpoint lacks {len(lacking)} tensors, such as {lacking[0]} of ours; is it a whole one?"
        )
    own = base.model.state_dict()
    try:
        model.load_state_dict({**{name: own[name] for name in missing}, **weights})
    except RuntimeError as error:
        raise ComposedError(f"the checkpoint does not fit the sizes of its base: {error}; give its own base") from error
    return Conversion(model.eval(), base.tokenizer.without(_BLANKS), mapped, dropped, tuple(missing))


def _weights(entry: Any) -> bool:
    return isinstance(entry, Mapping) and bool(entry) and all(isinstance(each, Tensor) for each in entry.values())


def _renamed(checkpoint: Mapping[str, Tensor]) -> tuple[dict[str, str], dict[str, Tensor], tuple[str, ...]]:
    """(name there → ours, our weights, names that are not needed)."""
    mapped: dict[str, str] = {}
    weights: dict[str, Tensor] = {}
    biases: dict[str, dict[str, Tensor]] = {}
    dropped, unknown = list[str](), list[str]()
    for name, tensor in checkpoint.items():
        bias = _BIASES.fullmatch(name)
        if (ours := _ours(name)) is not None:
            mapped[name], weights[ours] = ours, tensor
        elif bias is not None:
            mapped[name] = f"vision_model.encoder.layers.{bias[1]}.self_attn.qkv.bias"
            biases.setdefault(mapped[name], {})[bias[2]] = tensor
        elif name == "temp":
            mapped[name], weights["log_temperature"] = "log_temperature", torch.tensor(math.log(float(tensor)))
        elif _DROPPED.fullmatch(name):
            dropped.append(name)
        else:
            unknown.append(f"{name} {list(tensor.shape)}")
    if unknown:
        raise ComposedError(
            f"the checkpoint has {len(unknown)} tensors of no known part: {', '.join(unknown[:5])}; only those of "
            "AdaFocal with BLIP-2's ViT-g are known"
        )
    for ours, parts in biases.items():
        if set(parts) != {"q", "v"}:
            raise ComposedError(f"the checkpoint must have q_bias and v_bias for {ours}, got {sorted(parts)}")
        # LAVIS gives keys no bias.
        weights[ours] = torch.cat([parts["q"], torch.zeros_like(parts["q"]), parts["v"]])
    return mapped, weights, tuple(dropped)


def _ours(name: str) -> str | None:
    for pattern, ours in _NAMES:
        if (found := re.fullmatch(pattern, name)) is not None:
            return found.expand(ours)
    return None


def _modulator(weights: Mapping[str, Tensor]) -> ModulatorConfig:
    """The sizes of the modulator in a checkpoint; NONE where there is none: the same backbone without it."""
    own = {name: tensor for name, tensor in weights.items() if name.startswith("modulator.")}
    if not own:
        return ModulatorConfig(modulation=Modulation.NONE)
    layers = {name.split(".")[3] for name in own if name.startswith("modulator.encoder.layers.")}
    try:
        outputs, hidden = own["modulator.judge.2.weight"].shape
        return ModulatorConfig(
            modulation=Modulation.SCALAR if outputs == 1 else Modulation.VECTOR,
            probes=own["modulator.probes"].shape[1],
            layers=len(layers),
            heads=_HEADS,
            hidden=hidden,
            inner=own["modulator.encoder.layers.0.linear1.weight"].shape[0],
        )
    except KeyError as error:
        raise ComposedError(f"the checkpoint lacks a part of its modulator: {error.args[0]} of ours") from None
