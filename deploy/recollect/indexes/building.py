"""Rebuild an index: vectors in, a judged and published version out; until it is activated nothing changes."""

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recollect.artifacts import INDEXES, STABLE, Artifact, ArtifactStore
from recollect.artifacts.workplace import workplace
from recollect.errors import IndexRefused
from retrieval.files import write_whole
from retrieval.index.building import Apply, BuildPlan, build_vector_index, with_probes
from retrieval.index.quality import Thresholds, Verdict, fewest_probes, judge
from retrieval.index.sources import VectorSource
from retrieval.index.vector_index import VectorIndex

INDEX_DIRECTORY, VERDICT_FILE = "index", "verdict.json"
_WORK, _VERSION = "work", "version"


@dataclass(frozen=True, kw_only=True, slots=True)
class RebuiltIndex:
    """A new version."""

    artifact: Artifact
    index: VectorIndex
    verdict: Verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexBuilder:
    """Makes versions of indexes below `root`, and lets `label` point at those that may answer."""

    root: Path
    """Directory of all indexes' versions."""
    thresholds: Thresholds
    """What a version must reach for a label."""
    label: str | None
    """None: none is set, but versions are judged all the same, against `stable`."""
    aim: float = 0.97
    """Recall that probes are chosen for, above the threshold since it is measured on a sample; 0: as the spec says."""
    apply: Apply = map
    """Makes shards."""
    threads: int = 1
    """Threads that train."""
    told: Callable[[str, int, int], None] = lambda _step, _done, _of: None
    """Hears which step has done how much of how much."""

    @property
    def store(self) -> ArtifactStore:
        """The versions."""
        return ArtifactStore(self.root, kind=INDEXES)

    def rebuild(
        self, name: str, source: VectorSource, plan: BuildPlan, *, expected_ids: Iterable[Any] | None = None
    ) -> RebuiltIndex:
        """Build, judge, publish and, where it may answer, activate.

        IndexRefused says why it may not: the version is kept without a label, and what answered before does so still.
        """
        with workplace(self.root, name, INDEXES.noun) as building:
            index = build_vector_index(
                source, plan, building / _WORK, apply=self.apply, threads=self.threads, told=self.told
            )
            self.told("judging", 0, 1)
            if self.aim and index.probes:
                index = with_probes(index, fewest_probes(index, self.aim, queries=self.thresholds.queries))
            live = open_labelled(self.store, name, self.label)
            verdict = judge(index, self.thresholds, live=live, expected_ids=expected_ids)
            self.told("judging", 1, 1)
            version = building / _VERSION
            shutil.rmtree(version, ignore_errors=True)
            version.mkdir()
            index.manifest.directory.rename(version / INDEX_DIRECTORY)
            write_whole(version / VERDICT_FILE, json.dumps(verdict.as_json(), indent=2) + "\n")
            artifact = self.store.publish(name, version, parents=source.facts, move=True)
            shutil.rmtree(building)
        if not verdict.passed:
            raise IndexRefused(artifact.reference, verdict.reasons)
        if self.label is not None:
            self.store.set_label(name, self.label, artifact.version)
        return RebuiltIndex(artifact=artifact, index=open_version(artifact), verdict=verdict)

    def activate(self, name: str, version: str, *, label: str, expected: str | None = None) -> Verdict:
        """Judge a version against the one that answers now, and let `label` point at it where it may.

        ArtifactError for a version that is missing or altered, IndexRefused for one that may not answer, LabelMoved
        where `label` does not point at `expected`.
        """
        artifact = self.store.resolve(f"{name}/{version}")
        verdict = judge(open_version(artifact), self.thresholds, live=open_labelled(self.store, name, label))
        if not verdict.passed:
            raise IndexRefused(artifact.reference, verdict.reasons)
        self.store.set_label(name, label, version, expected=expected)
        return verdict


def open_version(artifact: Artifact) -> VectorIndex:
    """The index of a version whose bytes are checked; IndexingError where it holds none."""
    return VectorIndex.open(artifact.directory / INDEX_DIRECTORY)


def open_labelled(store: ArtifactStore, name: str, label: str | None) -> VectorIndex | None:
    """What answers now; None where nothing does."""
    version = store.labelled(name, label or STABLE)
    return None if version is None else open_version(store.resolve(f"{name}/{version}"))
