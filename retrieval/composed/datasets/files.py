"""Read the JSON and CSV files that data sets are published as, with errors that name file and place."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from retrieval.errors import DatasetError


def read_mapping(path: Path) -> dict[str, Any]:
    """The JSON object in `path`."""
    content = _read(path)
    if not isinstance(content, dict):
        raise DatasetError(f"{path} must be a JSON object, got {type(content).__name__}; is it another file's content?")
    return content


def read_paths(path: Path) -> dict[str, str]:
    """The JSON object in `path`, each of whose values is a path."""
    content = read_mapping(path)
    for name, value in content.items():
        if not isinstance(value, str):
            raise DatasetError(f"{path}: picture {name!r} must have a path, got {value!r}; unpack the data set again")
    return content


def read_rows(path: Path, keys: Sequence[str]) -> list[dict[str, Any]]:
    """The list of JSON objects in `path`, each with `keys`."""
    content = _read(path)
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise DatasetError(f"{path} must be a list of JSON objects; is it another file's content?")
    for number, row in enumerate(content):
        missing = [key for key in keys if key not in row]
        if missing:
            raise DatasetError(f"{path} row {number} lacks {', '.join(missing)}; it has {', '.join(row) or 'nothing'}")
    return content


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV that has `columns`; a cell that is not there is empty."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            missing = [column for column in columns if column not in (rows.fieldnames or ())]
            if missing:
                raise DatasetError(
                    f"{path} must have the columns {', '.join(columns)}; {' and '.join(missing)} missing, it has "
                    f"{', '.join(rows.fieldnames or ()) or 'no header'}"
                )
            return [{key: (value or "").strip() for key, value in row.items() if key is not None} for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error


def existing(path: Path, what: str) -> Path:
    """`path`; DatasetError where there is nothing, with the names beside it that come close."""
    if path.exists():
        return path
    beside = sorted(each.name for each in path.parent.glob(f"*{path.suffix}")) if path.parent.is_dir() else []
    there = f"; {path.parent} has {', '.join(beside[:8])}" if beside else ""
    raise DatasetError(f"{path} is missing, which holds {what}{there}")


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read: {error}; unpack the data set again") from error
