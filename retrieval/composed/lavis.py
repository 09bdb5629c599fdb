"""Bring AdaFocal checkpoints that were released under LAVIS's parameter names to ours.

LAVIS's names of BLIP-2 are known and mapped one by one. Those of the modulator are whatever its authors called its
parts: it is recognised by shapes, of which no two are alike, and by the names that torch gives a transformer layer's own.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from retrieval.composed.directory import StoredModel
from retrieval.composed.model import AdaFocal
from retrieval.composed.modulator import Modulation, ModulatorConfig
from retrieval.errors import ComposedError

_LAYER = r"Qformer\.bert\.encoder\.layer\.(\d+)\."
_BLOCK = r"visual_encoder\.blocks\.(\d+)\."
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
    (
        _LAYER + r"(output|output_query)\.(dense|LayerNorm)\.(weight|bias)",
        r"qformer.encoder.layer.\1.\2.\3.\4",
    ),
    (r"visual_encoder\.cls_token", "vision_model.embeddings.class_embedding"),
    (r"visual_encoder\.pos_embed", "vision_model.embeddings.position_embedding"),
    (r"visual_encoder\.patch_embed\.proj\.(weight|bias)", r"vision_model.embeddings.patch_embedding.\1"),
    (_BLOCK + r"norm(\d)\.(weight|bias)", r"vision_model.encoder.layers.\1.layer_norm\2.\3"),
    (_BLOCK + r"attn\.qkv\.weight", r"vision_model.encoder.layers.\1.self_attn.qkv.weight"),
    (_BLOCK + r"attn\.proj\.(weight|bias)", r"vision_model.encoder.layers.\1.self_attn.projection.\2"),
    (_BLOCK + r"mlp\.(fc\d)\.(weight|bias)", r"vision_model.encoder.layers.\1.mlp.\2.\3"),
]
"""LAVIS's name → ours."""
_DROPPED = re.compile(r"Qformer\.cls\..*|itm_head\..*|Qformer\.bert\.embeddings\.position_ids")
"""What composed retrieval does not ask: the language head, the matching head, and a counter."""
_BIASES = re.compile(_BLOCK + r"attn\.([qv])_bias")
_TRANSFORMER_LAYER = re.compile(
    r"layers?\.(\d+)\.((?:self_attn\.(?:in_proj_(?:weight|bias)|out_proj\.(?:weight|bias)))|"
    r"(?:linear[12]|norm[12])\.(?:weight|bias))$"
)


@dataclass(frozen=True, slots=True)
class Conversion:
    """A converted model, and what became of each tensor of the checkpoint."""

    model: AdaFocal
    mapped: dict[str, str]
    """Name in the checkpoint → ours."""
    dropped: tuple[str, ...]
    """What composed retrieval does not need."""
    kept_from_base: tuple[str, ...]
    """Ours that the checkpoint does not have: a frozen image encoder that was not released with it."""


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a .pth file, under "model" or "state_dict" or by themselves.

    Such a file is a pickle, which can run code when it is read: only tensors and plain containers are let through.
    ComposedError where there is anything else.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle raises whatever it likes
        raise ComposedError(
            f"{path} cannot be read as a checkpoint of tensors alone: {error}; convert only files that hold tensors"
        ) from error
    for key in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(each, Tensor) for each in content.values()):
        raise ComposedError(f"{path} must hold a mapping of names to tensors, got {type(content).__name__}")
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}


