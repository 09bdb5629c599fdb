"""Read Parquet files of id and vector, and tell the rows that can be used from those that cannot, each with why."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from retrieval.errors import IndexingError
from retrieval.index.search import Mask
from retrieval.index.tables import ID_COLUMN, VECTOR_COLUMN, VectorTable, lengths_of, matrix_of

_BATCH = 16_384
"""Rows that are read at once."""


@dataclass(frozen=True, slots=True)
class Refused:
    """One id that cannot be used."""

    id: Any
    """None: it has none."""
    reason: str
    """What is wrong with it, where it is from, and what to do."""


@dataclass(frozen=True, slots=True)
class VectorRows:
    """Rows of a file that follow one another, as they came."""

    path: Path
    first: int
    """Number of the first one in the file."""
    ids: pl.Series
    """[n] of whole numbers or strings."""
    vectors: pl.Series
    """[n] lists or arrays of numbers."""

    def __len__(self) -> int:
        return len(self.ids)


class VectorFiles:
    """Parquet files with a column `id` of whole numbers or strings and a column `vector` of lists of numbers."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """IndexingError for a file that is missing, has no such columns, or has ids of another kind than the first."""
        if not paths:
            raise IndexingError("no Parquet file is named; name one with columns id and vector")
        self.paths = tuple(paths)
        self.id_type: pl.DataType = _id_type(paths[0])
        for path in paths[1:]:
            found = _id_type(path)
            if found != self.id_type:
                raise IndexingError(
                    f"{path} must have {kind_of(self.id_type)} as {ID_COLUMN}, as {paths[0]}, got {kind_of(found)}; "
                    "cast one of them"
                )

    @property
    def count(self) -> int:
        """Rows of all files, by what they say of themselves."""
        return sum(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item() for path in self.paths)

    def batches(self) -> Iterator[VectorRows]:
        """All rows, in parts of one file each; IndexingError where a file turns out to be damaged."""
        for path in self.paths:
            first = 0
            frame = pl.scan_parquet(path, glob=False).select(ID_COLUMN, VECTOR_COLUMN)
            try:
                for batch in frame.collect_batches(chunk_size=_BATCH, maintain_order=True, engine="streaming"):
                    yield VectorRows(path, first, batch[ID_COLUMN], batch[VECTOR_COLUMN])
                    first += len(batch)
            except (OSError, pl.exceptions.PolarsError) as error:
                raise IndexingError(f"{path} cannot be read from row {first} on: {error}; write it anew") from error


def judged(
    rows: VectorRows, id_type: pl.DataType, dimension: int, *, others: str
) -> tuple[Mask, VectorTable, list[Refused]]:
    """Which rows [n] fit among vectors of `dimension` numbers, what these hold, and what is wrong with the others.

    Ids are of `id_type`, and may still be there twice. `others` says in a reason whose dimension it is.
    """
    ids = rows.ids.cast(id_type, strict=False)
    lengths, missing = lengths_of(rows.vectors), ids.is_null().to_numpy()
    fits: Mask = (lengths == dimension) & (lengths > 0) & ~missing
    refused = []
    for row in np.flatnonzero(~fits).tolist():
        where = f"row {rows.first + row} of {rows.path}"
        if rows.ids[row] is None:
            refused.append(Refused(None, f"{where} has no {ID_COLUMN}; name it"))
        elif missing[row]:
            reason = f"id {rows.ids[row]!r} must be below 2**63; number it anew, or make all ids strings"
            refused.append(Refused(rows.ids[row], reason))
        elif not lengths[row]:
            refused.append(Refused(ids[row], f"the vector of id {ids[row]!r} is empty; embed it, or leave it out"))
        else:
            reason = (
                f"the vector of id {ids[row]!r} must have {dimension} numbers, as those of {others}, got "
                f"{lengths[row]}; embed it as those were, or leave it out"
            )
            refused.append(Refused(ids[row], reason))
    found = VectorTable(ids.filter(pl.Series(fits)), matrix_of(rows.vectors.filter(pl.Series(fits)), dimension))
    finite: Mask = np.logical_and.reduce(np.isfinite(found.vectors), axis=1)
    refused += [
        Refused(each, f"the vector of id {each!r} must be finite; embed it again or leave it out")
        for each in found.ids.filter(pl.Series(~finite))
    ]
    fits[fits] = finite
    return fits, found.where(finite), refused


def repeated(ids: pl.Series) -> tuple[pl.Series, list[Refused]]:
    """The ids that are there more than once, each once, and what is wrong with them: nobody says which one counts."""
    often = ids.alias(ID_COLUMN).value_counts().filter(pl.col("count") > 1).sort(ID_COLUMN)
    return often[ID_COLUMN], [
        Refused(each, f"id {each!r} is there {count} times; keep one") for each, count in often.rows()
    ]


def kind_of(id_type: pl.DataType) -> str:
    """Ids of a type, as a person says it."""
    return "strings" if id_type == pl.String else "whole numbers"


def _id_type(path: Path) -> pl.DataType:
    """Int64 or String, as the ids of a file are taken; IndexingError where it has not both columns."""
    try:
        columns: Mapping[str, pl.DataType] = pl.scan_parquet(path, glob=False).collect_schema()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise IndexingError(f"{path} cannot be read as Parquet: {error}") from error
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
    return pl.String() if id_type == pl.String else pl.Int64()
