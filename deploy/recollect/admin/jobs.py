"""What a worker process is asked to do: build a version of an index, or judge one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from recollect.artifacts import INDEXES, open_store, shared_at
from recollect.indexes.building import IndexBuilder, JudgedVersion, RebuiltIndex, judge_version
from recollect.indexes.merging import MergePolicy
from recollect.indexes.on_ray import shards_on_ray
from recollect.indexes.plans import SpecWanted
from recollect.indexes.sources import gallery_pictures, model_items, parquet_files
from recollect.settings import Settings
from retrieval.index.quality import Thresholds
from retrieval.index.search import use_threads
from retrieval.index.sources import VectorSource
from retrieval.index.vector_files import Refused

Told = Callable[[str, int, int], None]
"""Hears which step has done how much of how much."""
LeftOut = Callable[[Sequence[Refused]], None]
"""Hears what of a source cannot be used."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelVectors:
    """The items of a published model."""

    reference: str
    """`NAME/VERSION`, which never comes to mean another one."""

    def open(self, settings: Settings, _told: Told) -> VectorSource:
        """The vectors; ArtifactError where the version is missing or altered."""
        return model_items(settings, self.reference)


@dataclass(frozen=True, kw_only=True, slots=True)
class ParquetVectors:
    """Parquet files."""

    files: tuple[Path, ...]
    """Whole paths."""

    def open(self, settings: Settings, told: Told) -> VectorSource:
        """The vectors; IndexingError where a file has none."""
        return parquet_files(settings, self.files, told)


@dataclass(frozen=True, kw_only=True, slots=True)
class GalleryVectors:
    """The pictures of a gallery."""

    reference: str
    """`NAME/VERSION`, which never comes to mean another one."""

    def open(self, settings: Settings, _told: Told) -> VectorSource:
        """The vectors; ArtifactError where the version is missing or altered."""
        return gallery_pictures(settings, self.reference)


SourceVectors = ModelVectors | ParquetVectors | GalleryVectors


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildJob:
    """A version to build. Sent to a process of its own as a pickle."""

    name: str
    """Of the index."""
    label: str | None
    """What should point at the version if it may answer."""
    source: SourceVectors
    """Where ids and vectors come from."""
    wanted: SpecWanted
    """What is built of them."""
    merge: MergePolicy
    """What becomes of what was added and deleted since the last build."""
    aim: float
    """Recall that probes are chosen for; 0: they are not."""
    settings: Settings
    """Of the service; its paths are whole."""
    threads: int
    """Threads that train."""

    def run(self, told: Told, left_out: LeftOut) -> RebuiltIndex:
        """Build, judge, publish and, where it may answer, activate; raises what IndexBuilder.rebuild does."""
        builder = IndexBuilder(
            root=self.settings.var / "indexes",
            shared=shared_at(self.settings, "indexes"),
            thresholds=self.settings.index_thresholds,
            label=self.label,
            aim=self.aim,
            apply=shards_on_ray(self.settings),
            threads=self.threads,
            told=told,
            left_out=left_out,
        )
        source = self.source.open(self.settings, told)
        return builder.rebuild(self.name, source, self.wanted.plan(), merge=self.merge)


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgeJob:
    """A version to judge. Sent to a process of its own as a pickle."""

    root: Path
    """Directory of all indexes' versions."""
    shared: str | None
    """URL where machines share them; None: they do not."""
    name: str
    """Of the index."""
    version: str
    """Which one."""
    against: str
    """Label of the version to compare it with."""
    thresholds: Thresholds
    """What it must reach."""
    threads: int
    """Threads that search."""

    def run(self, told: Told, _left_out: LeftOut) -> JudgedVersion:
        """Check its files and judge it; ArtifactError where they are altered, IndexingError where it is no index."""
        told("judging", 0, 1)
        use_threads(self.threads)
        store = open_store(self.root, shared=self.shared, kind=INDEXES)
        return judge_version(
            store, store.resolve(f"{self.name}/{self.version}"), against=self.against, thresholds=self.thresholds
        )
