"""Turn the admin client's records into protobuf messages and back."""

from collections.abc import Sequence
from datetime import UTC, datetime

from google.longrunning import operations_pb2  # type: ignore[import-untyped]
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from recollect_api.admin.records import (
    BuildOperation,
    BuildStep,
    IndexKind,
    IndexVersion,
    IndexVersionPage,
    LabelMove,
    MergedChanges,
    ModelVersion,
    ModelVersionPage,
    OperationPage,
    Quality,
    QualityCheck,
    RefusedVector,
    RemovedVersions,
    VectorSource,
    VectorStorage,
)
from recollect_api.errors import from_status
from recollect_api.v1 import indexes_pb2, models_pb2
from recollect_api.wire import made, made_at


def build_request(
    name: str,
    *,
    model: str | None,
    files: Sequence[str] | None,
    gallery: str | None,
    kind: IndexKind,
    storage: VectorStorage,
    refine: VectorStorage,
    memory_bytes: int,
    inner_product: bool,
    recall_aim: float | None,
    label: str,
    seed: int,
    drop_added: bool,
    restore_deleted: bool,
    request_id: str,
) -> indexes_pb2.IndexesBuildRequest:
    """The message of a Build call; ValueError where not one source is named, InvalidRequest for what cannot be sent."""
    if sum(given is not None for given in (model, files, gallery)) != 1:
        raise ValueError("give one of model, files and gallery")
    if isinstance(files, str):
        raise ValueError(f"files must be a list of paths, got a text; put it into a list: [{files!r}]")
    return made(
        indexes_pb2.IndexesBuildRequest,
        name=name,
        model=None if model is None else indexes_pb2.ModelItems(model=model),
        parquet=None if files is None else indexes_pb2.ParquetFiles(paths=files),
        gallery=None if gallery is None else indexes_pb2.GalleryPictures(gallery=gallery),
        specification=made_at(
            "specification.",
            indexes_pb2.IndexSpecification,
            kind=indexes_pb2.IndexKind.ValueType(int(kind)),
            storage=indexes_pb2.VectorStorage.ValueType(int(storage)),
            refine=indexes_pb2.VectorStorage.ValueType(int(refine)),
            memory_bytes=memory_bytes,
            inner_product=inner_product,
        ),
        recall_aim=recall_aim,
        label=label,
        seed=seed,
        drop_added=drop_added,
        restore_deleted=restore_deleted,
        request_id=request_id,
    )


def operation(message: operations_pb2.Operation) -> BuildOperation:
    """How far a build is."""
    metadata = indexes_pb2.IndexesBuildMetadata()
    message.metadata.Unpack(metadata)
    ended, made, merged = message.WhichOneof("result"), None, MergedChanges()
    if ended == "response":
        response = indexes_pb2.IndexesBuildResponse()
        message.response.Unpack(response)
        made, changes = index_version(response.version), response.merged
        merged = MergedChanges(kept=changes.kept, dropped=changes.dropped, left_out=changes.left_out)
    return BuildOperation(
        name=message.name,
        index=metadata.name,
        label=metadata.label,
        source=_source(metadata.source),
        create_time=_time(metadata, "create_time"),
        end_time=_time(metadata, "end_time"),
        steps=tuple(map(_step, metadata.steps)),
        cancel_requested=metadata.cancel_requested,
        version=metadata.version,
        request_id=metadata.request_id,
        refused=tuple(RefusedVector(id=each.id, reason=each.reason) for each in metadata.refused),
        refused_count=metadata.refused_count,
        done=message.done,
        made=made,
        merged=merged,
        error=from_status(message.error.SerializeToString()) if ended == "error" else None,
    )


def operation_page(response: operations_pb2.ListOperationsResponse) -> OperationPage:
    """One page of operations."""
    return OperationPage(
        operations=tuple(map(operation, response.operations)), next_page_token=response.next_page_token
    )


def index_version(found: indexes_pb2.IndexVersion) -> IndexVersion:
    """One version of an index."""
    return IndexVersion(
        name=found.name,
        version=found.version,
        labels=tuple(found.labels),
        create_time=_time(found, "create_time"),
        size_bytes=found.size_bytes,
        vectors=found.vectors,
        dimension=found.dimension,
        factory=found.factory,
        probes=found.probes,
        source=_source(found.source),
        quality=quality(found.quality),
        base=found.base,
        problem=found.problem,
    )


def index_version_page(response: indexes_pb2.IndexesListResponse) -> IndexVersionPage:
    """One page of versions of indexes."""
    return IndexVersionPage(
        versions=tuple(map(index_version, response.versions)), next_page_token=response.next_page_token
    )


def model_version_page(response: models_pb2.ModelsListResponse) -> ModelVersionPage:
    """One page of versions of models."""
    return ModelVersionPage(
        versions=tuple(map(_model_version, response.versions)), next_page_token=response.next_page_token
    )


def quality(found: indexes_pb2.Quality) -> Quality:
    """Whether a version may answer."""
    return Quality(
        passed=found.passed,
        checks=tuple(
            QualityCheck(
                name=each.name, value=each.value, threshold=each.threshold, passed=each.passed, reason=each.reason
            )
            for each in found.checks
        ),
    )


def index_activation(
    request: indexes_pb2.IndexesActivateRequest, response: indexes_pb2.IndexesActivateResponse
) -> LabelMove:
    """The answer to `request`."""
    return LabelMove(version=request.version, before=response.before, quality=quality(response.quality))


def model_activation(
    request: models_pb2.ModelsActivateRequest, response: models_pb2.ModelsActivateResponse
) -> LabelMove:
    """The answer to `request`."""
    return LabelMove(version=request.version, before=response.before, answers=response.answers)


def removed(
    response: indexes_pb2.IndexesRemoveUnneededResponse | models_pb2.ModelsRemoveUnneededResponse,
) -> RemovedVersions:
    """What was removed."""
    return RemovedVersions(
        removed=tuple(response.removed), in_use=tuple(response.in_use), freed_bytes=response.freed_bytes
    )


def _model_version(found: models_pb2.ModelVersion) -> ModelVersion:
    return ModelVersion(
        name=found.name,
        version=found.version,
        labels=tuple(found.labels),
        create_time=_time(found, "create_time"),
        size_bytes=found.size_bytes,
        metrics=dict(found.metrics),
        parents=dict(found.parents),
        problem=found.problem,
    )


def _source(found: indexes_pb2.VectorSource) -> VectorSource:
    return VectorSource(
        kind=found.kind,
        model=found.model,
        files=tuple(found.files),
        gallery=found.gallery,
        encoder=found.encoder,
    )


def _step(found: indexes_pb2.BuildStep) -> BuildStep:
    return BuildStep(
        name=found.name,
        done=found.done,
        total=found.total,
        begin_time=_time(found, "begin_time"),
        end_time=_time(found, "end_time"),
    )


def _time(message: Message, field: str) -> datetime | None:
    if not message.HasField(field):
        return None
    stamp: Timestamp = getattr(message, field)
    return stamp.ToDatetime(UTC)
