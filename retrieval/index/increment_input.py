"""Read what is to be added to an index or deleted from it: what fits is taken, the rest is refused one by one."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from retrieval.errors import IndexingError
from retrieval.index.tables import ID_COLUMN, VectorTable
from retrieval.index.vector_files import Refused, VectorFiles, judged, kind_of, repeated
from retrieval.index.vector_index import VectorIndex

_NUMBER = re.compile(r"-?[0-9]+")


def usable_vectors(paths: Sequence[Path], index: VectorIndex) -> tuple[VectorTable, list[Refused]]:
    """Those of Parquet files' vectors that can be added to `index`, ids ascending, and the others.

    IndexingError for a file that is missing, damaged or has no columns id and vector, and for ids of another type.
    """
    files, id_type = VectorFiles(paths), index.ids.dtype
    if files.id_type != id_type:
        raise IndexingError(
            f"ids must be {kind_of(id_type)}, as those of the index, got {kind_of(files.id_type)}; cast the column "
            f"{ID_COLUMN}"
        )
    refused: list[Refused] = []
    nothing = VectorTable.empty(id_type, index.facts.dimension)
    parts = [nothing]
    for rows in files.batches():
        _, found, wrong = judged(rows, id_type, index.facts.dimension, others="the index")
        parts.append(found)
        refused += wrong
    whole = VectorTable(pl.concat([part.ids for part in parts]), np.concatenate([part.vectors for part in parts]))
    often, wrong = repeated(whole.ids)
    return nothing.joined(whole.without(often)), refused + wrong


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
            return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise IndexingError(
                f"{path} cannot be read as a text with an id a line: {error}; or name a Parquet file with a column "
                f"{ID_COLUMN}"
            ) from error
    try:
        frame = pl.read_parquet(path, glob=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise IndexingError(f"{path} cannot be read as Parquet: {error}") from error
    id_type = frame.schema.get(ID_COLUMN)
    if id_type is None or not (id_type == pl.String or id_type.is_integer()):
        raise IndexingError(
            f"{path} must have a column {ID_COLUMN} of whole numbers or strings, got {id_type or 'none'} among "
            f"{', '.join(frame.columns)}; rename or cast the one that you mean"
        )
    return frame[ID_COLUMN].drop_nulls().to_list()


def _as_id(given: Any, id_type: pl.DataType) -> Any:
    """An id as an index has it; ValueError where it cannot be one."""
    if id_type == pl.String:
        return str(given)
    if isinstance(given, str) and not _NUMBER.fullmatch(given):
        raise ValueError(given)
    return int(given)
