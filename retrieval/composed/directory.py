"""A model of composed retrieval as a directory of safetensors and JSON.

config.json         model type, sizes, how it was trained, on what
model.safetensors   weights under the published BLIP-2 names, AdaFocal's own under `modulator`
tokenizer.json      the tokens of texts
metrics.json        what was measured when it was trained
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from retrieval.composed.model import AdaFocal, AdaFocalConfig
from retrieval.composed.text import TOKENIZER_FILE, TextTokenizer
from retrieval.errors import ComposedError

MODEL_TYPE = "recollect-adafocal"
"""`model_type` of config.json."""
SCHEMA_VERSION = 1
CONFIG_FILE, WEIGHTS_FILE, METRICS_FILE = "config.json", "model.safetensors", "metrics.json"
_SIZES = TypeAdapter(AdaFocalConfig)


@dataclass(frozen=True, slots=True)
class StoredModel:
    """What a directory holds."""

    model: AdaFocal
    tokenizer: TextTokenizer
    fingerprint: str
    """Hex digest of everything that decides an embedding."""


def save_model(
    directory: Path,
    model: AdaFocal,
    tokenizer: TextTokenizer,
    *,
    training: Mapping[str, Any],
    metrics: Mapping[str, Any],
    half: bool = False,
) -> None:
    """Write `model` as a new directory; `half` stores fp16, half the bytes."""
    directory.mkdir(parents=True)
    weights = {
        name: (tensor.half() if half and tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in model.state_dict().items()
    }
    save_file(weights, directory / WEIGHTS_FILE, metadata={"format": "pt"})
    tokenizer.save(directory)
    config = {
        "model_type": MODEL_TYPE,
        "schema_version": SCHEMA_VERSION,
        "sizes": asdict(model.config),
        "training": dict(training),
    }
    (directory / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n")
    (directory / METRICS_FILE).write_text(json.dumps(dict(metrics), indent=2) + "\n")


def load_model(directory: Path) -> StoredModel:
    """Read what `save_model` wrote; ComposedError says which file is missing or does not fit."""
    config = read_config(directory)
    if config.get("schema_version") != SCHEMA_VERSION:
        raise ComposedError(
            f"{directory} has schema {config.get('schema_version')}, this release reads {SCHEMA_VERSION}"
        )
    try:
        model = AdaFocal(_SIZES.validate_python(config["sizes"]))
        weights = load_file(directory / WEIGHTS_FILE)
        model.load_state_dict(
            {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
        )
    except (OSError, KeyError, ValueError, ValidationError, SafetensorError, RuntimeError) as error:
        raise ComposedError(f"{directory} cannot be loaded as a model of composed retrieval: {error}") from error
    tokenizer = TextTokenizer.load(directory, longest=model.config.qformer.text_tokens)
    check_vocabulary(directory, tokenizer, model)
    return StoredModel(model.eval(), tokenizer, _fingerprint(directory, config["sizes"]))


def read_config(directory: Path) -> dict[str, Any]:
    """config.json of a model directory, ours or a published one."""
    try:
        config = json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ComposedError(f"{directory / CONFIG_FILE} cannot be read: {error}; name a model directory") from error
    if not isinstance(config, dict):
        raise ComposedError(f"{directory / CONFIG_FILE} must be a JSON object, got {type(config).__name__}")
    return config


def check_vocabulary(directory: Path, tokenizer: TextTokenizer, model: AdaFocal) -> None:
    """ComposedError where the tokenizer may give ids that the model has no row for."""
    rows = model.config.qformer.vocabulary
    if tokenizer.vocabulary_size > rows:
        raise ComposedError(
            f"{directory / TOKENIZER_FILE} has {tokenizer.vocabulary_size} tokens, the weights are for {rows}; "
            "restore the file that was trained with them"
        )


def _fingerprint(directory: Path, sizes: Mapping[str, Any]) -> str:
    """Of what decides an embedding: not of how it was trained."""
    digest = hashlib.sha256(MODEL_TYPE.encode())
    digest.update(json.dumps(sizes, sort_keys=True).encode())
    for file in (WEIGHTS_FILE, TOKENIZER_FILE):
        with (directory / file).open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def freeze(module: torch.nn.Module) -> None:
    """Let `module` be used and not trained."""
    module.eval()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
