"""Read a checkpoint in the published Hugging Face layout: which files it has, and how it wants its images."""

import hashlib
import json
from pathlib import Path
from typing import Any

from PIL import Image

from retrieval.encoders.preprocessing import Fit, Preprocessing
from retrieval.errors import EncoderError

CONFIG_FILE = "config.json"
_WEIGHTS_FILE = "model.safetensors"
_INDEX_FILE = "model.safetensors.index.json"
_PREPROCESSING_FILE, _PROCESSOR_FILE = "preprocessor_config.json", "processor_config.json"
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "tokenizer.model",
)
PATTERNS = [CONFIG_FILE, _WEIGHTS_FILE, "model-*.safetensors", _INDEX_FILE, _PREPROCESSING_FILE, _PROCESSOR_FILE]
"""Names of what is fetched from the hub, with those of the tokenizer; nothing that is unpickled is among them."""
PATTERNS += _TOKENIZER_FILES
_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt", "open_clip_pytorch_model.bin")


def read_json(path: Path) -> dict[str, Any]:
    """The object in `path`; EncoderError where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EncoderError(f"{path} cannot be read: {error}; restore the file or download it again") from error
    if not isinstance(content, dict):
        raise EncoderError(f"{path} must be a JSON object, got {type(content).__name__}; download it again")
    return content


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files of a checkpoint; EncoderError where one is missing or only pickled weights are there."""
    if (directory / _WEIGHTS_FILE).is_file():
        return [directory / _WEIGHTS_FILE]
    if (directory / _INDEX_FILE).is_file():
        index = read_json(directory / _INDEX_FILE)
        files = [directory / Path(name).name for name in sorted(set(index.get("weight_map", {}).values()))]
        for file in files:
            if not file.is_file():
                raise EncoderError(f"{directory} lacks {file.name}, which {_INDEX_FILE} names; download it again")
        if files:
            return files
    pickled = [name for name in _PICKLED if (directory / name).exists()]
    if pickled:
        raise EncoderError(
            f"{directory} must have its weights as safetensors, got {pickled[0]}, which can run code when it is read; "
            "take a revision that has model.safetensors, or convert it where you trust it with save_pretrained"
        )
    raise EncoderError(f"{directory} lacks {_WEIGHTS_FILE}; download it, or name a directory that has it")


def tokenizer_files(directory: Path) -> list[Path]:
    """The files of a checkpoint's tokenizer; EncoderError where no vocabulary is among them."""
    found = [directory / name for name in _TOKENIZER_FILES if (directory / name).is_file()]
    names = {path.name for path in found}
    if not names & {"tokenizer.json", "spiece.model", "tokenizer.model"} and not {"vocab.json", "merges.txt"} <= names:
        raise EncoderError(
            f"{directory} lacks a tokenizer: tokenizer.json, vocab.json with merges.txt, or spiece.model; download it"
        )
    return found


def fingerprint_of(directory: Path) -> str:
    """Hex digest of every file that decides an embedding, whatever the directory is called."""
    digest = hashlib.sha256(b"hugging face, torch")
    others = [directory / name for name in (CONFIG_FILE, _PREPROCESSING_FILE, _PROCESSOR_FILE)]
    for path in (*others, *weight_files(directory), *tokenizer_files(directory)):
        if path.is_file():
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
            digest.update(path.name.encode() + b"\0" + content)
    return digest.hexdigest()


def read_preprocessing(directory: Path) -> Preprocessing:
    """How the checkpoint wants its images; EncoderError where it wants what is not done here."""
    path = directory / _PREPROCESSING_FILE
    if path.is_file():
        settings = read_json(path)
    elif (directory / _PROCESSOR_FILE).is_file():
        path = directory / _PROCESSOR_FILE
        settings = read_json(path).get("image_processor", {})
    else:
        raise EncoderError(f"{directory} lacks {_PREPROCESSING_FILE}; download it, or name a directory that has it")
    try:
        return _preprocessing(settings)
    except (KeyError, TypeError, ValueError) as error:
        raise EncoderError(
            f"{path} must resize to a fixed size, scale by 1/255 and normalise, as CLIP and SigLIP do; "
            f"it does not: {error!r}; use another checkpoint"
        ) from error


def _preprocessing(settings: dict[str, Any]) -> Preprocessing:
    for step in ("do_resize", "do_rescale"):
        if not settings.get(step, True):
            raise ValueError(f"{step} is false")
    if abs(settings.get("rescale_factor", 1 / 255) * 255 - 1) > 1e-6:
        raise ValueError(f"rescale_factor is {settings['rescale_factor']}")
    if settings.get("do_pad"):
        raise ValueError("do_pad is true")
    normalised = settings.get("do_normalize", True)
    shape = _shape(settings["size"], settings.get("crop_size"), cropped=settings.get("do_center_crop", False))
    return Preprocessing(
        **shape,
        resample=int(settings.get("resample", Image.Resampling.BICUBIC)),
        mean=tuple(map(float, settings["image_mean"])) if normalised else (0.0, 0.0, 0.0),  # type: ignore[arg-type]
        std=tuple(map(float, settings["image_std"])) if normalised else (1.0, 1.0, 1.0),  # type: ignore[arg-type]
    )


def _shape(size: Any, crop: Any, *, cropped: bool) -> dict[str, Any]:
    if isinstance(size, int):
        # Before sizes had names, one number was the shortest side where there is a crop, and both sides elsewhere.
        size = {"shortest_edge": size} if cropped else {"height": size, "width": size}
    if isinstance(crop, int):
        crop = {"height": crop, "width": crop}
    if "longest_edge" not in size and cropped and "shortest_edge" in size:
        height, width = crop["height"], crop["width"]
        if size["shortest_edge"] < max(height, width):
            raise ValueError(f"size {size} is less than crop_size {crop}")
        return {"height": height, "width": width, "fit": Fit.CROP, "shortest": size["shortest_edge"]}
    if set(size) == {"height", "width"} and (not cropped or crop == size):
        return {"height": size["height"], "width": size["width"], "fit": Fit.STRETCH}
    raise ValueError(f"size is {size} with crop_size {crop}")
