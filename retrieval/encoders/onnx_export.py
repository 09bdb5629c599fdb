"""Write an encoder as ONNX, in fp32 or int8, and publish it only if it embeds as its source does."""

import json
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from retrieval.encoders.export_parts import Exportable, ExportParts
from retrieval.encoders.load import ONNX_MANIFEST_FILE, load_encoder
from retrieval.encoders.onnx_runtime import IMAGE_FILE, SCHEMA_VERSION, TEXT_FILE, OnnxEncoder, digest_of
from retrieval.encoders.preprocessing import Preprocessing
from retrieval.encoders.protocol import Encoder, Floats, embed_images
from retrieval.encoders.quantisation import needs_reduced_range, quantise_convolutions, quantise_products
from retrieval.errors import EncoderError

__all__ = ["ExportParts", "Exportable", "Exported", "export_onnx", "sample_images"]

LEAST_COSINE = {"fp32": 0.9999, "int8": 0.9}
"""Between an embedding of the source and one of the export, the worst of the samples. In int8 trained towers keep more
than 0.95; less than this is a tower that int8 breaks."""
_SAMPLE_TEXTS = (
    "a photo of a lamp",
    "bowl",
    "a red bowl, which has a wide handle",
    "a blurry photo of a small green vase that stands on a wooden table, which has a narrow neck and two handles",
    "",
)
_SAMPLE_IMAGES = 16
_LARGEST_FILE = 1_500_000_000
"""Bytes of weights that go into one file; protobuf stops at 2 GiB, and beyond that they lie beside it."""
_DYNAMIC = torch.export.Dim.DYNAMIC


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """What was published, and how well it embeds."""

    directory: Path
    """Where it is."""
    precision: str
    """fp32 or int8."""
    image_cosine: float
    """Least cosine between source and export over the sample images."""
    text_cosine: float
    """The same over the sample texts."""
    bytes: int
    """Of all files."""


def export_onnx(
    source: Encoder | str | Path,
    destination: Path,
    *,
    int8: bool = False,
    calibration: Sequence[Image.Image] | None = None,
) -> Exported:
    """Write `source`, an encoder with `export_parts` or what `load_encoder` takes, to the new directory `destination`.

    `calibration` are RGB pictures like those to come; an int8 tower of convolutions needs them, others are only checked
    on them. EncoderError where the source cannot be exported, where `destination` exists, and where the export embeds
    otherwise than its source, in which case nothing is published.
    """
    if destination.exists():
        raise EncoderError(f"{destination} exists; name a directory that does not")
    encoder = load_encoder(source) if isinstance(source, str | Path) else source
    if not hasattr(encoder, "export_parts"):
        raise EncoderError(
            f"{encoder.name} cannot be exported; name a checkpoint of CLIP, SigLIP or the compact encoder"
        )
    parts: ExportParts = encoder.export_parts()
    if int8 and parts.convolutional and not calibration:
        raise EncoderError(
            f"{encoder.name} is convolutional and needs pictures to be calibrated on for int8; name a folder of some"
        )
    pictures = list(calibration or sample_images(encoder.preprocessing))
    precision = "int8" if int8 else "fp32"
    destination.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{destination.name}.", dir=destination.parent) as scratch:
        partial = Path(scratch) / "export"
        partial.mkdir()
        _write_towers(partial, Path(scratch), parts, encoder.preprocessing, pictures, int8=int8)
        parts.tokenizer.save(partial)
        _write_manifest(partial, encoder, precision)
        image_cosine, text_cosine = _agreement(encoder, OnnxEncoder.load(partial), pictures[:_SAMPLE_IMAGES])
        least = LEAST_COSINE[precision]
        if not min(image_cosine, text_cosine) >= least:
            raise EncoderError(
                f"{encoder.name} must embed in {precision} with a cosine of {least} to what it embeds in torch, got "
                f"{image_cosine:.4f} for images and {text_cosine:.4f} for texts; export it in fp32"
            )
        _sync(partial)
        partial.rename(destination)
    return Exported(
        directory=destination,
        precision=precision,
        image_cosine=image_cosine,
        text_cosine=text_cosine,
        bytes=sum(path.stat().st_size for path in destination.iterdir()),
    )


