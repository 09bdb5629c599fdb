"""Add to the index that answers and delete from it, as a new version on top of it; the next build merges it all."""

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from recollect.artifacts import INDEXES, Artifact
from recollect.artifacts.workplace import workplace
from recollect.errors import ArtifactError, IndexRefused
from recollect.indexes.building import INDEX_DIRECTORY, IndexBuilder, open_version
from recollect.indexes.embedding import PicturesToEmbed
from retrieval.errors import IndexingError
from retrieval.index.changes import Changes
from retrieval.index.increment_input import usable_ids, usable_vectors
from retrieval.index.increments import REBUILD_FROM, changed_share, write_changed
from retrieval.index.quality import Verdict, judge
from retrieval.index.tables import VectorTable
from retrieval.index.vector_files import Refused
from retrieval.index.vector_index import VectorIndex

_STAGE, _ADDED = "increment", "added"
_SHOWN = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Increment:
    """A new version, on top of the one that answered."""

    artifact: Artifact
    index: VectorIndex
    verdict: Verdict
    added: int
    """Vectors that were added, those among them that replaced others."""
    replaced: int
    deleted: int
    refused: tuple[Refused, ...]
    """What could not be added or deleted."""

    @property
    def advice(self) -> str | None:
        """Why it should be built anew, where it should."""
        share = changed_share(self.index)
        if share <= REBUILD_FROM:
            return None
        return (
            f"{share:.0%} of the base was added, replaced or deleted since it was built, more than {REBUILD_FROM:.0%}: "
            f"searches take longer by that. Build it anew with `recollect index build {self.artifact.name}`, which "
            "merges it"
        )


def add_vectors(builder: IndexBuilder, name: str, files: Sequence[Path]) -> Increment:
    """Add the vectors of Parquet files to what `builder.label` points at, instead of those that it has of the same ids.

    What does not fit is refused by itself. IndexingError where nothing fits, IndexRefused where the new version may not
    answer, LabelMoved where the label was moved meanwhile.
    """

    def change(live: VectorIndex, _building: Path) -> "_Change":
        given, refused = usable_vectors(files, live)
        if not len(given):
            raise IndexingError(f"none of the vectors can be added: {_listed(refused)}")
        return _adding(live, given, refused)

    return _increment(builder, name, change)


def add_pictures(
    builder: IndexBuilder, name: str, to_embed: Callable[[Mapping[str, Any]], PicturesToEmbed]
) -> Increment:
    """Embed pictures and add them to what `builder.label` points at, instead of those that it has of the same ids.

    `to_embed` is told what the index was made of and gives the pictures with the encoder of that. Killed and called
    again, it goes on. Pictures that cannot be used are refused by themselves; raises as `add_vectors`, and DatasetError
    where none can be used.
    """

    def change(live: VectorIndex, building: Path) -> "_Change":
        embedded = to_embed(live.facts.source)(building / _ADDED)
        if embedded.ids.dtype != live.ids.dtype:
            raise IndexingError(
                f"ids must be {live.ids.dtype}, as those of the index, got {embedded.ids.dtype}; give the pictures ids "
                "of that type in a table"
            )
        given = VectorTable(embedded.ids, np.concatenate(list(embedded.batches())))
        return replace(_adding(live, given, list(embedded.refused)), made_in=building / _ADDED)

    return _increment(builder, name, change)


def delete_ids(builder: IndexBuilder, name: str, ids: Sequence[Any]) -> Increment:
    """Delete ids, as texts or as numbers, from what `builder.label` points at; unknown ones are refused by themselves.

    Raises as `add_vectors`.
    """

    def change(live: VectorIndex, _building: Path) -> "_Change":
        given, refused = usable_ids(ids, live)
        if not len(given):
            raise IndexingError(f"none of the ids can be deleted: {_listed(refused)}")
        return _Change(live.changes.with_removed(given), refused, deleted=len(given))

    return _increment(builder, name, change)


@dataclass(frozen=True, slots=True)
class _Change:
    changes: Changes
    refused: list[Refused]
    added: int = 0
    replaced: int = 0
    deleted: int = 0
    made_in: Path | None = None
    """What is not needed any more when it is published."""


def _adding(live: VectorIndex, given: VectorTable, refused: list[Refused]) -> _Change:
    replaced = int((live.rows_of(given.ids.to_list()) >= 0).sum())
    return _Change(live.changes.with_added(given), refused, added=len(given), replaced=replaced)


def _increment(builder: IndexBuilder, name: str, change: Callable[[VectorIndex, Path], _Change]) -> Increment:
    """Publish what answers with what `change` makes of its changes, and let it answer if it may."""
    if builder.label is None:
        raise ArtifactError("increments go on top of the version that answers; name a label")
    with _stage(builder.root, name, builder.label) as stage:
        artifact = builder.store.resolve(f"{name}@{builder.label}")
        with builder.store.hold(artifact):
            builder.told("reading", 0, 1)
            live = open_version(artifact)
            made = change(live, stage.parent)
            index = write_changed(live, made.changes, stage / INDEX_DIRECTORY, version=artifact.version)
            builder.told("reading", 1, 1)
            builder.told("judging", 0, 1)
            verdict = judge(index, builder.thresholds, live=live)
            builder.told("judging", 1, 1)
            base = index.facts.base
            parents = {"index": artifact.reference, "base": None if base is None else f"{name}/{base.version}"}
            published = builder.publish(name, stage, verdict, parents=parents)
            if made.made_in is not None:
                shutil.rmtree(made.made_in)
        if not verdict.passed:
            raise IndexRefused(published.reference, verdict.reasons)
        builder.store.set_label(name, builder.label, published.version, expected=artifact.version)
    return Increment(
        artifact=published,
        index=open_version(published),
        verdict=verdict,
        added=made.added,
        replaced=made.replaced,
        deleted=made.deleted,
        refused=tuple(made.refused),
    )


@contextmanager
def _stage(root: Path, name: str, label: str) -> Iterator[Path]:
    """An empty directory to make a version in; what a killed build has made so far stays beside it."""
    with workplace(root, name, INDEXES.noun, label=label) as building:
        stage = building / _STAGE
        shutil.rmtree(stage, ignore_errors=True)
        stage.mkdir()
        try:
            yield stage
        finally:
            shutil.rmtree(stage, ignore_errors=True)
            with contextlib.suppress(OSError):  # a build was killed there
                building.rmdir()


def _listed(refused: Sequence[Refused]) -> str:
    more = f" and {len(refused) - _SHOWN:,} more" if len(refused) > _SHOWN else ""
    return "; ".join(each.reason for each in refused[:_SHOWN]) + more if refused else "there are none"
