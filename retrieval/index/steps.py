"""Files that a long job keeps of its finished steps: each is there whole, with its hash, or does not count."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from retrieval.files import digest, write_whole

_JOB_FILE = "job.json"


def begin(work: Path, job: dict[str, Any]) -> None:
    """Make `work` the place of `job`: what another job left there is removed, what this one left is kept."""
    note = work / _JOB_FILE
    told = json.dumps(job, indent=2, sort_keys=True) + "\n"
    if note.is_file() and note.read_text() == told:
        return
    shutil.rmtree(work, ignore_errors=True)
    write_whole(note, told)


def make(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` make a file, which appears as `path` and counts when it is whole; nothing where it is already."""
    if is_whole(path):
        return
    partial = path.with_name(f".{path.name}.partial")
    try:
        write(partial)
    except OSError as error:
        # Of a full disk the system tells no name.
        error.filename = error.filename or str(path)
        raise
    partial.replace(path)
    write_whole(_mark(path), json.dumps(digest(path)))


def is_whole(path: Path) -> bool:
    """Whether the step that makes `path` was finished, and the file is what it was then."""
    try:
        return bool(json.loads(_mark(path).read_text()) == digest(path))
    except (OSError, ValueError):
        return False


def _mark(path: Path) -> Path:
    return path.with_name(f"{path.name}.whole")