def _write_towers(
    directory: Path,
    scratch: Path,
    parts: ExportParts,
    preprocessing: Preprocessing,
    pictures: list[Image.Image],
    *,
    int8: bool,
) -> None:
    plain = scratch / "fp32" if int8 else directory
    plain.mkdir(exist_ok=True)
    padding = parts.tokenizer.padding
    pixels = torch.zeros(2, 3, preprocessing.height, preprocessing.width)
    rows = torch.from_numpy(padding.apply(parts.tokenizer.ids(_SAMPLE_TEXTS[:3])))
    _write_tower(parts.image, pixels, plain / IMAGE_FILE, "pixels", {0: _DYNAMIC})
    lengths = {} if padding.to is not None else {1: _DYNAMIC}
    _write_tower(parts.text, rows, plain / TEXT_FILE, "rows", {0: _DYNAMIC} | lengths)
    if not int8:
        return
    quantise_products(plain / TEXT_FILE, directory / TEXT_FILE)
    if parts.convolutional:
        images = [preprocessing.apply(picture) for picture in pictures]
        quantise_convolutions(plain / IMAGE_FILE, directory / IMAGE_FILE, images)
    else:
        quantise_products(plain / IMAGE_FILE, directory / IMAGE_FILE)


def _write_tower(tower: nn.Module, example: torch.Tensor, path: Path, name: str, dynamic: dict[int, Any]) -> None:
    beside = sum(weight.nbytes for weight in tower.state_dict().values()) > _LARGEST_FILE
    with _without_chatter(), torch.inference_mode():
        program = torch.onnx.export(
            tower,
            (example,),
            dynamo=True,
            input_names=[name],
            output_names=["embeddings"],
            dynamic_shapes=(dynamic,),
            verbose=False,
        )
    if program is None:
        raise EncoderError(f"the {name} tower cannot be exported: torch gave no program")
    _forget_origins(program.model)
    program.save(path, external_data=beside)


def _forget_origins(model: Any) -> None:
    """Take the source lines and paths of this machine out of `model`, which would travel with it."""
    values = [*model.graph.inputs, *model.graph.initializers.values()]
    nodes = list(model.graph.all_nodes())
    values += [value for node in nodes for value in node.outputs]
    for part in (model, model.graph, *nodes, *values):
        part.metadata_props.clear()


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Without what the exporter says of torchvision, which is not wanted, and of constants that it leaves alone."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _write_manifest(directory: Path, encoder: Encoder, precision: str) -> None:
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "source": encoder.name,
        "source_fingerprint": encoder.fingerprint,
        "precision": precision,
        "reduced_range": precision == "int8" and needs_reduced_range(),
        "dimension": encoder.dimension,
        "logit_scale": encoder.logit_scale,
        "preprocessing": asdict(encoder.preprocessing),
        "files": {path.name: digest_of(path) for path in sorted(directory.iterdir())},
    }
    (directory / ONNX_MANIFEST_FILE).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _agreement(source: Encoder, export: Encoder, pictures: list[Image.Image]) -> tuple[float, float]:
    """Least cosine between source and export: over `pictures`, and over texts."""
    images = [embed_images(encoder, pictures) for encoder in (source, export)]
    texts = [encoder.embed_texts(_SAMPLE_TEXTS) for encoder in (source, export)]
    return _least_cosine(*images), _least_cosine(*texts)


def _least_cosine(wanted: Floats, found: Floats) -> float:
    return float(np.vecdot(wanted, found).min())


def sample_images(preprocessing: Preprocessing) -> list[Image.Image]:
    """Gradients with noise, each of other colours: enough to see whether two towers compute the same."""
    generator = np.random.default_rng(0)
    height, width = preprocessing.height, preprocessing.width
    down, across = np.mgrid[0:height, 0:width].astype(np.float64)  # [h, w]
    images = []
    for _ in range(_SAMPLE_IMAGES):
        waves = np.sin(
            down[..., None] * generator.uniform(0, 0.2, 3) + across[..., None] * generator.uniform(0, 0.2, 3)
        )
        noise = generator.normal(0, generator.uniform(1, 40), (height, width, 3))
        images.append(Image.fromarray((127 + 90 * waves + noise).clip(0, 255).astype(np.uint8)))
    return images


def _sync(directory: Path) -> None:
    """Have every file of `directory` on the disk before it is published."""
    for path in (*directory.iterdir(), directory):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
