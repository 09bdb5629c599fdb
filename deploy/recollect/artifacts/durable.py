"""Have files on the disk, whole, before anything says that they are there; and one process at a time change them."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recollect.errors import RecollectError


def sync(path: Path) -> None:
    """Have a file or directory on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_text(path: Path, text: str) -> None:
    """Replace a small file in one step that readers see before or after, never between."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text)
    sync(partial)
    partial.replace(path)
    sync(path.parent)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait until no other process or thread is in a block for the same `path`; a process that dies lets go."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def alone(path: Path, otherwise: str) -> Iterator[None]:
    """Be the only block for `path`, without waiting: RecollectError says `otherwise` where another is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RecollectError(f"{otherwise}; wait until it is done") from None
        yield
