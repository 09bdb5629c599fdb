"""Answer Indexes: start builds, say what versions are worth, and move labels."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import grpc.aio  # type: ignore[import-untyped]
from google.longrunning.operations_pb2 import Operation  # type: ignore[import-untyped]

from recollect.admin.builds import Builds
from recollect.admin.checks import BuildCall, check_build, check_move, check_removal, check_version
from recollect.admin.errors import BuildRunning, IndexMayNotAnswer
from recollect.admin.jobs import BuildJob, GalleryVectors, ModelVectors, SourceVectors
from recollect.admin.judging import Judging
from recollect.admin.messages import index_version, quality, shown_file
from recollect.admin.sources import parquet_vectors, pinned
from recollect.admin.versions import page, refusal, remove, require_expected, require_name, require_version
from recollect.artifacts import GALLERIES, INDEXES, STABLE, indexes_of, models_of
from recollect.errors import AlreadyRunning, ArtifactError
from recollect.gateway.errors import InvalidCall, Violation
from recollect.gateway.workers import require_time
from recollect.indexes.building import discard_unfinished
from recollect.settings import Settings
from recollect_api.v1 import indexes_pb2, indexes_pb2_grpc


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexAdmin:
    """What Indexes answers from."""

    settings: Settings
    """Of the service; its paths are whole."""
    sources: Path
    """Directory below which files are read."""
    builds: Builds
    judging: Judging
    threads: int
    """Threads that a build trains with."""


class IndexesServicer(indexes_pb2_grpc.IndexesServicer):
    """Versions of indexes below the service's `var`."""

    def __init__(self, admin: IndexAdmin) -> None:
        self._admin = admin
        self._store = indexes_of(admin.settings, INDEXES)

    async def Build(  # noqa: N802 - gRPC's name, here and below
        self, request: indexes_pb2.IndexesBuildRequest, context: grpc.aio.ServicerContext
    ) -> Operation:
        """Start to build a version."""
        call = check_build(request)
        source, told = await asyncio.to_thread(self._source, call)
        require_time(context)
        job = BuildJob(
            name=call.name,
            label=call.label,
            source=source,
            wanted=call.wanted,
            merge=call.merge,
            aim=call.aim,
            settings=self._admin.settings,
            threads=self._admin.threads,
        )
        metadata = indexes_pb2.IndexesBuildMetadata(
            name=call.name, label=request.label, source=told, request_id=request.request_id
        )
        return self._admin.builds.start(job, metadata)

    async def List(  # noqa: N802
        self, request: indexes_pb2.IndexesListRequest, _context: grpc.aio.ServicerContext
    ) -> indexes_pb2.IndexesListResponse:
        """One page of versions."""
        versions, token = await asyncio.to_thread(page, self._store, request, self._described)
        return indexes_pb2.IndexesListResponse(versions=versions, next_page_token=token)

    async def Verify(  # noqa: N802
        self, request: indexes_pb2.IndexesVerifyRequest, context: grpc.aio.ServicerContext
    ) -> indexes_pb2.IndexesVerifyResponse:
        """Judge a version anew."""
        check_version(request, "against")
        artifact = await asyncio.to_thread(require_version, self._store, request.name, request.version)
        require_time(context)
        judged = await self._admin.judging.judge(artifact, against=request.against or STABLE)
        return indexes_pb2.IndexesVerifyResponse(quality=quality(judged.verdict))

    async def Activate(  # noqa: N802
        self, request: indexes_pb2.IndexesActivateRequest, context: grpc.aio.ServicerContext
    ) -> indexes_pb2.IndexesActivateResponse:
        """Judge a version, and let the label point at it where it may answer."""
        call = check_move(request, version=True)
        artifact = await asyncio.to_thread(require_version, self._store, call.name, call.version)
        await asyncio.to_thread(require_expected, self._store, call.name, call.label, call.expected)
        require_time(context)
        judged = await self._admin.judging.judge(artifact, against=call.label)
        if not judged.verdict.passed:
            raise IndexMayNotAnswer(artifact.reference, judged.verdict.failed)
        before = judged.beside or ""
        await asyncio.to_thread(require_expected, self._store, call.name, call.label, call.expected)
        try:
            await asyncio.to_thread(self._store.set_label, call.name, call.label, call.version, expected=before)
        except ArtifactError as error:
            raise refusal(self._store, error) from error
        return indexes_pb2.IndexesActivateResponse(
            before=before, quality=quality(judged.verdict), request_id=request.request_id
        )

    async def Rollback(  # noqa: N802
        self, request: indexes_pb2.IndexesRollbackRequest, context: grpc.aio.ServicerContext
    ) -> indexes_pb2.IndexesRollbackResponse:
        """Let the label point at the version before."""
        call = check_move(request, version=False)
        await asyncio.to_thread(require_name, self._store, call.name)
        before = await asyncio.to_thread(require_expected, self._store, call.name, call.label, call.expected)
        require_time(context)
        try:
            version = await asyncio.to_thread(self._store.roll_back, call.name, call.label, expected=before)
        except ArtifactError as error:
            raise refusal(self._store, error) from error
        return indexes_pb2.IndexesRollbackResponse(version=version, before=before, request_id=request.request_id)

    async def RemoveUnneeded(  # noqa: N802
        self, request: indexes_pb2.IndexesRemoveUnneededRequest, context: grpc.aio.ServicerContext
    ) -> indexes_pb2.IndexesRemoveUnneededResponse:
        """Remove versions that nobody needs, and what killed builds left."""
        keep = check_removal(request)
        require_time(context)
        self._admin.builds.require_none(request.name)
        try:
            unfinished = await asyncio.to_thread(discard_unfinished, self._store.root, request.name)
        except AlreadyRunning as error:
            raise BuildRunning(str(error)) from error
        removed = await asyncio.to_thread(remove, self._store, request.name, keep, found=unfinished > 0)
        return indexes_pb2.IndexesRemoveUnneededResponse(
            removed=removed.versions,
            in_use=removed.held,
            freed_bytes=removed.bytes + unfinished,
            request_id=request.request_id,
        )

    def _described(self, name: str, version: str) -> indexes_pb2.IndexVersion:
        return index_version(self._store, name, version, self._admin.sources)

    def _source(self, call: BuildCall) -> tuple[SourceVectors, indexes_pb2.VectorSource]:
        """Where the vectors come from, and how that is told; blocking."""
        self._require_kind(call.name)
        settings = self._admin.settings
        if call.model is not None:
            reference = pinned(models_of(settings), call.model)
            return ModelVectors(reference=reference), indexes_pb2.VectorSource(kind="model", model=reference)
        if call.gallery is not None:
            reference = pinned(indexes_of(settings, GALLERIES), call.gallery)
            return GalleryVectors(reference=reference), indexes_pb2.VectorSource(kind="gallery", gallery=reference)
        parquet = parquet_vectors(self._admin.sources, call.paths)
        files = [shown_file(path, self._admin.sources) for path in parquet.files]
        return parquet, indexes_pb2.VectorSource(kind="parquet", files=files)

    def _require_kind(self, name: str) -> None:
        """InvalidCall where `name` is a gallery's."""
        try:
            self._store.require_kind(name)
        except ArtifactError as error:
            description = f"must not be the name of a gallery, got {name!r}; choose another one"
            raise InvalidCall([Violation(field="name", description=description)]) from error
