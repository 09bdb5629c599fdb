"""Read which pictures a gallery should have, and what is known of each: from a folder or a table."""

import csv
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from retrieval.errors import DatasetError

ID_COLUMN, IMAGE_COLUMN = "id", "image"
_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp"})
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_SHOWN = 3
"""Names that a complaint lists."""


@dataclass(frozen=True, kw_only=True)
class PictureSource:
    """N pictures, each with an id of its own."""

    ids: tuple[str, ...]
    paths: tuple[Path, ...]
    """Their files, whole paths."""
    metadata: pl.DataFrame | None
    """[N] rows of what is known of them, as texts; a picture that nothing is known of has nulls. None: no columns."""

    def take(self, rows: list[int]) -> "PictureSource":
        """Only the pictures at `rows`."""
        return PictureSource(
            ids=tuple(self.ids[row] for row in rows),
            paths=tuple(self.paths[row] for row in rows),
            metadata=None if self.metadata is None else self.metadata[rows],
        )


def read_source(source: Path, *, metadata: Path | None = None) -> PictureSource:
    """The pictures of a folder, at any depth, or of a CSV or TSV with a column `image` of paths relative to it.

    Ids are the paths below the folder, or the table's column `id`, or that of images. Further columns, and those of
    the table `metadata`, which has a column `id` or `image` as well, are what is known of the pictures. Raises
    DatasetError.
    """
    if source.is_dir():
        ids, paths = _of_folder(source)
        known: list[dict[str, str]] = [{} for _ in ids]
    elif source.suffix.lower() in _DELIMITERS:
        ids, paths, known = _of_table(source)
    else:
        raise DatasetError(
            f"{source} must be a folder of pictures or a .csv or .tsv with a column {IMAGE_COLUMN!r}"
            + ("" if source.exists() else "; there is no such file")
        )
    if not ids:
        raise DatasetError(f"{source} has no pictures; they end in {', '.join(sorted(_SUFFIXES))}")
    twice = [image_id for image_id, count in Counter(ids).items() if count > 1]
    if twice:
        raise DatasetError(
            f"{source} must have one row for each id, {_listed(twice)} came more than once; give them ids of their own"
        )
    if metadata is not None:
        _add(dict(zip(ids, known, strict=True)), metadata)
    columns = list(dict.fromkeys(column for row in known for column in row))
    table = {column: [row.get(column) or None for row in known] for column in columns}
    frame = pl.DataFrame(table, schema=dict.fromkeys(columns, pl.String)) if columns else None
    return PictureSource(ids=tuple(ids), paths=tuple(paths), metadata=frame)


def _of_folder(source: Path) -> tuple[list[str], list[Path]]:
    ids, paths = [], []
    seen: set[str] = set()
    for directory, folders, files in os.walk(source, followlinks=True):
        # A link to a folder above must not go round for ever.
        here = os.path.realpath(directory)
        folders[:] = [] if here in seen else sorted(name for name in folders if not name.startswith("."))
        for name in [] if here in seen else sorted(files):
            if Path(name).suffix.lower() in _SUFFIXES and not name.startswith("."):
                path = Path(directory, name)
                ids.append(path.relative_to(source).as_posix())
                paths.append(path.resolve())
        seen.add(here)
    return ids, paths


def _of_table(source: Path) -> tuple[list[str], list[Path], list[dict[str, str]]]:
    ids, paths, known = [], [], []
    for line, row in _rows(source, {IMAGE_COLUMN}):
        image = row.pop(IMAGE_COLUMN)
        image_id = row.pop(ID_COLUMN, image)
        if not image or not image_id:
            raise DatasetError(f"{source} line {line}: {IMAGE_COLUMN} and {ID_COLUMN} must not be empty")
        ids.append(image_id)
        paths.append((source.parent / image).resolve())
        known.append(row)
    return ids, paths, known


def _add(known: dict[str, dict[str, str]], table: Path) -> None:
    """Add to the row of each id in `known` what `table` says of it; what it says of others is left out."""
    found, unknown = 0, []
    for line, row in _rows(table, {ID_COLUMN, IMAGE_COLUMN}):
        image = row.pop(IMAGE_COLUMN, "")
        image_id = row.pop(ID_COLUMN, image)
        if image_id in known:
            known[image_id].update(row)
            found += 1
        else:
            unknown.append(f"{image_id!r} of line {line}")
    if not found:
        raise DatasetError(
            f"{table} says nothing of any picture ({_listed(unknown) or 'it has no rows'}); ids are as "
            f"{next(iter(known))!r}"
        )


def _rows(table: Path, either: set[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Number of the line and values of each row, stripped; DatasetError where it has none of the columns `either`."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, delimiter=_DELIMITERS.get(table.suffix.lower(), ","))
            columns = rows.fieldnames or []
            if not either & set(columns):
                raise DatasetError(
                    f"{table} must have a column {' or '.join(map(repr, sorted(either)))}, it has "
                    f"{', '.join(map(repr, columns)) or 'none'}"
                )
            for row in rows:
                yield rows.line_num, {column: (row[column] or "").strip() for column in columns}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{table} cannot be read as a table: {error}") from error


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
