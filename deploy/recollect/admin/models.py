"""Answer Models: say which versions there are, move labels, and have the recommender go with the one it answers by."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import grpc.aio  # type: ignore[import-untyped]

from recollect.admin.checks import MoveCall, check_move, check_removal, check_version
from recollect.admin.errors import ModelNotLoaded
from recollect.admin.messages import model_version, without_paths
from recollect.admin.versions import page, refusal, remove, require_expected, require_name, require_version
from recollect.artifacts import Artifact, ArtifactStore
from recollect.errors import ArtifactError
from recollect.gateway.workers import require_time
from recollect.model_fitness import require_fit
from recollect_api.v1 import models_pb2, models_pb2_grpc


@dataclass(frozen=True, kw_only=True, slots=True)
class FollowedModel:
    """The label that the service's recommender answers by."""

    name: str
    label: str
    swap: Callable[[str], object]
    """Has every replica answer with `NAME/VERSION`; blocking. ArtifactError where one cannot: then none does."""

    @classmethod
    def of(cls, reference: str | None, swap: Callable[[str], object]) -> Self | None:
        """What a recommender started with `reference` follows; None for a version, a directory, and no recommender."""
        if reference is None or "@" not in reference or Path(reference).exists():
            return None
        name, label = reference.split("@", 1)
        return cls(name=name, label=label, swap=swap)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Moved:
    """A label that was moved."""

    version: str
    before: str
    """Empty: there was no such label."""
    answers: bool
    """Whether the recommender went with it."""


class ModelsServicer(models_pb2_grpc.ModelsServicer):
    """Versions of models."""

    def __init__(self, store: ArtifactStore, followed: FollowedModel | None) -> None:
        """`followed` is None where the recommender follows no label, or there is none."""
        self._store = store
        self._followed = followed
        self._moving = threading.Lock()

    async def List(  # noqa: N802 - gRPC's name, here and below
        self, request: models_pb2.ModelsListRequest, _context: grpc.aio.ServicerContext
    ) -> models_pb2.ModelsListResponse:
        """One page of versions."""
        versions, token = await asyncio.to_thread(page, self._store, request, self._described)
        return models_pb2.ModelsListResponse(versions=versions, next_page_token=token)

    async def Verify(  # noqa: N802
        self, request: models_pb2.ModelsVerifyRequest, context: grpc.aio.ServicerContext
    ) -> models_pb2.ModelsVerifyResponse:
        """Compare every file of a version with its hash."""
        check_version(request)
        require_time(context)
        await asyncio.to_thread(self._require_whole, request.name, request.version)
        return models_pb2.ModelsVerifyResponse()

    async def Activate(  # noqa: N802
        self, request: models_pb2.ModelsActivateRequest, context: grpc.aio.ServicerContext
    ) -> models_pb2.ModelsActivateResponse:
        """Let the label point at a version, and the recommender answer with it."""
        call = check_move(request, version=True)
        require_time(context)
        moved = await asyncio.to_thread(self._move, call)
        return models_pb2.ModelsActivateResponse(
            before=moved.before, answers=moved.answers, request_id=request.request_id
        )

    async def Rollback(  # noqa: N802
        self, request: models_pb2.ModelsRollbackRequest, context: grpc.aio.ServicerContext
    ) -> models_pb2.ModelsRollbackResponse:
        """Let the label point at the version before, and the recommender answer with it."""
        call = check_move(request, version=False)
        require_time(context)
        moved = await asyncio.to_thread(self._move, call)
        return models_pb2.ModelsRollbackResponse(
            version=moved.version, before=moved.before, answers=moved.answers, request_id=request.request_id
        )

    async def RemoveUnneeded(  # noqa: N802
        self, request: models_pb2.ModelsRemoveUnneededRequest, context: grpc.aio.ServicerContext
    ) -> models_pb2.ModelsRemoveUnneededResponse:
        """Remove versions that nobody needs."""
        keep = check_removal(request)
        require_time(context)
        removed = await asyncio.to_thread(remove, self._store, request.name, keep)
        return models_pb2.ModelsRemoveUnneededResponse(
            removed=removed.versions,
            in_use=removed.held,
            freed_bytes=removed.bytes,
            request_id=request.request_id,
        )

    def _described(self, name: str, version: str) -> models_pb2.ModelVersion:
        return model_version(self._store, name, version)

    def _require_whole(self, name: str, version: str) -> Artifact:
        artifact = require_version(self._store, name, version)
        try:
            return self._store.resolve(artifact.reference)
        except ArtifactError as error:
            raise refusal(self._store, error) from error

    def _move(self, call: MoveCall) -> _Moved:
        """Move the label, the recommender first; blocking, and done to its end even where the caller goes."""
        with self._moving:
            require_name(self._store, call.name)
            before = require_expected(self._store, call.name, call.label, call.expected)
            try:
                version = call.version or self._store.previous(call.name, call.label)
            except ArtifactError as error:
                raise refusal(self._store, error) from error
            artifact = self._require_whole(call.name, version)
            followed = self._followed if self._follows(call) else None
            if followed is not None:
                self._swap(followed, version)  # every replica asks it itself
            else:
                self._require_fit(artifact)
            try:
                if call.version:
                    self._store.set_label(call.name, call.label, version, expected=before)
                else:
                    self._store.roll_back(call.name, call.label, expected=before)
            except ArtifactError as error:
                current = self._store.labelled(call.name, call.label)
                if followed is not None and current is not None:
                    self._swap(followed, current)
                raise refusal(self._store, error) from error
        return _Moved(version=version, before=before, answers=followed is not None)

    def _follows(self, call: MoveCall) -> bool:
        followed = self._followed
        return followed is not None and (followed.name, followed.label) == (call.name, call.label)

    def _require_fit(self, artifact: Artifact) -> None:
        try:
            require_fit(artifact)
        except ArtifactError as error:
            raise ModelNotLoaded(without_paths(error, self._store.root)) from error

    def _swap(self, followed: FollowedModel, version: str) -> None:
        try:
            followed.swap(f"{followed.name}/{version}")
        except ArtifactError as error:
            raise ModelNotLoaded(without_paths(error, self._store.root)) from error
