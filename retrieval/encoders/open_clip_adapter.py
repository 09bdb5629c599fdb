"""Models of the open_clip package behind the `Encoder` protocol, for checkpoints that are published for it alone.

It needs the packages open_clip_torch and torchvision, which Recollect does not bring: on a CPU torchvision must be the
build for the CPU, from the index that torch came from.
"""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image

from retrieval.encoders.batching import TEXTS_A_BATCH, embed_pixels_in_batches
from retrieval.encoders.preprocessing import Fit, Preprocessing
from retrieval.encoders.protocol import Floats
from retrieval.encoders.published import read_json
from retrieval.errors import EncoderError

_FITS = {"shortest": Fit.CROP, "squash": Fit.STRETCH}
_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


class OpenClipEncoder:
    """A model of open_clip."""

    def __init__(self, name: str, model: Any, tokenizer: Any, preprocessing: Preprocessing, device: str) -> None:
        self.name = f"open_clip {name}"
        self.preprocessing = preprocessing
        self.logit_scale = float(model.logit_scale.detach().exp())
        self._model, self._tokenizer, self._device = model, tokenizer, device
        with torch.inference_mode():
            self.dimension = int(model.encode_text(tokenizer(["a"]).to(device)).shape[-1])

    @cached_property
    def fingerprint(self) -> str:
        """As in `Encoder`."""
        digest = hashlib.sha256(f"{self.name} {self.preprocessing}".encode())
        for key, weight in sorted(self._model.state_dict().items()):
            digest.update(key.encode() + weight.detach().float().cpu().numpy().tobytes())
        return digest.hexdigest()

    def embed_pixels(self, pixels: Floats) -> Floats:
        """As in `Encoder`."""
        return embed_pixels_in_batches(pixels, self.preprocessing, self.dimension, self._embed_images)

    def embed_texts(self, texts: Sequence[str]) -> Floats:
        """As in `Encoder`; every text is padded to the length that the model was trained with."""
        batches = [texts[start : start + TEXTS_A_BATCH] for start in range(0, len(texts), TEXTS_A_BATCH)]
        with torch.inference_mode():
            found = [self._model.encode_text(self._tokenizer(list(batch)).to(self._device)) for batch in batches]
        return _unit(torch.cat(found) if found else torch.empty(0, self.dimension))

    def _embed_images(self, pixels: Floats) -> Floats:
        with torch.inference_mode():
            return _unit(self._model.encode_image(torch.from_numpy(pixels).to(self._device)))


def load_open_clip(name: str, *, device: str = "cpu") -> OpenClipEncoder:
    """The model "ARCHITECTURE@FILE", where FILE is a local open_clip_model.safetensors.

    How images are prepared is read from the open_clip_config.json beside it; without one, as is usual with the
    architecture.
    EncoderError where the weights are not safetensors and where the package is missing or does not work.
    """
    architecture, _, weights = name.partition("@")
    file = Path(weights).expanduser()
    if file.suffix != ".safetensors" or not file.is_file():
        raise EncoderError(
            "open_clip needs ARCHITECTURE@FILE, such as ViT-B-32@open_clip_model.safetensors, where FILE exists and is "
            f"safetensors, got {name!r}; download the file from the model's page"
        )
    open_clip = _package()
    config = file.with_name("open_clip_config.json")
    preparing = read_json(config).get("preprocess_cfg", {}) if config.is_file() else {}
    try:
        model = open_clip.create_model(
            architecture, pretrained=str(file), device=device, force_preprocess_cfg=preparing
        )
        tokenizer = open_clip.get_tokenizer(architecture)
    except Exception as error:  # of open_clip, of safetensors, of shapes
        raise EncoderError(f"open_clip cannot load {name}: {error}; name the architecture that {file} has") from error
    return OpenClipEncoder(name, model.eval(), tokenizer, _preprocessing(model.visual.preprocess_cfg), device)


def _package() -> Any:
    try:
        return import_module("open_clip")
    except Exception as error:  # where torchvision does not fit torch, it fails with whatever it stumbles on
        raise EncoderError(
            f"open_clip encoders need the packages open_clip_torch and torchvision: {type(error).__name__}: {error}; "
            "install both from the index that torch came from, or use a checkpoint in the Hugging Face layout"
        ) from error


def _preprocessing(settings: dict[str, Any]) -> Preprocessing:
    size = settings["size"]
    height, width = (size, size) if isinstance(size, int) else size
    mode, interpolation = settings.get("resize_mode", "shortest"), settings.get("interpolation", "bicubic")
    if mode not in _FITS or interpolation not in _FILTERS:
        raise EncoderError(
            f"open_clip must resize by {' or '.join(_FITS)} with {' or '.join(_FILTERS)}, "
            f"got {mode} with {interpolation}; use another checkpoint"
        )
    return Preprocessing(
        height=height,
        width=width,
        fit=_FITS[mode],
        resample=int(_FILTERS[interpolation]),
        mean=tuple(settings["mean"]),
        std=tuple(settings["std"]),
    )


def _unit(embeddings: torch.Tensor) -> Floats:
    found: Floats = F.normalize(embeddings.float(), dim=-1).cpu().numpy()
    return found
