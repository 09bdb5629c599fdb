"""What a model is shown of a reference picture: all of it, or, for ablations, the box drawn or cut out."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from retrieval.composed.datasets.dataset import ComposedDataset, ComposedQuery
from retrieval.composed.features import FrozenFeatures, freeze_features
from retrieval.composed.geometry import Box, Floats, ImageGeometry
from retrieval.composed.model import AdaFocal
from retrieval.errors import DatasetError, ImageRefused
from retrieval.images import decode_image

_RED = (255, 0, 0)
_LINE = 80
"""Longer side of a picture by the width of the rectangle's line."""


class Reference(StrEnum):
    """What the model is shown of a reference picture; all but WHOLE are ablations."""

    WHOLE = "whole"
    """The picture; the box goes to the modulator."""
    RECTANGLE = "rectangle"
    """The picture with the box drawn on it in red."""
    CROP = "crop"
    """What the box holds, and nothing else."""


Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetFeatures:
    """Frozen features of one split of a data set, and the masks of its queries."""

    pictures: FrozenFeatures
    """Of every picture."""
    references: FrozenFeatures
    """Of what is shown of the references; the same as `pictures` for WHOLE."""
    reference_names: tuple[str, ...]
    """Name in `references` for each query."""
    masks: Floats
    """[Q, P] M of each query's box; zeros where the picture shows the box already."""


def dataset_features(
    dataset: ComposedDataset,
    model: AdaFocal,
    directory: Path,
    *,
    reference: Reference = Reference.WHOLE,
    progress: Progress | None = None,
) -> DatasetFeatures:
    """Run the frozen image encoder over the pictures of `dataset`, or find in `directory` what an earlier run kept.

    A picture whose file was replaced since, under the same name, is run over again.
    DatasetError names a picture that cannot be used.
    """
    geometry = model.config.geometry
    names, keys = sorted(dataset.images), dataset.keys()
    pictures = freeze_features(
        directory / "pictures",
        names,
        lambda name: geometry.pixels(_decoded(dataset.images[name])),
        model,
        keys=[keys[name] for name in names],
        progress=progress,
    )
    if reference is Reference.WHOLE:
        return DatasetFeatures(
            pictures=pictures,
            references=pictures,
            reference_names=tuple(query.reference for query in dataset.queries),
            masks=_masks(dataset, geometry),
        )
    asked = {_shown_name(query): query for query in dataset.queries}
    names = sorted(asked)
    references = freeze_features(
        directory / reference,
        names,
        lambda name: geometry.pixels(
            shown(_decoded(dataset.images[asked[name].reference]), asked[name].box, reference)
        ),
        model,
        keys=[keys[asked[name].reference] for name in names],
        progress=progress,
    )
    return DatasetFeatures(
        pictures=pictures,
        references=references,
        reference_names=tuple(_shown_name(query) for query in dataset.queries),
        masks=np.zeros((len(dataset.queries), geometry.tokens), dtype=np.float32),
    )


def shown(image: Image.Image, box: Box | None, reference: Reference) -> Image.Image:
    """The picture as `reference` says; as it is where there is no box."""
    if box is None or reference is Reference.WHOLE:
        return image
    inside = box.checked(*image.size)
    sides = tuple(round(side) for side in (inside.x1, inside.y1, inside.x2, inside.y2))
    if reference is Reference.CROP:
        left, top, right, bottom = sides
        return image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
    drawn = image.copy()
    ImageDraw.Draw(drawn).rectangle(sides, outline=_RED, width=max(1, round(max(image.size) / _LINE)))
    return drawn


def _masks(dataset: ComposedDataset, geometry: ImageGeometry) -> Floats:
    masks = np.zeros((len(dataset.queries), geometry.tokens), dtype=np.float32)
    sizes: dict[str, tuple[int, int]] = {}
    for mask, query in zip(masks, dataset.queries, strict=True):
        if query.box is not None:
            if query.reference not in sizes:
                sizes[query.reference] = _decoded(dataset.images[query.reference]).size
            size = sizes[query.reference]
            mask[:] = geometry.mask(geometry.moved(query.box.checked(*size), *size))
    return masks


def _shown_name(query: ComposedQuery) -> str:
    box = query.box
    return query.reference if box is None else f"{query.reference} {box.x1:g},{box.y1:g},{box.x2:g},{box.y2:g}"


def _decoded(path: Path) -> Image.Image:
    try:
        return decode_image(path)
    except (ImageRefused, OSError) as error:
        raise DatasetError(f"{path} cannot be used: {error}; replace it or leave it out") from error
