"""Rebuild an index: vectors in, a judged and published version out; until it is activated nothing changes."""

import json
import logging
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from recollect.artifacts import INDEXES, STABLE, Artifact, ArtifactStore, open_store
from recollect.artifacts.removal import remove_half_published
from recollect.artifacts.workplace import remove_unfinished, workplace
from recollect.errors import IndexRefused, LabelMoved, VersionDamaged
from recollect.indexes.merging import MERGE_ALL, MergePolicy, Merging, merging
from retrieval.errors import IndexingError
from retrieval.files import write_whole
from retrieval.index.building import Apply, BuildPlan, build_vector_index, with_probes
from retrieval.index.changes import Changes
from retrieval.index.increments import stored_changes, with_carried
from retrieval.index.quality import Check, Thresholds, Verdict, fewest_probes, judge
from retrieval.index.sources import VectorSource
from retrieval.index.tables import among
from retrieval.index.vector_files import Refused
from retrieval.index.vector_index import IndexFacts, VectorIndex

log = logging.getLogger(__name__)

INDEX_DIRECTORY, VERDICT_FILE = "index", "verdict.json"
_WORK, _VERSION = "work", "version"


@dataclass(frozen=True, kw_only=True, slots=True)
class RebuiltIndex:
    """A new version."""

    artifact: Artifact
    index: VectorIndex
    verdict: Verdict
    merging: Merging
    """What became of increments since the last build."""

    @property
    def refused(self) -> Sequence[Refused]:
        """What of the source is left out because it cannot be used."""
        return self.merging.source.refused


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexBuilder:
    """Makes versions of indexes below `root`, and lets `label` point at those that may answer."""

    root: Path
    """Directory of all indexes' versions."""
    thresholds: Thresholds
    """What a version must reach for a label."""
    label: str | None
    """None: none is set. Without one, or with one that points at nothing yet, a build goes on from what `stable` points
    at and is judged beside that."""
    shared: str | None = None
    """URL where machines share indexes; None: they do not."""
    aim: float = 0.97
    """Recall that probes are chosen for, above the threshold since it is measured on a sample; 0: as the spec says."""
    apply: Apply = map
    """Makes shards."""
    threads: int = 1
    """Threads that train."""
    told: Callable[[str, int, int], None] = lambda _step, _done, _of: None
    """Hears which step has done how much of how much."""
    left_out: Callable[[Sequence[Refused]], None] = lambda _refused: None
    """Hears what of a source cannot be used, before anything is built of the rest."""

    @property
    def store(self) -> ArtifactStore:
        """The versions."""
        return open_store(self.root, shared=self.shared, kind=INDEXES)

    def rebuild(
        self,
        name: str,
        source: VectorSource | Callable[[Path], VectorSource],
        plan: BuildPlan,
        *,
        expected_ids: Iterable[Any] | None = None,
        merge: MergePolicy = MERGE_ALL,
    ) -> RebuiltIndex:
        """Build, judge, publish and, where it may answer, activate; what was added to and deleted from the index that
        answers is merged, see `recollect.indexes.merging`. A source that must be made first is called with a directory
        where what it makes is kept over a kill, until the index is published.

        IndexRefused says why it may not, LabelMoved that the label was moved since the build began: it is kept without
        the label, and what answers does so still. VersionDamaged where nobody can tell any more what was changed in the
        index that answers. Before anything changes that others see, `told` hears of the step "publishing".
        """
        with workplace(self.root, name, INDEXES.noun, label=self.label) as building:
            self.store.require_kind(name)
            given = source(building) if callable(source) else source
            if given.refused:
                self.left_out(given.refused)
            expected = None if self.label is None else self.store.labelled(name, self.label)
            beside = expected or self.store.labelled(name, STABLE)
            merge_in = merging(given, merge, self._changes(name, beside, merge))
            index = build_vector_index(
                merge_in.source, plan, building / _WORK, apply=self.apply, threads=self.threads, told=self.told
            )
            index = with_carried(index, merge_in.changes)
            self.told("judging", 0, 1)
            if self.aim and index.probes:
                index = with_probes(index, fewest_probes(index, self.aim, queries=self.thresholds.queries))
            live, unread = _opened(self.store, name, beside)
            if expected_ids is None and live is not None and len(merge_in.dropped):
                expected_ids = live.ids.filter(pl.Series(~among(live.ids, merge_in.dropped)))
            verdict = _with(judge(index, self.thresholds, live=live, expected_ids=expected_ids), unread)
            self.told("judging", 1, 1)
            self.told("publishing", 0, 1)
            version = building / _VERSION
            shutil.rmtree(version, ignore_errors=True)
            version.mkdir()
            index.manifest.directory.rename(version / INDEX_DIRECTORY)
            artifact = self.publish(name, version, verdict, parents=merge_in.source.facts)
            shutil.rmtree(building)
        self.told("publishing", 1, 1)
        if not verdict.passed:
            raise IndexRefused(artifact.reference, verdict.reasons)
        if self.label is not None:
            try:
                self.store.set_label(name, self.label, artifact.version, expected=expected or "")
            except LabelMoved as error:
                raise LabelMoved(
                    f"{artifact.reference} is built, but {error}", current=error.current, reference=artifact.reference
                ) from error
        return RebuiltIndex(artifact=artifact, index=open_version(artifact), verdict=verdict, merging=merge_in)

    def publish(self, name: str, version: Path, verdict: Verdict, *, parents: Mapping[str, Any]) -> Artifact:
        """Make a version of what lies in `version`, the index and what it was found to be; its files are taken away."""
        write_whole(version / VERDICT_FILE, json.dumps(verdict.as_json(), indent=2) + "\n")
        return self.store.publish(name, version, parents=parents, move=True)

    def activate(self, name: str, version: str, *, label: str, expected: str | None = None) -> Verdict:
        """Judge a version against the one that answers now, and let `label` point at it where it may.

        ArtifactError for a version that is missing or altered, IndexRefused for one that may not answer, LabelMoved
        where `label` does not point at `expected`, or was moved since the version was judged.
        """
        artifact = self.store.resolve(f"{name}/{version}")
        judged = judge_version(self.store, artifact, against=label, thresholds=self.thresholds)
        if not judged.verdict.passed:
            raise IndexRefused(artifact.reference, judged.verdict.reasons)
        self.store.set_label(name, label, version, expected=judged.beside or "" if expected is None else expected)
        return judged.verdict

    def _changes(self, name: str, version: str | None, merge: MergePolicy) -> tuple[IndexFacts, Changes] | None:
        """What a version says of itself and its changes; None where nothing was changed, or `merge` wants nothing."""
        if version is None:
            return None
        try:
            _require_there(self.store, name, version)
            return stored_changes(self.store.here(name, version).directory / INDEX_DIRECTORY)
        except (IndexingError, VersionDamaged) as error:
            if merge.drop_added and merge.restore_deleted:
                log.warning("what was changed in %s/%s is forgotten: %s", name, version, error)
                return None
            raise VersionDamaged(
                f"what was added to {name}/{version} and deleted from it cannot be read: {error}. Let another version "
                "answer, or build with both --drop-added and --restore-deleted, which forgets it"
            ) from error


