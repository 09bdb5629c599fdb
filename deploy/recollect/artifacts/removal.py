"""Remove versions that nobody needs: never one that a label points at or could be rolled back to, or a process uses."""

import shutil
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

from recollect.artifacts.holds import forget, held_alone
from recollect.artifacts.labels import Labels
from recollect.artifacts.locks import locked
from retrieval.files import size_of, sync

REMOVED_SUFFIX, PARTIAL_SUFFIX = ".removed", ".partial"
PUBLISHING_LOCK, REMOVING_LOCK = ".publishing", ".removing"


@dataclass(frozen=True, kw_only=True, slots=True)
class Removed:
    """What was removed of one name."""

    versions: tuple[str, ...]
    """Oldest first."""
    held: tuple[str, ...]
    """Versions that would have gone, had no process used them."""
    leftovers: int
    """Directories that killed processes left."""
    bytes: int
    """Space that was freed."""
    evicted: tuple[str, ...] = ()
    """Versions whose copy on this machine went, and which stay where machines share them."""


def needed_versions(labels: Labels, versions: Sequence[str], keep: int) -> set[str]:
    """What a removal leaves: each label's version and the `keep` before it; of `versions`, oldest first, that never had
    a label the `keep` newest."""
    needed = {version for label in labels.all() for version in labels.stack(label)[-keep - 1 :]}
    once = {change.version for label in labels.all() for change in labels.made(label)}
    never = [version for version in versions if version not in once]
    return needed | set(never[max(0, len(never) - keep) :])


def remove_unneeded(
    directory: Path, labels: Labels, versions: Sequence[str], *, keep: int, also: Container[str] = ()
) -> Removed:
    """Remove from a name's `directory` what no label needs, of its `versions`, and what is not in `also`.

    A process that is killed here leaves a version that is there whole, or that is none any more. One that removes from
    the same name waits for the other.
    """
    with locked(directory / REMOVING_LOCK):
        return _remove_unneeded(directory, labels, versions, keep, also)


def _remove_unneeded(
    directory: Path, labels: Labels, versions: Sequence[str], keep: int, also: Container[str]
) -> Removed:
    gone, held, freed = [], [], 0
    with labels.changing():
        there = [version for version in versions if (directory / version).is_dir()]
        needed = needed_versions(labels, there, keep)
        for version in there:
            if version in needed or version in also:
                continue
            alone = held_alone(directory / version)
            if alone is None:
                held.append(version)
                continue
            with alone:
                # Renamed first: half a version would be one that is damaged.
                (directory / version).rename(directory / f".{version}{REMOVED_SUFFIX}")
                sync(directory)
                forget(directory / version)
            gone.append(version)
    leftovers = list(directory.glob(f".*{REMOVED_SUFFIX}"))
    for path in leftovers:
        # Only now: a version may share files with one that went before it, or that stays.
        freed += size_of(path, alone=True)
        shutil.rmtree(path)
    partial, partial_bytes = remove_half_published(directory)
    return Removed(
        versions=tuple(gone),
        held=tuple(held),
        leftovers=len(leftovers) - len(gone) + partial,
        bytes=freed + partial_bytes,
    )


def remove_half_published(directory: Path) -> tuple[int, int]:
    """Remove what was killed while it was published as a version of the name in `directory`: how many, and bytes."""
    if not directory.is_dir():
        return 0, 0
    with locked(directory / PUBLISHING_LOCK):
        # Nobody publishes now, so that what is half there was left.
        partial = list(directory.glob(f".*{PARTIAL_SUFFIX}"))
        freed = sum(size_of(path, alone=True) for path in partial)
        for path in partial:
            shutil.rmtree(path)
    return len(partial), freed
