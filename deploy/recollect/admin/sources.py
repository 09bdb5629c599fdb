"""Find what a build is to be made of: what was published, or Parquet files below one directory, and nothing else."""

from collections.abc import Sequence
from pathlib import Path

from recollect.admin.errors import SourceNotFound
from recollect.admin.jobs import ParquetVectors
from recollect.artifacts import ArtifactStore
from recollect.errors import ArtifactError
from recollect.gateway.errors import InvalidCall, Violation
from recollect.gateway.validation import shown


def pinned(store: ArtifactStore, reference: str) -> str:
    """The version `NAME/VERSION` that `reference` (`NAME@LABEL` or `NAME/VERSION`, of checked form) means now.

    SourceNotFound where there is none; its bytes are checked when it is read.
    """
    name, at, label = reference.partition("@")
    version: str | None = store.labelled(name, label)
    if not at:
        name, _, version = reference.partition("/")
    try:
        return store.version(name, version or "").reference
    except ArtifactError as error:
        known = ", ".join(f"{each}@{label}" for each in store.names() for label in store.labels(each)) or "none"
        raise SourceNotFound(f"there is no {store.kind.noun} {reference!r}; those with a label are {known}") from error


def parquet_vectors(root: Path, paths: Sequence[str]) -> ParquetVectors:
    """The files that `paths`, of checked form, mean below `root`, those of folders in their order.

    SourceNotFound for what is not there, InvalidCall for what leads out of `root` by a link.
    """
    files: list[Path] = []
    for index, path in enumerate(paths):
        field = f"parquet.paths[{index}]"
        place = _inside(root, root / path, field, path)
        if place.is_dir():
            found = sorted(place.glob("*.parquet"))
            if not found:
                raise SourceNotFound(f"{field} {shown(path)} is a folder without a *.parquet; put the files there")
            files += [_inside(root, each, field, path) for each in found]
        elif place.is_file():
            files.append(place)
        else:
            raise SourceNotFound(
                f"{field} {shown(path)} is not in the service's directory of build sources; put it there"
            )
    return ParquetVectors(files=tuple(files))


def _inside(root: Path, path: Path, field: str, given: str) -> Path:
    place = path.resolve()
    if not place.is_relative_to(root.resolve()):
        raise InvalidCall(
            [
                Violation(
                    field=field,
                    description=f"must stay in the service's directory of build sources, and {shown(given)} leads out "
                    "of it; put the file itself there",
                )
            ]
        )
    return place
