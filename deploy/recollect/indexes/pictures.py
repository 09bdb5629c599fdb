"""Which pictures an index is made of: a folder, a table of paths, or Parquet files that hold the pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from recollect.composed.sources import read_source
from retrieval.errors import DatasetError
from retrieval.files import file_key
from retrieval.index.tables import ID_COLUMN

IMAGE_COLUMN, PATH_COLUMN, KEY_COLUMN = "image", "path", "key"
BYTES_FIELD = "bytes"
"""Of a column `image` that has a structure, as data sets on the Hugging Face hub do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pictures:
    """N pictures, each with an id of its own."""

    source: Path
    """As it was named."""
    wanted: pl.DataFrame
    """[N] `id`, whole numbers or strings; `key`, another where the picture changed; `path`, where it is a file."""
    tables: tuple[Path, ...] = ()
    """Parquet files with columns `id` and `image` that hold the pictures; none where they are files."""


def read_pictures(source: Path) -> Pictures:
    """The pictures of a folder at any depth, a CSV, TSV or Parquet file of paths relative to it, or one of pictures.

    A folder that has Parquet files directly in it is a table in parts. Ids are the paths below the folder, or the
    table's column `id`, which pictures that have no paths must have. DatasetError says what is missing or repeats.
    """
    tables = sorted(source.glob("*.parquet")) if source.is_dir() else [source] if _is_parquet(source) else []
    if not tables:
        return _of_files(source)
    try:
        schemas = [pl.scan_parquet(table, glob=False).collect_schema() for table in tables]
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DatasetError(f"{source} cannot be read as Parquet: {error}") from error
    for table, schema in zip(tables, schemas, strict=True):
        _require_columns(table, schema, schemas[0])
    if schemas[0][IMAGE_COLUMN] == pl.String:
        return _of_paths(source, tables)
    return _of_tables(source, tables, schemas)


def _of_files(source: Path) -> Pictures:
    found = read_source(source)
    return _made(source, pl.Series(ID_COLUMN, list(found.ids)), list(found.paths))


def _of_paths(source: Path, tables: Sequence[Path]) -> Pictures:
    frames = [pl.read_parquet(table, glob=False) for table in tables]
    ids = pl.concat([frame[ID_COLUMN if ID_COLUMN in frame.columns else IMAGE_COLUMN] for frame in frames])
    images = [(table.parent, each) for table, frame in zip(tables, frames, strict=True) for each in frame[IMAGE_COLUMN]]
    missing = next((row for row, (_, each) in enumerate(images) if not each), None)
    if missing is not None:
        raise DatasetError(f"{source} row {missing}: {IMAGE_COLUMN} must not be empty; name the file or leave it out")
    return _made(source, ids, [(folder / each).resolve() for folder, each in images])


def _of_tables(source: Path, tables: Sequence[Path], schemas: Sequence[Mapping[str, pl.DataType]]) -> Pictures:
    if any(ID_COLUMN not in schema for schema in schemas):
        raise DatasetError(f"{source} must have a column {ID_COLUMN} beside pictures without paths; add one")
    parts = []
    for table in tables:
        state = table.stat()
        ids = pl.read_parquet(table, columns=[ID_COLUMN], glob=False)[ID_COLUMN]
        parts.append(pl.DataFrame({ID_COLUMN: ids, KEY_COLUMN: f"{state.st_size}-{state.st_mtime_ns}"}))
    wanted = _with_ids(source, pl.concat(parts))
    return Pictures(source=source, wanted=wanted, tables=tuple(table.resolve() for table in tables))


def _made(source: Path, ids: pl.Series, paths: Sequence[Path]) -> Pictures:
    columns = {
        ID_COLUMN: ids,
        KEY_COLUMN: [file_key(path) for path in paths],
        PATH_COLUMN: [str(path) for path in paths],
    }
    return Pictures(source=source, wanted=_with_ids(source, pl.DataFrame(columns)))


def _with_ids(source: Path, wanted: pl.DataFrame) -> pl.DataFrame:
    ids = wanted[ID_COLUMN]
    if not len(ids):
        raise DatasetError(f"{source} has no pictures")
    if ids.null_count():
        raise DatasetError(f"{source} row {int(ids.is_null().arg_max() or 0)}: {ID_COLUMN} must not be empty; name it")
    twice = ids.filter(ids.is_duplicated())
    if len(twice):
        raise DatasetError(
            f"{source} must have one row for each {ID_COLUMN}, {twice[0]!r} came more than once; keep one"
        )
    if ids.dtype == pl.String:
        return wanted
    taken = ids.cast(pl.Int64, strict=False)
    if taken.null_count():
        raise DatasetError(
            f"{source} must have numbers below 2**63 as {ID_COLUMN}, got {ids[int(taken.is_null().arg_max() or 0)]}; "
            "number the pictures anew, or make all ids strings"
        )
    return wanted.with_columns(taken)


def _require_columns(table: Path, schema: Mapping[str, pl.DataType], first: Mapping[str, pl.DataType]) -> None:
    id_type, image_type = schema.get(ID_COLUMN), schema.get(IMAGE_COLUMN)
    if id_type is not None and not (id_type == pl.String or id_type.is_integer()):
        raise DatasetError(f"{table} must have whole numbers or strings as {ID_COLUMN}, got {id_type}; cast it")
    inner = {field.name: field.dtype for field in image_type.fields} if isinstance(image_type, pl.Struct) else {}
    if image_type not in (pl.String, pl.Binary) and inner.get(BYTES_FIELD) != pl.Binary:
        raise DatasetError(
            f"{table} must have a column {IMAGE_COLUMN} of paths or of the bytes of pictures, got "
            f"{image_type or 'none'} among {', '.join(schema)}; rename or cast the one that you mean"
        )
    if (id_type, image_type) != (first.get(ID_COLUMN), first[IMAGE_COLUMN]):
        raise DatasetError(f"{table} must have {ID_COLUMN} and {IMAGE_COLUMN} as the file before it; cast them")


def _is_parquet(source: Path) -> bool:
    return source.suffix.lower() == ".parquet"
