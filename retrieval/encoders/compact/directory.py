"""A compact encoder as a directory of safetensors and JSON, and as an `Encoder` that answers.

config.json         model type, sizes, how it was trained, on what
model.safetensors   weights, fp16: half the bytes, and embeddings that differ in the fourth digit
words.json          the words that the text tower knows
metrics.json        what was measured when it was trained
"""

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from retrieval.encoders.compact.model import DualEncoder, DualEncoderConfig
from retrieval.encoders.compact.words import Vocabulary
from retrieval.encoders.preprocessing import Preprocessing
from retrieval.encoders.protocol import Floats
from retrieval.errors import EncoderError

if TYPE_CHECKING:
    from retrieval.encoders.export_parts import ExportParts

MODEL_TYPE = "recollect-dual-encoder"
"""`model_type` of config.json."""
SCHEMA_VERSION = 1
CONFIG_FILE, WEIGHTS_FILE, WORDS_FILE, METRICS_FILE = "config.json", "model.safetensors", "words.json", "metrics.json"
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
_TEXTS = 1024
"""Texts that are embedded at once."""


class CompactEncoder:
    """A trained dual encoder; see `retrieval.encoders.protocol.Encoder`."""

    def __init__(self, model: DualEncoder, vocabulary: Vocabulary, *, name: str, fingerprint: str) -> None:
        self.model = model.eval()
        self.vocabulary = vocabulary
        self.name = name
        self.fingerprint = fingerprint
        self.dimension = model.config.dimension
        self.logit_scale = model.logit_scale.item()
        side = model.config.image_size
        self.preprocessing = Preprocessing(height=side, width=side, mean=MEAN, std=STD)

    @torch.inference_mode()
    def embed_pixels(self, pixels: Floats) -> Floats:
        """Embed preprocessed images [n, 3, size, size]; returns [n, d] of unit length."""
        if len(pixels) == 0:
            return np.empty((0, self.dimension), dtype=np.float32)
        images = torch.from_numpy(pixels).contiguous(memory_format=torch.channels_last)
        embedded: Floats = self.model.image(images).numpy()
        return embedded

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Floats:
        """Embed n texts; returns [n, d] of unit length. Words that training never saw count nothing."""
        embedded = np.empty((len(texts), self.dimension), dtype=np.float32)
        for begin in range(0, len(texts), _TEXTS):
            rows = torch.from_numpy(self.vocabulary.rows(texts[begin : begin + _TEXTS]))
            embedded[begin : begin + _TEXTS] = self.model.text(rows).numpy()
        return embedded

    def export_parts(self) -> "ExportParts":
        """The towers, for another runtime."""
        from retrieval.encoders.export_parts import ExportParts
        from retrieval.encoders.tokenization import WordTokenizer

        # A copy: exporting rearranges memory that threads of this encoder read.
        towers = copy.deepcopy(self.model).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        tokenizer = WordTokenizer(self.vocabulary)
        return ExportParts(image=towers.image, text=towers.text, tokenizer=tokenizer, convolutional=True)


def save_compact(
    directory: Path,
    model: DualEncoder,
    vocabulary: Vocabulary,
    *,
    training: dict[str, Any],
    data: dict[str, Any],
    metrics: dict[str, Any],
) -> None:
    """Write `model` as a new directory."""
    directory.mkdir(parents=True)
    weights = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in model.state_dict().items()
    }
    save_file(weights, directory / WEIGHTS_FILE, metadata={"format": "pt"})
    vocabulary.save(directory / WORDS_FILE)
    config = {
        "model_type": MODEL_TYPE,
        "schema_version": SCHEMA_VERSION,
        "sizes": asdict(model.config),
        "training": training,
        "data": data,
    }
    (directory / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n")
    (directory / METRICS_FILE).write_text(json.dumps(metrics, indent=2) + "\n")


def load_compact(directory: Path) -> CompactEncoder:
    """Load what `save_compact` wrote; EncoderError says which file is missing or does not fit."""
    try:
        config = json.loads((directory / CONFIG_FILE).read_text())
        if config.get("schema_version") != SCHEMA_VERSION:
            raise EncoderError(
                f"{directory} has schema {config.get('schema_version')}, this release reads {SCHEMA_VERSION}"
            )
        vocabulary = Vocabulary.load(directory / WORDS_FILE)
        model = DualEncoder(TypeAdapter(DualEncoderConfig).validate_python(config["sizes"]))
        weights = load_file(directory / WEIGHTS_FILE)
        model.load_state_dict(
            {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
        )
    except (OSError, ValueError, KeyError, ValidationError, SafetensorError, RuntimeError) as error:
        raise EncoderError(f"{directory} cannot be loaded as a compact encoder: {error}") from error
    if len(vocabulary) != model.config.vocabulary:
        raise EncoderError(
            f"{directory / WORDS_FILE} has {len(vocabulary) - 1} words, the weights are for "
            f"{model.config.vocabulary - 1}; restore the file that was trained with them"
        )
    model.image.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return CompactEncoder(model, vocabulary, name=f"compact:{directory.name}", fingerprint=_fingerprint(directory))


def _fingerprint(directory: Path) -> str:
    """Of what decides an embedding: not of how it was trained."""
    digest = hashlib.sha256(MODEL_TYPE.encode())
    sizes = json.loads((directory / CONFIG_FILE).read_text())["sizes"]
    digest.update(json.dumps([sizes, MEAN, STD], sort_keys=True).encode())
    for file in (WEIGHTS_FILE, WORDS_FILE):
        digest.update((directory / file).read_bytes())
    return digest.hexdigest()
