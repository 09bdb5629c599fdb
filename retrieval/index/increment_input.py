"""Read what is to be added to an index or deleted from it: what fits is taken, the rest is refused one by one."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from retrieval.errors import IndexingError
from retrieval.index.search import Mask
from retrieval.index.sources import ParquetVectors
from retrieval.index.tables import ID_COLUMN, VECTOR_COLUMN, VectorTable, lengths_of, matrix_of
from retrieval.index.vector_index import VectorIndex

_NUMBER = re.compile(r"-?[0-9]+")


@dataclass(frozen=True, slots=True)
class Refused:
    """One id that cannot be added or deleted."""

    id: Any
    """None: it has none."""
    reason: str
    """What is wrong with it, where it is from, and what to do."""


def usable_vectors(paths: Sequence[Path], index: VectorIndex) -> tuple[VectorTable, list[Refused]]:
    """Those of Parquet files' vectors that can be added to `index`, ids ascending, and the others.

    IndexingError for a file that is missing or has no columns id and vector, and for ids of another type.
    """
    given = ParquetVectors(paths)
    if given.ids.dtype != index.ids.dtype:
        raise IndexingError(
            f"ids must be {_kind(index.ids.dtype)}, as those of the index, got {_kind(given.ids.dtype)}; cast the "
            f"column {ID_COLUMN}"
        )
    refused: list[Refused] = []
    parts = [_fitting(path, index.facts.dimension, given.ids.dtype, refused) for path in paths]
    found = VectorTable(pl.concat([part.ids for part in parts]), np.concatenate([part.vectors for part in parts]))
    often = {each: count for each, count in Counter(found.ids.to_list()).items() if count > 1}
    for each, count in often.items():
        refused.append(Refused(each, f"id {each!r} is there {count} times; keep one"))
    nothing = VectorTable.empty(index.ids.dtype, index.facts.dimension)
    return nothing.joined(found.without(pl.Series(list(often), dtype=index.ids.dtype))), refused


def usable_ids(given: Sequence[Any], index: VectorIndex) -> tuple[pl.Series, list[Refused]]:
    """Those of some ids, as texts or as numbers, that can be deleted from `index`, ascending, and the others."""
    there, refused = set(), []
    for each in dict.fromkeys(given):
        try:
            told = _as_id(each, index.ids.dtype)
            known = bool(index.rows_of([told])[0] >= 0)
        except (ValueError, OverflowError):
            known = False
        if known:
            there.add(told)
        else:
            refused.append(Refused(each, f"id {each!r} is not in the index; leave it out"))
    return pl.Series(ID_COLUMN, sorted(there), index.ids.dtype), refused


def read_ids_to_delete(path: Path) -> list[Any]:
    """Ids of a Parquet file's column `id`, or of a text file with an id a line; IndexingError where there are none."""
    if path.suffix.lower() != ".parquet":
        try:
            return [line.strip() for line in path.read_text().splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise IndexingError(
                f"{path} cannot be read as a text with an id a line: {error}; or name a Parquet file with a column "
                f"{ID_COLUMN}"
            ) from error
    try:
        frame = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise IndexingError(f"{path} cannot be read as Parquet: {error}") from error
    id_type = frame.schema.get(ID_COLUMN)
    if id_type is None or not (id_type == pl.String or id_type.is_integer()):
        raise IndexingError(
            f"{path} must have a column {ID_COLUMN} of whole numbers or strings, got {id_type or 'none'} among "
            f"{', '.join(frame.columns)}; rename or cast the one that you mean"
        )
    return frame[ID_COLUMN].drop_nulls().to_list()


def _fitting(path: Path, dimension: int, id_type: pl.DataType, refused: list[Refused]) -> VectorTable:
    """The rows of one file that can be added; what is wrong with the others goes to `refused`."""
    frame = pl.read_parquet(path, columns=[ID_COLUMN, VECTOR_COLUMN])
    ids = frame[ID_COLUMN].cast(id_type)
    lengths, missing = lengths_of(frame[VECTOR_COLUMN]), ids.is_null().to_numpy()
    fits = (lengths == dimension) & ~missing
    for row in np.flatnonzero(~fits).tolist():
        if missing[row]:
            reason = f"row {row} of {path} has no {ID_COLUMN}; name it"
        else:
            reason = (
                f"the vector of id {ids[row]!r} must have {dimension} numbers, as those of the index, got "
                f"{lengths[row]}; embed it with what the index was made with"
            )
        refused.append(Refused(ids[row], reason))
    found = VectorTable(ids.filter(pl.Series(fits)), matrix_of(frame[VECTOR_COLUMN].filter(pl.Series(fits)), dimension))
    finite: Mask = np.logical_and.reduce(np.isfinite(found.vectors), axis=1)
    refused += [
        Refused(each, f"the vector of id {each!r} must be finite; embed it again or leave it out")
        for each in found.ids.filter(pl.Series(~finite))
    ]
    return found.where(finite)


def _as_id(given: Any, id_type: pl.DataType) -> Any:
    """An id as an index has it; ValueError where it cannot be one."""
    if id_type == pl.String:
        return str(given)
    if isinstance(given, str) and not _NUMBER.fullmatch(given):
        raise ValueError(given)
    return int(given)


def _kind(id_type: pl.DataType) -> str:
    return "strings" if id_type == pl.String else "whole numbers"
