"""Change an index without building it: the base's files are linked, what changed since lies beside; builds merge it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from retrieval.errors import IndexingError
from retrieval.files import link_or_copy
from retrieval.index.changes import FILES, BaseFacts, Changes
from retrieval.index.files import Manifest, read_manifest, write_manifest
from retrieval.index.search import Floats
from retrieval.index.sources import VectorSource
from retrieval.index.tables import VectorTable, among
from retrieval.index.vector_files import Refused
from retrieval.index.vector_index import IndexFacts, VectorIndex, norms, read_ids

_BASE = ("index", "ids", "vectors")
REBUILD_FROM = 0.1
"""Share of a base, added, replaced or deleted, beyond which it should be built anew: every search compares all that was
added one by one, and at a tenth of 200,000 takes 1.3 times as long for 32 queries together, 1.7 times for one."""


def write_changed(index: VectorIndex, changes: Changes, directory: Path, *, version: str) -> VectorIndex:
    """Write `index` with other `changes` into a new directory, and open it.

    `version` names the version that `index` is, for one that was built whole. Files of the base are hard links, or
    copies where the file system has none. IndexingError where nothing would be left to find.
    """
    manifest, base = index.manifest, _base_of(index.facts, version)
    ids = read_ids(manifest)
    gone = int((among(ids, changes.added.ids) | among(ids, changes.removed)).sum())
    count = base.count - gone + len(changes.added)
    if not count:
        raise IndexingError(f"nothing would be left of the {len(index):,} vectors; keep one, or build another index")
    directory.mkdir(parents=True)
    for role in _BASE:
        link_or_copy(manifest.path(role), directory / manifest.roles[role])
    lengths = norms(changes.added.vectors)
    mean, deviation = _norms(base, lengths)
    facts = replace(index.facts, count=count, base=base, norm_mean=mean, norm_std=deviation)
    _write(directory, manifest, changes, facts)
    return VectorIndex.open(directory)


def changed_share(index: VectorIndex) -> float:
    """How much was added, replaced or deleted since the base was built, as a share of it; 0 for one built whole."""
    base = index.facts.base
    if base is None:
        return 0.0
    added = len(index.changes.added)
    hidden = base.count - (index.facts.count - added)
    return (added + hidden) / base.count


def stored_changes(directory: Path) -> tuple[IndexFacts, Changes] | None:
    """What the index in `directory` says of itself and of its changes; None where nothing of it was ever changed.

    Files are checked as far as that needs them, so that a damaged index can still tell. IndexingError where it cannot.
    """
    if not FILES.keys() & read_manifest(directory, only=()).roles.keys():
        return None
    manifest = read_manifest(directory, only=("ids", *FILES))
    facts = IndexFacts.from_json(manifest.facts)
    return facts, Changes.read(manifest, read_ids(manifest).dtype, facts.dimension)


@dataclass(frozen=True, slots=True)
class MergedVectors:
    """A source without ids that were deleted, and with vectors that it lacks."""

    source: VectorSource
    changes: Changes
    """`removed` are left out, `kept` is what the source lacks."""

    @property
    def facts(self) -> dict[str, Any]:
        """Those of the source, and what became of it."""
        left_out = int(among(self.source.ids, self.changes.removed).sum())
        merged = {"left_out": left_out, "kept": len(self.changes.kept), "digest": self.changes.digest}
        return {**self.source.facts, "merged": merged}

    @property
    def ids(self) -> pl.Series:
        """[N] in the source's order, then those that it lacks."""
        ids = self.source.ids
        own = ids.filter(pl.Series(~among(ids, self.changes.removed)))
        return pl.concat([own, self.changes.kept.ids.alias(own.name)])

    @property
    def dimension(self) -> int:
        """d."""
        return self.source.dimension

    @property
    def refused(self) -> Sequence[Refused]:
        """What of the source is left out because it cannot be used."""
        return self.source.refused

    def batches(self) -> Iterator[Floats]:
        """The vectors in parts, in the order of the ids."""
        stays, at = ~among(self.source.ids, self.changes.removed), 0
        for batch in self.source.batches():
            yield batch[stays[at : at + len(batch)]]
            at += len(batch)
        yield self.changes.kept.vectors


def merged(source: VectorSource, changes: Changes) -> VectorSource:
    """What a build is made of after `changes`: what the source has wins, ids that were deleted stay out, and what was
    added is kept where the source lacks it.

    `changes.kept` is what it lacks; see `lacking`.
    """
    takes_part = len(changes.kept) or among(source.ids, changes.removed).any()
    return MergedVectors(source, changes) if takes_part else source


def lacking(source: VectorSource, changes: Changes) -> VectorTable:
    """What was ever added to an index and `source` lacks."""
    return changes.wanted.without(source.ids)


def with_carried(index: VectorIndex, changes: Changes) -> VectorIndex:
    """The same index, just built of what `merged` gave, which tells the next build what to keep and to leave out."""
    carried = replace(changes, added=VectorTable.empty(index.ids.dtype, index.facts.dimension))
    manifest = index.manifest
    if not carried and set(manifest.roles) == set(_BASE):
        return index
    _write(manifest.directory, manifest, carried, index.facts)
    return VectorIndex.open(manifest.directory)


def _write(directory: Path, base: Manifest, changes: Changes, facts: IndexFacts) -> None:
    """Write `changes` beside the files of a base, whose manifest is `base` and which lie in `directory`."""
    roles = {role: base.roles[role] for role in _BASE}
    known = {file: base.files[file] for file in roles.values()}
    write_manifest(directory, roles | changes.write(directory), facts.as_json(), before=replace(base, files=known))


def _base_of(facts: IndexFacts, version: str) -> BaseFacts:
    if facts.base is not None:
        return facts.base
    return BaseFacts(version=version, count=facts.count, norm_mean=facts.norm_mean, norm_std=facts.norm_std)


def _norms(base: BaseFacts, lengths: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Mean and deviation over a base and what was added, those that are hidden counted still."""
    count = base.count + len(lengths)
    mean = (base.count * base.norm_mean + float(lengths.sum())) / count
    squares = base.count * (base.norm_std**2 + base.norm_mean**2) + float((lengths**2).sum())
    return mean, max(0.0, squares / count - mean**2) ** 0.5
