"""Let one process at a time change what is on the disk; a process that dies lets go."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recollect.errors import AlreadyRunning


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Be the only process and thread in a block for the same `path`; a process that dies lets go.

    Gives True; with `wait=False` it gives False, at once, where another one is in such a block.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


@contextmanager
def alone(path: Path, otherwise: str) -> Iterator[None]:
    """Be the only block for `path`, without waiting: AlreadyRunning says `otherwise` where another is."""
    with locked(path, wait=False) as free:
        if not free:
            raise AlreadyRunning(f"{otherwise}; wait until it is done")
        yield
