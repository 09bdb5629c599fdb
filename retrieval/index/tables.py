"""Ids and their vectors as Parquet holds them, and in memory, for sources and for what is added to an index."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from retrieval.errors import IndexingError
from retrieval.index.search import Floats, Mask

ID_COLUMN, VECTOR_COLUMN = "id", "vector"


@dataclass(frozen=True, slots=True)
class VectorTable:
    """n ids, all whole numbers or all strings, and a vector each."""

    ids: pl.Series
    """[n] Int64 or String."""
    vectors: Floats
    """[n, d], as they were given."""

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def empty(cls, id_type: pl.DataType, dimension: int) -> "VectorTable":
        """Nothing, of a kind."""
        return cls(pl.Series(ID_COLUMN, [], id_type), np.empty((0, dimension), dtype=np.float32))

    @classmethod
    def read(cls, path: Path, dimension: int) -> "VectorTable":
        """What `write` wrote."""
        frame = pl.read_parquet(path, glob=False)
        return cls(frame[ID_COLUMN], matrix_of(frame[VECTOR_COLUMN], dimension))

    def write(self, path: Path) -> None:
        """As Parquet, with columns id and vector."""
        write_table(pl.DataFrame([self.ids.alias(ID_COLUMN), pl.Series(VECTOR_COLUMN, self.vectors)]), path)

    def where(self, mask: Mask) -> "VectorTable":
        """Only some."""
        return VectorTable(self.ids.filter(pl.Series(mask)), self.vectors[mask])

    def without(self, ids: pl.Series) -> "VectorTable":
        """Those whose id is not among `ids`."""
        return self.where(~among(self.ids, ids))

    def joined(self, other: "VectorTable") -> "VectorTable":
        """Both, ids ascending; none may be in both."""
        ids = pl.concat([self.ids.alias(ID_COLUMN), other.ids.alias(ID_COLUMN)])
        order = ids.arg_sort().to_numpy()
        return VectorTable(ids.gather(order), np.concatenate([self.vectors, other.vectors])[order])


def write_table(frame: pl.DataFrame, path: Path) -> None:
    """Write `frame` as Parquet; IndexingError where the disk is full."""
    try:
        frame.write_parquet(path)
    except pl.exceptions.PolarsError as error:
        # Polars tells of a full disk so.
        raise IndexingError(f"{path} cannot be written: {error}; make room and repeat") from error


def among(ids: pl.Series, others: pl.Series) -> Mask:
    """[n] whether each id is one of `others`; a missing one is not, and no name is a number."""
    if ids.dtype != others.dtype:
        return np.zeros(len(ids), dtype=np.bool_)
    mask: Mask = ids.is_in(others.implode()).fill_null(value=False).to_numpy()
    return mask


def lengths_of(vectors: pl.Series) -> npt.NDArray[np.int64]:
    """[n] numbers of each vector of a column of lists; 0 for one that is missing."""
    lengths: npt.NDArray[np.int64] = _lists(vectors).list.len().fill_null(0).cast(pl.Int64).to_numpy()
    return lengths


def matrix_of(vectors: pl.Series, dimension: int) -> Floats:
    """A column of lists of `dimension` numbers each as [n, d]; a number that is missing becomes NaN."""
    flat = _lists(vectors).explode(empty_as_null=False).cast(pl.Float32).fill_null(float("nan"))
    matrix: Floats = flat.to_numpy().reshape(len(vectors), dimension)
    return matrix


def _lists(vectors: pl.Series) -> pl.Series:
    return vectors.arr.to_list() if isinstance(vectors.dtype, pl.Array) else vectors
