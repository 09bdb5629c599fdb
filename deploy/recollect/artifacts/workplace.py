"""Where a version is made before it is published: one directory a name, one command at a time, kept over a kill.

<root>/.building/<name>/       what a command has made so far
<root>/.building/<name>.lock   held by the command
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recollect.artifacts.kinds import NAME, check_name
from recollect.artifacts.locks import alone
from recollect.artifacts.removal import PARTIAL_SUFFIX, REMOVED_SUFFIX
from retrieval.files import size_of

_FOLDER = ".building"


@contextmanager
def workplace(root: Path, name: str, noun: str, *, label: str | None) -> Iterator[Path]:
    """The directory to make a version of `name` in; AlreadyRunning where another command is there.

    ArtifactError, before anything is made, where `name` or the `label` that the version is to get cannot be one.
    """
    check_name(f"name of {noun}", name)
    if label is not None:
        check_name("label", label)
    place = root / _FOLDER / name
    # The lock lies beside: what is made is removed when it is published.
    with alone(root / _FOLDER / f"{name}.lock", f"another command is changing {noun} {name!r}"):
        place.mkdir(parents=True, exist_ok=True)
        yield place


def remove_unfinished(root: Path, name: str, noun: str) -> int:
    """Remove what a killed command left of `name`, which could have gone on there; returns bytes that were freed.

    AlreadyRunning where a command is there still.
    """
    check_name(f"name of {noun}", name)
    if not (root / _FOLDER / name).exists():
        return 0
    with workplace(root, name, noun, label=None) as place:
        freed = size_of(place, alone=True)
        shutil.rmtree(place)
    return freed


def unfinished_names(root: Path) -> list[str]:
    """Names of which a killed command has left something, or one is making a version, in their order."""
    begun = {path.name for path in (root / _FOLDER).glob("*") if path.is_dir()}
    half = {path.parent.name for suffix in (PARTIAL_SUFFIX, REMOVED_SUFFIX) for path in root.glob(f"*/.*{suffix}")}
    return sorted(name for name in begun | half if NAME.fullmatch(name))
