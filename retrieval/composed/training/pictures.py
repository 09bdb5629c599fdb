"""Training pictures as the encoder's squares: decoded once, kept in a memory-mapped file, taken by position."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from numpy.lib.format import open_memmap
from torch import Tensor

from retrieval.composed.geometry import Box, Floats, ImageGeometry
from retrieval.encoders.training.captions import read_captions
from retrieval.errors import DatasetError, ImageRefused
from retrieval.images import decode_image

_PIXELS_FILE = "pixels.npy"


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionedObjects:
    """N pictures of one boxed object each, with what is true of them."""

    names: tuple[str, ...]
    """Of the pictures."""
    paths: tuple[Path, ...]
    """Their files."""
    boxes: tuple[Box | None, ...]
    """Of the object, in pixels of the file."""
    instances: tuple[str, ...]
    """Which object it is."""
    captions: tuple[tuple[str, ...], ...]
    """What is true of each picture, at least one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Squares:
    """N pictures as squares of bytes."""

    pixels: npt.NDArray[np.uint8]
    """[N, S, S, 3], memory-mapped."""
    masks: Floats
    """[N, P] M of each picture's box."""
    geometry: ImageGeometry

    def take(self, at: npt.NDArray[np.int64]) -> Float[Tensor, "b 3 s s"]:
        """The encoder's pixels of the pictures at `at`."""
        mean, std = (torch.tensor(each).view(3, 1, 1) for each in (self.geometry.mean, self.geometry.std))
        values = torch.from_numpy(np.asarray(self.pixels[at])).permute(0, 3, 1, 2).float().div_(255)
        return ((values - mean) / std).contiguous(memory_format=torch.channels_last)


def squares(
    objects: CaptionedObjects,
    geometry: ImageGeometry,
    directory: Path,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Squares:
    """Decode the pictures into `directory`; DatasetError names the first that cannot be used."""
    directory.mkdir(parents=True, exist_ok=True)
    shape = (len(objects.paths), geometry.size, geometry.size, 3)
    pixels = open_memmap(directory / _PIXELS_FILE, mode="w+", dtype=np.uint8, shape=shape)
    masks = np.zeros((len(objects.paths), geometry.tokens), dtype=np.float32)
    for at, (path, box) in enumerate(zip(objects.paths, objects.boxes, strict=True)):
        try:
            image = decode_image(path)
        except (ImageRefused, OSError) as error:
            raise DatasetError(f"{path} cannot be used: {error}; replace it or leave it out") from error
        pixels[at] = np.asarray(geometry.fitted(image))
        if box is not None:
            masks[at] = geometry.mask(geometry.moved(box.checked(*image.size), *image.size))
        if progress is not None:
            progress(at + 1, len(objects.paths))
    return Squares(pixels=pixels, masks=masks, geometry=geometry)


def captioned_objects(
    images: Mapping[str, Path], boxes: Mapping[str, Box], instances: Mapping[str, str], captions: Path
) -> CaptionedObjects:
    """The pictures of `images` that `captions`, a CSV with columns image and caption, says something about.

    The column image holds paths relative to the CSV. Raises DatasetError where it says nothing about any of them.
    """
    table = read_captions(captions)
    told = {
        path.resolve(): tuple(table.captions[at] for at in own)
        for path, own in zip(table.paths, table.own, strict=True)
    }
    found = [(name, path) for name, path in images.items() if path.resolve() in told]
    if len(found) < 2:
        raise DatasetError(
            f"{captions} must have captions for the pictures of the data set, got {len(found)} of {len(images)}; its "
            "column image holds paths relative to the file"
        )
    return CaptionedObjects(
        names=tuple(name for name, _ in found),
        paths=tuple(path for _, path in found),
        boxes=tuple(boxes.get(name) for name, _ in found),
        instances=tuple(instances.get(name, name) for name, _ in found),
        captions=tuple(told[path.resolve()] for _, path in found),
    )
