"""Where the vectors of an index come from: what every source gives, arrays, and Parquet files of id and vector."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from retrieval.errors import IndexingError
from retrieval.index.search import Floats
from retrieval.index.tables import ID_COLUMN, VECTOR_COLUMN, lengths_of, matrix_of

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
    """Parquet files with a column `id` of whole numbers or strings and a column `vector` of equally long lists."""

    def __init__(self, paths: Sequence[Path], *, facts: dict[str, Any] | None = None) -> None:
        """IndexingError for a file that is missing or has no such columns."""
        if not paths:
            raise IndexingError("no Parquet file is named; name one with columns id and vector")
        self._paths = tuple(paths)
        for path in paths:
            try:
                columns = pl.read_parquet_schema(path)
            except (OSError, pl.exceptions.PolarsError) as error:
                raise IndexingError(f"{path} cannot be read as Parquet: {error}") from error
            self._require_columns(path, columns)
        self.ids = pl.concat([pl.read_parquet(path, columns=[ID_COLUMN])[ID_COLUMN] for path in paths])
        if self.ids.dtype != pl.String:
            self.ids = self.ids.cast(pl.Int64)
        first = pl.scan_parquet(paths[0], glob=False).select(VECTOR_COLUMN).head(1).collect()[VECTOR_COLUMN]
        self.dimension = 0 if not len(first) or first[0] is None else len(first[0])
        found = [(path.resolve(), path.stat()) for path in paths]
        # A file that was written anew is another source, whatever its size.
        files = [{"path": str(path), "bytes": it.st_size, "modified_ns": it.st_mtime_ns} for path, it in found]
        self.facts = {"kind": "parquet", "files": files} if facts is None else facts

    def batches(self) -> Iterator[Floats]:
        """The vectors in parts; IndexingError names the row whose vector is missing or of another length."""
        for path in self._paths:
            at = 0
            frame = pl.scan_parquet(path, glob=False).select(VECTOR_COLUMN)
            for batch in frame.collect_batches(chunk_size=_BATCH, maintain_order=True, engine="streaming"):
                yield self._matrix(path, at, batch[VECTOR_COLUMN])
                at += len(batch)

    def _matrix(self, path: Path, first: int, vectors: pl.Series) -> Floats:
        lengths = lengths_of(vectors)
        wrong = np.flatnonzero(lengths != self.dimension)
        if len(wrong):
            raise IndexingError(
                f"vectors must all have {self.dimension} numbers as the first one, row {first + int(wrong[0])} of "
                f"{path} has {int(lengths[wrong[0]])}; leave it out or embed it again"
            )
        return matrix_of(vectors, self.dimension)

    def _require_columns(self, path: Path, columns: Mapping[str, pl.DataType]) -> None:
        id_type, vector_type = columns.get(ID_COLUMN), columns.get(VECTOR_COLUMN)
        if id_type is None or not (id_type == pl.String or id_type.is_integer()):
            raise IndexingError(
                f"{path} must have a column {ID_COLUMN} of whole numbers or strings, got {id_type or 'none'} among "
                f"{', '.join(columns)}; rename or cast the one that you mean"
            )
        if not isinstance(vector_type, pl.List | pl.Array) or not vector_type.inner.is_numeric():
            raise IndexingError(
                f"{path} must have a column {VECTOR_COLUMN} of lists of numbers, got {vector_type or 'none'} among "
                f"{', '.join(columns)}; rename or cast the one that you mean"
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
