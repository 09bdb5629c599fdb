"""Let one process at a time change what is on the disk; a process that dies lets go."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recollect.errors import AlreadyRunning


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait until no other process or thread is in a block for the same `path`; a process that dies lets go."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def alone(path: Path, otherwise: str) -> Iterator[None]:
    """Be the only block for `path`, without waiting: AlreadyRunning says `otherwise` where another is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(f"{otherwise}; wait until it is done") from None
        yield
