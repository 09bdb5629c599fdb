"""The vectors of a gallery as they lie on disk: floats, or a byte a dimension with a scale a vector; read by row."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieval.errors import IndexingError
from retrieval.index.search import Floats, Ids
from retrieval.index.spec import Storage

_LEVELS = 127
_PART = 1024
"""Images that are written at once."""
_SCALE_BYTES = 2
_FLOATS: dict[Storage, np.dtype[Any]] = {
    Storage.FP32: np.dtype(np.float32),
    Storage.FP16: np.dtype(np.float16),
}
_BYTES: np.dtype[Any] = np.dtype(np.uint8)


class StoredVectors:
    """[N, V, d], memory-mapped. A byte a dimension is an integer from −127 to 127 times the vector's scale."""

    def __init__(self, path: Path, storage: Storage) -> None:
        self._raw: npt.NDArray[Any] = np.load(path, mmap_mode="r")
        self._as_bytes = storage not in _FLOATS
        expected = _FLOATS.get(storage, _BYTES)
        if self._raw.ndim != 3 or self._raw.dtype != expected:
            raise IndexingError(
                f"{path} must hold [N, V, d] of {expected} for storage {storage}, got {list(self._raw.shape)} of "
                f"{self._raw.dtype}; build it again"
            )
        images, vectors, width = self._raw.shape
        self.shape: tuple[int, int, int] = (images, vectors, width - _SCALE_BYTES if self._as_bytes else width)

    def take(self, rows: Ids | slice) -> Floats:
        """Vectors [n, V, d] of some images."""
        raw = np.asarray(self._raw[rows])
        if not self._as_bytes:
            return raw.astype(np.float32)
        scale = np.ascontiguousarray(raw[..., -_SCALE_BYTES:]).view(np.float16).astype(np.float32)
        values: Floats = raw[..., :-_SCALE_BYTES].view(np.int8) * scale
        return values

    def flat(self) -> "FlatVectors":
        """The same as [N · V, d], for an index that knows no images."""
        return FlatVectors(self)

    @property
    def bytes(self) -> int:
        """Size of all."""
        return int(self._raw.nbytes)

    def raw(self, rows: Ids | slice) -> npt.NDArray[Any]:
        """Some images as they lie on disk."""
        return np.asarray(self._raw[rows])


class FlatVectors:
    """Rows of `StoredVectors` one after the other."""

    def __init__(self, stored: StoredVectors) -> None:
        self._stored = stored
        images, self._each, dimension = stored.shape
        self.shape = (images * self._each, dimension)

    def __getitem__(self, rows: Ids | slice) -> Floats:
        taken: Floats
        if isinstance(rows, slice):
            begin, end, _ = rows.indices(self.shape[0])
            first = begin // self._each
            whole = self._stored.take(slice(first, -(-end // self._each))).reshape(-1, self.shape[1])
            taken = whole[begin - first * self._each : end - first * self._each]
            return taken
        images, place = np.divmod(rows, self._each)
        parts = [
            self._stored.take(images[at : at + _PART])[np.arange(len(images[at : at + _PART])), place[at : at + _PART]]
            for at in range(0, len(rows), _PART)
        ]
        taken = np.concatenate(parts)
        return taken


def write_vectors(path: Path, vectors: Any, storage: Storage, *, before: StoredVectors | None = None) -> None:
    """Write `before`, where there is something, and `vectors` [n, V, d] behind it.

    `vectors` may be of any floating type, and memory-mapped: it is read in parts.
    """
    count, each, dimension = vectors.shape
    kept = before.shape[0] if before is not None else 0
    dtype = _FLOATS.get(storage, _BYTES)
    width = dimension if storage in _FLOATS else dimension + _SCALE_BYTES

    def parts() -> Iterator[npt.NDArray[Any]]:
        if before is not None:
            yield from _parts_of(before, np.arange(kept))
        for begin in range(0, count, _PART):
            part = np.asarray(vectors[begin : begin + _PART], dtype=np.float32)
            yield part.astype(dtype) if storage in _FLOATS else _bytes_of(part)

    _write(path, (kept + count, each, width), dtype, parts())


def write_rows(path: Path, stored: StoredVectors, rows: Ids) -> None:
    """Write the images at `rows` alone, as they are."""
    first = stored.raw(slice(0, 0))
    _write(path, (len(rows), *first.shape[1:]), first.dtype, _parts_of(stored, rows))


def _parts_of(stored: StoredVectors, rows: Ids) -> Iterator[npt.NDArray[Any]]:
    for begin in range(0, len(rows), _PART):
        yield stored.raw(rows[begin : begin + _PART])


def _write(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], parts: Iterator[npt.NDArray[Any]]) -> None:
    # Not through a memory map: on a full disk that ends the process, where a write raises OSError.
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            file.write(np.ascontiguousarray(part).data)


def _bytes_of(vectors: Floats) -> npt.NDArray[np.uint8]:
    # Rounded up to the half above, so that the largest number stays within 127 levels of the scale that is kept.
    scale = np.nextafter((np.abs(vectors).max(axis=-1, keepdims=True) / _LEVELS).astype(np.float16), np.float16(1))
    levels = np.rint(vectors / scale.astype(np.float32)).clip(-_LEVELS, _LEVELS).astype(np.int8)
    return np.concatenate([levels.view(np.uint8), np.ascontiguousarray(scale).view(np.uint8)], axis=-1)
