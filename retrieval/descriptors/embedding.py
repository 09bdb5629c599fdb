"""Embed image files: each decoded no larger than the encoder needs, and those that cannot be used named."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from retrieval.descriptors.dataset import Skipped
from retrieval.encoders.protocol import Encoder, Floats, embed_images
from retrieval.errors import ImageRefused
from retrieval.images import decode_image


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddedFiles:
    """Those of some image files that could be decoded, embedded."""

    embeddings: Floats
    """[n, d], of unit length."""
    kept: tuple[int, ...]
    """Which files the n are, by their place in what was asked for; ascending."""
    skipped: tuple[Skipped, ...]
    """The others, with the reason of each."""


def embed_files(
    encoder: Encoder,
    paths: Sequence[Path],
    *,
    batch_size: int = 32,
    progress: Callable[[int], None] | None = None,
) -> EmbeddedFiles:
    """Decode and embed `paths`; `progress` hears after each batch how many more files are done."""
    target = encoder.preprocessing.shrinks_to
    embeddings, kept, skipped = [np.empty((0, encoder.dimension), dtype=np.float32)], [], []
    for start in range(0, len(paths), batch_size):
        batch: list[Image.Image] = []
        for at in range(start, min(start + batch_size, len(paths))):
            try:
                batch.append(decode_image(paths[at], target=target))
            except ImageRefused as error:
                skipped.append(Skipped(path=paths[at], reason=str(error)))
            except OSError as error:
                skipped.append(Skipped(path=paths[at], reason=f"cannot be read: {error.strerror or error}"))
            else:
                kept.append(at)
        if batch:
            embeddings.append(embed_images(encoder, batch))
        if progress:
            progress(min(batch_size, len(paths) - start))
    return EmbeddedFiles(embeddings=np.concatenate(embeddings), kept=tuple(kept), skipped=tuple(skipped))
