"""Decode every training picture once and keep it small on disk, so that an epoch reads pixels and decodes nothing."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import UInt8
from torch import Tensor

from retrieval.encoders.preprocessing import Preprocessing
from retrieval.errors import DatasetError, ImageRefused
from retrieval.images import decode_image

_SHARD = 2048
"""Pictures a file: what a kill can cost, and at 112 pixels 77 MB."""
_ROOM = 7 / 6
"""Side of a kept picture by that of a training picture: a crop of most of it is not enlarged."""
_THREADS = 4

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelCache:
    """N square pictures in files of some thousand, memory-mapped."""

    shards: tuple[Bytes, ...]
    usable: npt.NDArray[np.int64]
    """Positions of the pictures that could be decoded, ascending."""
    refused: dict[int, str]
    """Why the others could not, by position."""

    def take(self, positions: npt.NDArray[np.int64]) -> UInt8[Tensor, "b h w 3"]:
        """The pictures at `positions`."""
        return torch.from_numpy(np.stack([self.shards[at // _SHARD][at % _SHARD] for at in positions.tolist()]))


def pixel_cache(
    paths: Sequence[Path],
    directory: Path,
    *,
    image_size: int,
    workers: int = _THREADS,
    progress: Callable[[int, int], None] | None = None,
) -> PixelCache:
    """The middle squares of the pictures, a little larger than `image_size`; goes on where a killed call stopped.

    `directory` belongs to these paths and this size alone. Raises DatasetError where most pictures are unusable: the
    data is then not what it was thought to be.
    """
    directory.mkdir(parents=True, exist_ok=True)
    side = round(image_size * _ROOM)
    squares = Preprocessing(height=side, width=side)
    shards: list[Bytes] = []
    refused: dict[int, str] = {}
    with ThreadPoolExecutor(workers) as pool:
        for begin in range(0, len(paths), _SHARD):
            pixels, reasons = directory / f"{begin // _SHARD:05d}.npy", directory / f"{begin // _SHARD:05d}.json"
            if not reasons.exists():
                decoded = list(pool.map(lambda path: _decoded(path, squares), paths[begin : begin + _SHARD]))
                _write(pixels, reasons, decoded, side)
            shards.append(np.load(pixels, mmap_mode="r"))
            refused |= {begin + int(at): reason for at, reason in json.loads(reasons.read_text()).items()}
            if progress is not None:
                progress(min(begin + _SHARD, len(paths)), len(paths))
    if 2 * len(refused) > len(paths):
        first = min(refused)
        raise DatasetError(f"{len(refused)} of {len(paths)} pictures cannot be used; {paths[first]}: {refused[first]}")
    usable = np.setdiff1d(np.arange(len(paths)), list(refused))
    return PixelCache(shards=tuple(shards), usable=usable, refused=refused)


def _decoded(path: Path, squares: Preprocessing) -> Bytes | str:
    try:
        image = decode_image(path, target=squares.shrinks_to)
    except (ImageRefused, OSError) as error:
        return str(error)
    return np.asarray(squares.fitted(image))


def _write(pixels: Path, reasons: Path, decoded: Sequence[Bytes | str], side: int) -> None:
    """Write a shard; the reasons come last and say that it is whole."""
    kept = np.zeros((len(decoded), side, side, 3), dtype=np.uint8)
    why = {}
    for at, each in enumerate(decoded):
        if isinstance(each, str):
            why[at] = each
        else:
            kept[at] = each
    for path, write in (
        (pixels, lambda partial: np.save(partial, kept)),
        (reasons, lambda partial: partial.write_text(json.dumps(why))),
    ):
        partial = path.with_name(f".{path.name}.partial{path.suffix}")
        write(partial)
        partial.replace(path)