def convert(checkpoint: Mapping[str, Tensor], base: StoredModel) -> Conversion:
    """AdaFocal from a released checkpoint and the BLIP-2 that it was trained from.

    `base` gives the sizes, the tokenizer, and what the checkpoint leaves out. ComposedError names what is unknown,
    ambiguous or missing.
    """
    mapped: dict[str, str] = {}
    weights: dict[str, Tensor] = {}
    biases: dict[str, dict[str, Tensor]] = {}
    left: dict[str, Tensor] = {}
    dropped = []
    for name, tensor in checkpoint.items():
        ours = _ours(name)
        part = _BIASES.fullmatch(name)
        if ours is not None:
            mapped[name], weights[ours] = ours, tensor
        elif part is not None:
            biases.setdefault(part[1], {})[part[2]] = tensor
            mapped[name] = f"vision_model.encoder.layers.{part[1]}.self_attn.qkv.bias"
        elif name == "temp":
            mapped[name], weights["log_temperature"] = "log_temperature", torch.tensor(math.log(float(tensor)))
        elif _DROPPED.fullmatch(name):
            dropped.append(name)
        else:
            left[name] = tensor
    for layer, own in biases.items():
        if set(own) != {"q", "v"}:
            raise ComposedError(f"block {layer} of the image encoder must have q_bias and v_bias, got {sorted(own)}")
        # LAVIS gives keys no bias.
        joined = torch.cat([own["q"], torch.zeros_like(own["q"]), own["v"]])
        weights[f"vision_model.encoder.layers.{layer}.self_attn.qkv.bias"] = joined
    config, names = _modulator(left, base.model)
    mapped |= names
    weights |= {names[name]: tensor.reshape(_shape(names[name], tensor)) for name, tensor in left.items()}
    model = AdaFocal(replace(base.model.config, modulator=config))
    own_base = {name: tensor for name, tensor in base.model.state_dict().items() if name not in weights}
    missing = [name for name in model.state_dict() if name not in weights and not _may_miss(name)]
    if missing:
        raise ComposedError(f"the checkpoint lacks {len(missing)} tensors, such as {missing[0]}; is it a whole one?")
    kept = tuple(name for name in model.state_dict() if name not in weights)
    try:
        model.load_state_dict({**own_base, **{name: tensor.float() for name, tensor in weights.items()}})
    except RuntimeError as error:
        raise ComposedError(f"the checkpoint does not fit the sizes of its base: {error}") from error
    return Conversion(model.eval(), mapped, tuple(dropped), kept)


def _ours(name: str) -> str | None:
    for pattern, ours in _NAMES:
        if (found := re.fullmatch(pattern, name)) is not None:
            return found.expand(ours)
    return None


def _may_miss(name: str) -> bool:
    """The frozen image encoder is often not released with what was trained."""
    return name == "log_temperature" or (name.startswith("vision_model.") and "post_layernorm" not in name)


def _shape(ours: str, tensor: Tensor) -> tuple[int, ...]:
    """Learnable tokens have a leading 1 with us, and may not have one there."""
    if ours in ("modulator.probes", "modulator.cls"):
        return (1, -1, tensor.shape[-1])
    return tuple(tensor.shape)


def _modulator(left: Mapping[str, Tensor], base: AdaFocal) -> tuple[ModulatorConfig, dict[str, str]]:
    """The modulator that the remaining tensors are, and which of them is which part."""
    if not left:
        return ModulatorConfig(modulation=Modulation.NONE), {}
    width, queries = base.config.qformer.width, base.config.qformer.query_tokens
    names: dict[str, str] = {}
    layers, hidden, outputs, probes = set(), 0, 0, 0
    for name, tensor in left.items():
        shape = tuple(tensor.shape)
        part = _TRANSFORMER_LAYER.search(name)
        if part is not None:
            layers.add(int(part[1]))
            names[name] = f"modulator.encoder.layers.{part[1]}.{part[2]}"
        elif (
            len(shape) in (1, 2, 3)
            and shape[-1] == width
            and math.prod(shape) == width
            and name.endswith("bias") is False
        ):
            names[name] = "modulator.cls"
        elif len(shape) == 3 and shape[0] == 1 and shape[2] == width:
            names[name], probes = "modulator.probes", shape[1]
        elif len(shape) == 2 and shape[1] == width and name.endswith("weight"):
            names[name], hidden = "modulator.judge.0.weight", shape[0]
        elif len(shape) == 2 and shape[0] in (1, queries) and name.endswith("weight"):
            names[name], outputs = "modulator.judge.2.weight", shape[0]
        elif len(shape) == 2 and shape[1] == width:
            names[name], probes = "modulator.probes", shape[0]
    for name, tensor in left.items():
        if name not in names and tensor.shape == (hidden,):
            names[name] = "modulator.judge.0.bias"
        elif name not in names and tensor.shape == (outputs,):
            names[name] = "modulator.judge.2.bias"
    unknown = [name for name in left if name not in names]
    twice = len(set(names.values())) < len(names)
    if unknown or twice or not (layers and hidden and outputs and probes):
        told = ", ".join(f"{name} {list(left[name].shape)}" for name in (unknown or list(left))[:5])
        raise ComposedError(f"the checkpoint has tensors that are of no known part: {told}; is it AdaFocal's?")
    modulation = Modulation.SCALAR if outputs == 1 else Modulation.VECTOR
    heads = ModulatorConfig().heads if width % ModulatorConfig().heads == 0 else 1
    return (
        ModulatorConfig(modulation=modulation, probes=probes, layers=len(layers), heads=heads, hidden=hidden),
        names,
    )
