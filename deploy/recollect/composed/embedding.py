"""Embed the pictures of a gallery: decoded in threads, kept on disk as they come, so that a killed command goes on.

vectors.npy     float16 [N, V, d], memory-mapped; rows are filled in order
tokens.npy      float16 [N, P, C], where features are kept
log.jsonl       a line a batch: which pictures it had, and which could not be used
"""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.format import open_memmap

from recollect.composed.references import PictureSize, ReadPicture, read_picture
from retrieval.composed.encoder import ComposedEncoder
from retrieval.composed.features import TOKENS_FILE
from retrieval.errors import ImageRefused
from retrieval.images import ImageLimits

VECTORS_FILE, LOG_FILE = "vectors.npy", "log.jsonl"
_BATCH = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class SkippedPicture:
    """A picture that could not be used."""

    path: Path
    reason: str


@dataclass(kw_only=True, slots=True)
class EmbeddedPictures:
    """Those of N pictures that could be used, n by now."""

    vectors: npt.NDArray[np.float16]
    """[N, V, d], the first n of which count."""
    rows: list[int] = field(default_factory=list)
    """[n] places in what was asked for, ascending."""
    sizes: list[PictureSize] = field(default_factory=list)
    """[n]."""
    skipped: list[SkippedPicture] = field(default_factory=list)
    """The others."""

    @property
    def usable(self) -> npt.NDArray[np.float16]:
        """[n, V, d]."""
        return self.vectors[: len(self.rows)]

    @property
    def done(self) -> int:
        """Pictures that were looked at."""
        return len(self.rows) + len(self.skipped)


def embed_pictures(
    encoder: ComposedEncoder,
    paths: Sequence[Path],
    directory: Path,
    *,
    limits: ImageLimits,
    keep_features: bool,
    threads: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> EmbeddedPictures:
    """Embed `paths` into `directory`, going on where a killed call with the same arguments stopped.

    `progress` hears how many pictures of how many are done.
    """
    shape = (len(paths), encoder.vectors, encoder.dimension)
    embedded = EmbeddedPictures(vectors=_mapped(directory / VECTORS_FILE, shape))
    tokens = None
    if keep_features:
        geometry, width = encoder.geometry, encoder.model.config.vision.hidden_size
        tokens = _mapped(directory / TOKENS_FILE, (len(paths), geometry.tokens, width))
    log = directory / LOG_FILE
    for line in _lines(log):
        _note(embedded, line, paths)
    if progress is not None:
        progress(embedded.done, len(paths))
    with ThreadPoolExecutor(threads, thread_name_prefix="decoding") as pool, log.open("a") as file:
        while embedded.done < len(paths):
            batch = range(embedded.done, min(embedded.done + _BATCH, len(paths)))
            read = list(pool.map(lambda path: _read(path, encoder, limits), [paths[row] for row in batch]))
            usable = [each for each in read if isinstance(each, ReadPicture)]
            if usable:
                features = encoder.image_tokens(np.stack([each.pixels for each in usable]))
                here = slice(len(embedded.rows), len(embedded.rows) + len(usable))
                embedded.vectors[here] = encoder.embed_gallery(features)
                embedded.vectors.flush()  # type: ignore[attr-defined] # it is mapped
                if tokens is not None:
                    tokens[here] = features
                    tokens.flush()  # type: ignore[attr-defined]
            line = [asdict(each.size) if isinstance(each, ReadPicture) else each for each in read]
            # Only now: what the log knows of is on disk.
            file.write(json.dumps(line) + "\n")
            file.flush()
            _note(embedded, line, paths)
            if progress is not None:
                progress(embedded.done, len(paths))
    return embedded


def _read(path: Path, encoder: ComposedEncoder, limits: ImageLimits) -> ReadPicture | str:
    """The picture, or why it cannot be used."""
    try:
        with path.open("rb") as file:
            return read_picture(file.read(limits.max_bytes + 1), encoder, limits)
    except ImageRefused as error:
        return str(error)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"


def _note(embedded: EmbeddedPictures, line: list[Any], paths: Sequence[Path]) -> None:
    for at, each in enumerate(line, start=embedded.done):
        if isinstance(each, str):
            embedded.skipped.append(SkippedPicture(path=paths[at], reason=each))
        else:
            size = PictureSize(width=each["width"], height=each["height"], decoded=tuple(each["decoded"]))
            embedded.rows.append(at)
            embedded.sizes.append(size)


def _lines(log: Path) -> list[list[Any]]:
    """The whole lines of the log; one that a kill has cut short is taken off."""
    if not log.exists():
        return []
    text = log.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        log.write_text(whole)
    return [json.loads(line) for line in whole.splitlines()]


def _mapped(path: Path, shape: tuple[int, ...]) -> npt.NDArray[np.float16]:
    if path.exists():
        found: npt.NDArray[np.float16] = np.load(path, mmap_mode="r+")
        return found
    partial = path.with_name(f".{path.name}.partial")
    open_memmap(partial, mode="w+", dtype=np.float16, shape=shape).flush()
    partial.rename(path)
    mapped: npt.NDArray[np.float16] = np.load(path, mmap_mode="r+")
    return mapped
