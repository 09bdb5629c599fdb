"""Where the vectors of an index come from: what every source gives, arrays, and Parquet files of id and vector."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from retrieval.errors import IndexingError
from retrieval.index.search import Floats
from retrieval.index.tables import ID_COLUMN, among, lengths_of, matrix_of
from retrieval.index.vector_files import Refused, VectorFiles, VectorRows, judged, repeated

_BATCH = 16_384
"""Rows that are read at once."""

Told = Callable[[int, int], None]
"""Hears how many vectors of how many are read."""


class VectorSource(Protocol):
    """Ids and their vectors, in an order of their own."""

    @property
    def facts(self) -> dict[str, Any]:
        """What the index tells of where it came from; JSON. Sources with equal facts give equal vectors."""
        ...

    @property
    def ids(self) -> pl.Series:
        """[N] Int64 or String."""
        ...

    @property
    def dimension(self) -> int:
        """d."""
        ...

    @property
    def refused(self) -> Sequence[Refused]:
        """What is left out because it cannot be used."""
        ...

    def batches(self) -> Iterator[Floats]:
        """The vectors [n, d], in the order of the ids."""
        ...


@dataclass(frozen=True, slots=True)
class ArrayVectors:
    """Vectors that are in memory, the item rows of a model for instance."""

    ids: pl.Series
    vectors: npt.NDArray[np.floating[Any]]
    """[N, d]."""
    facts: dict[str, Any] = field(default_factory=dict)
    refused: Sequence[Refused] = ()

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.ids) != len(self.vectors):
            raise IndexingError(f"vectors must be [{len(self.ids)}, d] for as many ids, got {list(self.vectors.shape)}")

    @property
    def dimension(self) -> int:
        """d."""
        return int(self.vectors.shape[1])

    def batches(self) -> Iterator[Floats]:
        """The vectors in parts."""
        for begin in range(0, len(self.vectors), _BATCH):
            yield np.asarray(self.vectors[begin : begin + _BATCH], dtype=np.float32)


class ParquetVectors:
    """Parquet files with a column `id` of whole numbers or strings and a column `vector` of equally long lists.

    Left out and told are rows without an id, those whose vector is not finite or not as long as most are, and ids that
    are there more than once. The files are read twice: which rows count must be known before any is taken.
    """

    def __init__(
        self, paths: Sequence[Path], *, max_bad_rows: float = 0.01, told: Told = lambda _done, _of: None
    ) -> None:
        """`max_bad_rows` is the share that may be left out; `told` hears how many rows of how many are looked at.

        IndexingError where more must be, and for a file that is missing, damaged or has no such columns.
        """
        self._files = VectorFiles(paths)
        self._stamps = {path: _stamp(path) for path in paths}
        count, done = self._files.count, 0
        ids, used, refused = [pl.Series(ID_COLUMN, [], self._files.id_type)], [np.zeros(0, dtype=np.bool_)], []
        self.dimension = 0
        for rows in self._files.batches():
            self.dimension = self.dimension or _usual_length(rows)
            mask, found, wrong = judged(rows, self._files.id_type, self.dimension, others="most rows")
            ids.append(found.ids)
            used.append(mask)
            refused += wrong
            _require_few(len(refused), count, max_bad_rows, refused)
            done += len(rows)
            told(done, count)
        self.ids, self._used = pl.concat(ids), np.concatenate(used)
        often, wrong = repeated(self.ids)
        once = ~among(self.ids, often)
        self.ids = self.ids.filter(pl.Series(once))
        self._used[self._used] = once
        self.refused: Sequence[Refused] = [*refused, *wrong]
        _require_few(len(self._used) - len(self.ids), count, max_bad_rows, self.refused)
        # A file that was written anew is another source, whatever its size.
        self.facts: dict[str, Any] = {"kind": "parquet", "files": list(self._stamps.values())}
        if self.refused:
            self.facts["refused"] = len(self.refused)

    def batches(self) -> Iterator[Floats]:
        """The vectors in parts; IndexingError where a file was written anew since it was looked at."""
        at = 0
        for rows in self._files.batches():
            if _stamp(rows.path) != self._stamps[rows.path]:
                raise IndexingError(f"{rows.path} was changed while it was read; build again")
            used = pl.Series(self._used[at : at + len(rows)])
            yield matrix_of(rows.vectors.filter(used), self.dimension)
            at += len(rows)


def _usual_length(rows: VectorRows) -> int:
    """How many numbers most vectors have; 0 where none has any."""
    lengths = lengths_of(rows.vectors)
    return int(np.bincount(lengths[lengths > 0], minlength=1).argmax())


def _stamp(path: Path) -> dict[str, Any]:
    """Another one for a file that was written anew, or is at another place."""
    state = path.stat()
    return {"path": str(path.resolve()), "bytes": state.st_size, "modified_ns": state.st_mtime_ns}


def _require_few(bad: int, count: int, max_bad_rows: float, refused: Sequence[Refused]) -> None:
    if bad > max_bad_rows * count:
        raise IndexingError(
            f"more than {max_bad_rows:.2%} of {count:,} rows cannot be used (max_bad_rows), and nothing is built; the "
            f"first: {refused[0].reason}. Mend them, or allow more to be left out"
        )


def ordered_ids(source: VectorSource) -> tuple[pl.Series, npt.NDArray[np.int64]]:
    """The ids ascending, and the row [N] of each of the source's vectors among them.

    IndexingError where there are none, or one is missing or there twice.
    """
    ids = source.ids
    if not len(ids):
        raise IndexingError("there are no vectors to index; name a source that has some")
    if ids.null_count():
        raise IndexingError(f"every vector must have an id, row {int(ids.is_null().arg_max() or 0)} has none; name it")
    order = ids.arg_sort().to_numpy()
    ascending = ids.gather(order)
    twice = np.flatnonzero((ascending[1:] == ascending[:-1]).to_numpy())
    if len(twice):
        raise IndexingError(
            f"ids must be distinct, {ascending[int(twice[0])]!r} is there twice ({len(twice)} repeats in all); keep one"
        )
    rows = np.empty(len(ids), dtype=np.int64)
    rows[order] = np.arange(len(ids))
    return ascending.alias(ID_COLUMN), rows


def write_ordered(path: Path, source: VectorSource, rows: npt.NDArray[np.int64], told: Told) -> None:
    """Write the source's vectors as [N, d] fp32, each at its row. IndexingError names the first that is not finite."""
    shape = (len(rows), source.dimension)
    if source.dimension < 1:
        raise IndexingError("vectors must have at least one number, the first has none; embed it again")
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        offset = file.tell()
        # On a full disk a write through a memory map ends the process; taking the space first raises OSError.
        os.posix_fallocate(file.fileno(), offset, shape[0] * shape[1] * 4)
    vectors = np.memmap(path, dtype=np.float32, mode="r+", offset=offset, shape=shape)
    at = 0
    for batch in source.batches():
        bad = np.flatnonzero(~np.isfinite(batch).all(axis=1))
        if len(bad):
            raise IndexingError(
                f"vectors must be finite, that of id {source.ids[at + int(bad[0])]!r} is not; embed it again or leave "
                "it out"
            )
        vectors[rows[at : at + len(batch)]] = batch
        at += len(batch)
        told(at, len(rows))
    vectors.flush()
