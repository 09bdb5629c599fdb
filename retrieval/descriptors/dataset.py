"""Read which images there are and what each shows, from a folder a class, a table, or the Grocery Store data set."""

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from retrieval.errors import DatasetError

CLASSES_FILE = "classes.csv"
"""Stands beside the lists of the Grocery Store data set and names its classes."""
_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp"})
_DELIMITERS = {".csv": ",", ".tsv": "\t"}


class DatasetFormat(StrEnum):
    """How images and labels are laid out."""

    FOLDER = "folder"
    """A folder a class, at any depth; a file's class is the folder it lies in."""
    TABLE = "table"
    """CSV or TSV with a header; paths are relative to the table."""
    GROCERY = "grocery"
    """Lines of `path, fine class, coarse class` by number, with `classes.csv` beside."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledImage:
    """An image file and what it shows."""

    path: Path
    """Of the file."""
    label: str
    """Name of its class, as the data set spells it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Skipped:
    """An image that could not be used."""

    path: Path
    """Of the file, or where it should have been."""
    reason: str
    """Why, in words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledImages:
    """The images of a data set; what could not be used is named."""

    source: Path
    """The folder, table or list that they were read from."""
    images: tuple[LabelledImage, ...]
    """At least one."""
    skipped: tuple[Skipped, ...] = ()
    """Files that are missing or have no label."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The distinct labels, in the order in which they first come."""
        return tuple(dict.fromkeys(image.label for image in self.images))


def read_images(
    source: Path,
    *,
    dataset_format: DatasetFormat | None = None,
    image_column: str = "image",
    label_column: str = "label",
) -> LabelledImages:
    """The labelled images of `source`; without `dataset_format` its layout is recognised.

    Missing files and rows without a label are skipped and named. Raises DatasetError where `source` is none of the
    layouts or has no usable image.
    """
    chosen = dataset_format or _recognised(source)
    try:
        if chosen is DatasetFormat.FOLDER:
            rows = list(_folder_rows(source))
        elif chosen is DatasetFormat.TABLE:
            rows = list(_table_rows(source, image_column, label_column))
        else:
            rows = list(_grocery_rows(source))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{source} cannot be read as {chosen.value}: {error}") from error
    images, skipped = [], []
    for path, label in rows:
        if not label:
            skipped.append(Skipped(path=path, reason="has no label"))
        elif not path.is_file():
            skipped.append(Skipped(path=path, reason="is missing"))
        else:
            images.append(LabelledImage(path=path, label=label))
    if not images:
        first = f"; the first, {skipped[0].path}, {skipped[0].reason}" if skipped else ""
        raise DatasetError(f"{source} names {len(rows)} images, none of which can be used{first}")
    return LabelledImages(source=source, images=tuple(images), skipped=tuple(skipped))


def _recognised(source: Path) -> DatasetFormat:
    if source.is_dir():
        return DatasetFormat.FOLDER
    if source.suffix.lower() in _DELIMITERS:
        return DatasetFormat.TABLE
    if (source.parent / CLASSES_FILE).is_file():
        return DatasetFormat.GROCERY
    raise DatasetError(
        f"{source} must be a folder with a folder a class, a .csv or .tsv with columns image and label, or a list with "
        f"{CLASSES_FILE} beside it" + ("" if source.exists() else "; there is no such file")
    )


def _folder_rows(source: Path) -> Iterator[tuple[Path, str]]:
    seen: set[str] = set()
    for directory, folders, files in os.walk(source, followlinks=True):
        # Folders are often links to where the images are kept; a link to a folder above must not go round for ever.
        here = os.path.realpath(directory)
        folders[:] = [] if here in seen else sorted(name for name in folders if not name.startswith("."))
        if here in seen:
            continue
        seen.add(here)
        label = "" if Path(directory) == source else Path(directory).name
        for name in sorted(files):
            if Path(name).suffix.lower() in _SUFFIXES and not name.startswith("."):
                yield Path(directory, name), label


def _table_rows(source: Path, image_column: str, label_column: str) -> Iterator[tuple[Path, str]]:
    with source.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file, delimiter=_DELIMITERS.get(source.suffix.lower(), ","))
        columns = rows.fieldnames or []
        for column in (image_column, label_column):
            if column not in columns:
                raise DatasetError(
                    f"{source} must have a column {column!r}, it has {', '.join(map(repr, columns)) or 'none'}; "
                    "name its columns of images and labels"
                )
        for row in rows:
            yield source.parent / (row[image_column] or "").strip(), (row[label_column] or "").strip()


def _grocery_rows(source: Path) -> Iterator[tuple[Path, str]]:
    with (source.parent / CLASSES_FILE).open(encoding="utf-8-sig", newline="") as file:
        names = {row[1].strip(): row[0].strip() for row in csv.reader(file) if len(row) > 1}
    with source.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            fields = [field.strip() for field in line.split(",")]
            if fields == [""]:
                continue
            if len(fields) < 2 or fields[1] not in names:
                raise DatasetError(
                    f"line {number} of {source} must be `path, class, coarse class` with a class number of "
                    f"{CLASSES_FILE}, got {line.strip()!r}"
                )
            yield source.parent / fields[0], names[fields[1]]
