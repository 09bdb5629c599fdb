"""Say on the wire what versions are."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from recollect.artifacts import Artifact, ArtifactStore
from recollect.artifacts.metrics import measured
from recollect.errors import VersionDamaged
from recollect.indexes.facts import facts_of
from recollect_api.v1.indexes_pb2 import IndexVersion, Quality, QualityCheck, VectorSource
from recollect_api.v1.models_pb2 import ModelVersion
from retrieval.index.quality import Verdict


def stamp(time: datetime) -> Timestamp:
    """A moment."""
    stamp = Timestamp()
    stamp.FromDatetime(time.astimezone(UTC))
    return stamp


def index_version(store: ArtifactStore, name: str, version: str, files_below: Path) -> IndexVersion:
    """What is to be told of a version; its `problem` where its files cannot be read."""
    artifact = store.version(name, version)
    message = IndexVersion(name=name, version=version, labels=_labels_at(store, artifact))
    try:
        message.create_time.CopyFrom(_created(store, artifact))
        message.size_bytes = store.bytes_of(artifact)
        facts = facts_of(artifact)
    except (VersionDamaged, OSError) as error:
        message.problem = without_paths(error, store.root)
        return message
    message.vectors, message.dimension = facts.index.count, facts.index.dimension
    message.factory, message.probes = facts.factory, facts.index.spec.probes
    message.source.CopyFrom(vector_source(facts.index.source, files_below))
    message.quality.CopyFrom(quality(facts.verdict))
    message.base = "" if facts.index.base is None else facts.index.base.version
    return message


def model_version(store: ArtifactStore, name: str, version: str) -> ModelVersion:
    """What is to be told of a version; its `problem` where its manifest cannot be read."""
    artifact = store.version(name, version)
    message = ModelVersion(name=name, version=version, labels=_labels_at(store, artifact))
    try:
        message.create_time.CopyFrom(_created(store, artifact))
        message.size_bytes = store.bytes_of(artifact)
        parents = store.manifest(artifact)["parents"]
    except (VersionDamaged, OSError) as error:
        message.problem = without_paths(error, store.root)
        return message
    message.metrics.update(measured(artifact))
    message.parents.update({key: _last_part(str(value)) for key, value in parents.items()})
    return message


def vector_source(facts: Mapping[str, Any], files_below: Path) -> VectorSource:
    """Where vectors came from, as an index notes it; of files outside of `files_below` the name alone."""
    return VectorSource(
        kind=str(facts.get("kind", "")),
        model=str(facts.get("model", "")),
        files=[shown_file(Path(str(file["path"])), files_below) for file in facts.get("files", ())],
        gallery=str(facts.get("gallery", "")),
        encoder=_last_part(str(facts.get("encoder", ""))),
    )


def shown_file(path: Path, files_below: Path) -> str:
    """A file as callers name it."""
    return path.relative_to(files_below).as_posix() if path.is_relative_to(files_below) else path.name


def quality(verdict: Verdict) -> Quality:
    """How a version was judged."""
    checks = [
        QualityCheck(name=each.name, value=each.value, threshold=each.threshold, passed=each.passed, reason=each.reason)
        for each in verdict.checks
    ]
    return Quality(passed=verdict.passed, checks=checks)


def without_paths(error: object, *roots: Path) -> str:
    """What `error` says, its paths as a caller may know them."""
    text = str(error)
    # The innermost first: what is in the directory of build sources is named below that, wherever it is.
    for root in sorted(roots, key=lambda root: len(root.parts), reverse=True):
        text = text.replace(f"{root}/", "").replace(str(root), "the service's directory")
    return text


def _labels_at(store: ArtifactStore, artifact: Artifact) -> list[str]:
    return [label for label, version in store.labels(artifact.name).items() if version == artifact.version]


def _created(store: ArtifactStore, artifact: Artifact) -> Timestamp:
    try:
        return stamp(datetime.fromisoformat(store.manifest(artifact)["created"]))
    except (KeyError, TypeError, ValueError) as error:
        raise VersionDamaged(f"its manifest tells no time: {error!r}") from error


def _last_part(value: str) -> str:
    return Path(value).name if value.startswith("/") else value
