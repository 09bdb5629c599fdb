"""Check what is to go into a gallery: ids unlike each other, vectors of unit length, a row of metadata each."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from retrieval.errors import IndexingError

ID_COLUMN, SLOT_COLUMN = "image_id", "gallery_slot"
_UNIT = 1e-2
"""How far from 1 a vector's length may be; halves round it."""
_PART = 1024
"""Images that are checked at once."""


def checked_rows(ids: Sequence[str], metadata: pl.DataFrame | None) -> pl.DataFrame:
    """The ids with what is told of each; IndexingError where ids repeat or the metadata does not fit them."""
    seen: set[str] = set()
    for image_id in ids:
        if image_id in seen:
            raise IndexingError(f"ids must be unlike each other, {image_id!r} is there more than once; leave one out")
        seen.add(image_id)
    rows = pl.DataFrame({ID_COLUMN: list(ids)}, schema={ID_COLUMN: pl.String})
    if metadata is None:
        return rows
    taken = [name for name in metadata.columns if name in (ID_COLUMN, SLOT_COLUMN)]
    if taken:
        raise IndexingError(f"metadata must not have a column {taken[0]!r}, which the gallery keeps itself; rename it")
    if metadata.width and len(metadata) != len(ids):
        raise IndexingError(f"metadata must have a row for each of {len(ids)} ids, got {len(metadata)}")
    return rows.hstack(metadata.get_columns())


def check_vectors(ids: Sequence[str], vectors: Any) -> None:
    """IndexingError where `vectors` is not [N, V, d] for N ids, or one of them is not finite or not of unit length."""
    if vectors.ndim != 3 or len(vectors) != len(ids) or not vectors.shape[1] or not vectors.shape[2]:
        raise IndexingError(f"vectors must be [{len(ids)}, V, d], one set for each id, got {list(vectors.shape)}")
    for begin in range(0, len(ids), _PART):
        lengths = np.linalg.norm(np.asarray(vectors[begin : begin + _PART], dtype=np.float32), axis=-1)
        wrong = np.argwhere(~(np.abs(lengths - 1) <= _UNIT))
        if len(wrong):
            image, place = (int(at) for at in wrong[0])
            length, name = float(lengths[image, place]), f"vector {place} of picture {ids[begin + image]!r}"
            if math.isfinite(length):
                raise IndexingError(f"{name} must have length 1, got {length:g}; divide each vector by its length")
            raise IndexingError(f"{name} must be finite, got length {length}; embed it again or leave it out")
