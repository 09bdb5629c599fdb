"""What the admin client takes and returns: plain frozen dataclasses, as in `recollect_api.records`."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from recollect_api.errors import ClientError


class IndexKind(IntEnum):
    """How an index finds candidates; the numbers are those of the wire."""

    UNSPECIFIED = 0
    """Chosen by the number of vectors."""
    FLAT = 1
    """All vectors are compared."""
    IVF = 2
    """Vectors lie in lists round centres; the nearest lists are compared."""
    HNSW = 3
    """A graph of neighbours is walked."""


class VectorStorage(IntEnum):
    """What a vector is kept as; the numbers are those of the wire."""

    UNSPECIFIED = 0
    """The least compressed one that fits into memory; to refine by: none."""
    FP32 = 1
    FP16 = 2
    SQ8 = 3
    """A byte a dimension."""
    PQ = 4
    """Codes of groups of dimensions; not to refine by."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VectorSource:
    """Where the vectors of an index came from."""

    kind: str
    """Such as `model` or `parquet`."""
    model: str
    """`NAME/VERSION`; empty for other kinds."""
    files: tuple[str, ...]
    """Below the service's directory of build sources by their path there, others by their name."""
    gallery: str
    """`NAME/VERSION`; empty for other kinds."""
    encoder: str
    """What embedded pictures; empty for other kinds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QualityCheck:
    """One figure against its threshold."""

    name: str
    """`recall`, `coverage`, `norm_drift` or `overlap`."""
    value: float
    threshold: float
    passed: bool
    reason: str
    """What it means and what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Quality:
    """Whether a version of an index may answer."""

    passed: bool
    checks: tuple[QualityCheck, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexVersion:
    """One version of an index."""

    name: str
    version: str
    labels: tuple[str, ...]
    """Those that point at it."""
    create_time: datetime | None
    """When it was published."""
    size_bytes: int
    """On disk."""
    vectors: int
    dimension: int
    """Numbers of each vector."""
    factory: str
    """The index as FAISS names it."""
    probes: int
    """Lists that a search looks through; of a graph, candidates that it keeps in view; 0 where all are compared."""
    source: VectorSource
    quality: Quality
    """How it was judged when it was built."""
    base: str
    """The version that was built, and that this one differs from by what was added and deleted; empty where it was."""
    problem: str
    """Why nothing more can be said of it; empty otherwise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexVersionPage:
    """One page of versions of indexes, by name and then oldest first."""

    versions: tuple[IndexVersion, ...]
    next_page_token: str
    """Empty on the last page."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelVersion:
    """One version of a model."""

    name: str
    version: str
    labels: tuple[str, ...]
    """Those that point at it."""
    create_time: datetime | None
    """When it was published."""
    size_bytes: int
    """On disk."""
    metrics: Mapping[str, float]
    """What it reached on its test split, such as `auc`."""
    parents: Mapping[str, str]
    """What it was made of, such as the training `run`."""
    problem: str
    """Why nothing more can be said of it; empty otherwise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelVersionPage:
    """One page of versions of models, by name and then oldest first."""

    versions: tuple[ModelVersion, ...]
    next_page_token: str
    """Empty on the last page."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildStep:
    """One step of a build."""

    name: str
    """Such as reading, training, adding, merging, judging, publishing."""
    done: int
    """How much of `total` is done, in vectors or in parts."""
    total: int
    begin_time: datetime | None
    end_time: datetime | None
    """None until it is done."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MergedChanges:
    """What a build made of what was added to and deleted from the index since the build before."""

    kept: int = 0
    """Vectors that were added, which the source lacks."""
    dropped: int = 0
    """Vectors that were added."""
    left_out: int = 0
    """Vectors of the source, because their ids were deleted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RefusedVector:
    """A row of a source that cannot be used."""

    id: str
    """Empty where it has none."""
    reason: str
    """What is wrong with it, and what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildOperation:
    """A build of an index, as far as it is."""

    name: str
    """Of the operation: ask for it, or cancel it, by this."""
    index: str
    """Name of the index."""
    label: str
    """What points at the version if it may answer; empty: nothing does."""
    source: VectorSource
    create_time: datetime | None
    """When it was asked for."""
    end_time: datetime | None
    """None until it has ended."""
    steps: tuple[BuildStep, ...]
    """Those that have begun."""
    cancel_requested: bool
    version: str
    """The version that was made, also one that may not answer; empty where there is none."""
    request_id: str
    refused: tuple[RefusedVector, ...]
    """Rows of the source that are left out because they cannot be used, the first ones."""
    refused_count: int
    """How many these are in all."""
    done: bool
    """Whether it has ended: `made` or `error` is there then."""
    made: IndexVersion | None
    merged: MergedChanges
    error: ClientError | None

    def result(self) -> IndexVersion:
        """The version that was made; raises the error that the build ended with, ValueError while it runs."""
        if self.error is not None:
            raise self.error
        if self.made is None:
            raise ValueError(f"{self.name} has not ended; wait for it")
        return self.made


@dataclass(frozen=True, kw_only=True, slots=True)
class OperationPage:
    """One page of operations, newest first."""

    operations: tuple[BuildOperation, ...]
    next_page_token: str
    """Empty on the last page."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelMove:
    """A label that was moved."""

    version: str
    """What it points at now."""
    before: str
    """What it pointed at before; empty where there was no such label."""
    quality: Quality | None = None
    """How the version of an index was judged; None for a rollback and for a model."""
    answers: bool | None = None
    """Whether the recommender follows that label, and answers with the model now; None for an index."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RemovedVersions:
    """Versions that were removed."""

    removed: tuple[str, ...]
    """Oldest first."""
    in_use: tuple[str, ...]
    """Versions that would have gone, had no process used them."""
    freed_bytes: int
