"""Keep a version from being removed while a process reads it: a lock that is gone with the process.

<name>/.holds/<version>    locked, shared, by every process that uses the version
"""

import fcntl
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from recollect.errors import ArtifactError


class Hold:
    """A version in use by this process, until `release`, the end of a `with` block, or of the process."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def release(self) -> None:
        """Let the version be removed; again changes nothing."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def hold(version: Path) -> Hold:
    """Hold the version in that directory; ArtifactError where it was removed, perhaps a moment ago."""
    file = _file_of(version).open("a")
    fcntl.flock(file, fcntl.LOCK_SH)
    if not version.is_dir():
        file.close()
        raise ArtifactError(f"{version} was removed; name a version that is there")
    return Hold(file)


def held_alone(version: Path) -> Hold | None:
    """Hold a version that no other process uses, so that none can begin to; None where one does."""
    file = _file_of(version).open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return Hold(file)


def forget(version: Path) -> None:
    """Remove the file of a version that is gone."""
    (version.parent / ".holds" / version.name).unlink(missing_ok=True)


def _file_of(version: Path) -> Path:
    path = version.parent / ".holds" / version.name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
