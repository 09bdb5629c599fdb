"""Where a version is made before it is published: one directory a name, one command at a time, kept over a kill.

<root>/.building/<name>/       what a command has made so far
<root>/.building/<name>.lock   held by the command
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recollect.artifacts.locks import alone
from retrieval.files import size_of

_FOLDER = ".building"


@contextmanager
def workplace(root: Path, name: str, noun: str) -> Iterator[Path]:
    """The directory to make a version of `name` in; AlreadyRunning where another command is there."""
    place = root / _FOLDER / name
    # The lock lies beside: what is made is removed when it is published.
    with alone(root / _FOLDER / f"{name}.lock", f"another command is changing {noun} {name!r}"):
        place.mkdir(parents=True, exist_ok=True)
        yield place


def remove_unfinished(root: Path, name: str, noun: str) -> int:
    """Remove what a killed command left of `name`, which could have gone on there; returns bytes that were freed.

    AlreadyRunning where a command is there still.
    """
    if not (root / _FOLDER / name).exists():
        return 0
    with workplace(root, name, noun) as place:
        freed = size_of(place, alone=True)
        shutil.rmtree(place)
    return freed