def discard_unfinished(root: Path, name: str) -> int:
    """Remove what a killed build of `name` left, which could have gone on; returns bytes that were freed.

    AlreadyRunning where one is there still.
    """
    unfinished = remove_unfinished(root, name, INDEXES.noun)
    return unfinished + remove_half_published(root / name)[1]


def open_version(artifact: Artifact) -> VectorIndex:
    """The index of a version whose bytes are checked; IndexingError where it holds none."""
    return VectorIndex.open(artifact.directory / INDEX_DIRECTORY)


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedVersion:
    """What a version is worth now."""

    verdict: Verdict
    beside: str | None
    """The version that it was compared with; None: there was none."""


def judge_version(store: ArtifactStore, artifact: Artifact, *, against: str, thresholds: Thresholds) -> JudgedVersion:
    """Judge a version whose bytes are checked beside the one of its name that the label `against` points at, or by
    itself where that one is damaged.

    IndexingError for a version that holds no index.
    """
    index = open_version(artifact)
    beside = store.labelled(artifact.name, against)
    live, unread = _opened(store, artifact.name, beside)
    return JudgedVersion(verdict=_with(judge(index, thresholds, live=live), unread), beside=beside)


def _opened(store: ArtifactStore, name: str, version: str | None) -> tuple[VectorIndex | None, Check | None]:
    """The index to compare with, or a check that says why there is none though a label points at one."""
    if version is None:
        return None, None
    reference = f"{name}/{version}"
    try:
        _require_there(store, name, version)
        return open_version(store.resolve(reference)), None
    except (IndexingError, VersionDamaged) as error:
        log.warning("nothing is compared with %s: %s", reference, error)
        # Without the error, which tells paths: whoever asks a service sees this.
        reason = (
            f"nothing is compared with {reference}, which is damaged; `recollect index verify {reference}` says how"
        )
        return None, Check(name="compared", value=0.0, threshold=0.0, passed=True, reason=reason)


def _require_there(store: ArtifactStore, name: str, version: str) -> None:
    """VersionDamaged where a label points at what somebody took away."""
    if not store.has(f"{name}/{version}"):
        raise VersionDamaged(f"{name}/{version} is not in {store.place} any more")


def _with(verdict: Verdict, check: Check | None) -> Verdict:
    return verdict if check is None else Verdict(checks=(*verdict.checks, check))
