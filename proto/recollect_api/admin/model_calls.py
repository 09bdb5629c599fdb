"""The admin clients' calls for models: say which versions there are, and move labels."""

from collections.abc import AsyncIterator, Iterator

from recollect_api.admin import wire
from recollect_api.admin.connections import AsyncAdminConnections, BlockingAdminConnections
from recollect_api.admin.records import LabelMove, ModelVersion, ModelVersionPage, RemovedVersions
from recollect_api.connections import either
from recollect_api.v1 import models_pb2
from recollect_api.wire import made


class ModelCalls(BlockingAdminConnections):
    """For callers that block."""

    def list_model_versions(
        self, name: str = "", *, page_size: int = 0, page_token: str = "", timeout_s: float | None = None
    ) -> ModelVersionPage:
        """One page of versions of a model, or of all; `page_size` 0 leaves the size to the service."""
        request = made(models_pb2.ModelsListRequest, name=name, page_size=page_size, page_token=page_token)
        timeout_s = either(timeout_s, self.timeout_s)
        return wire.model_version_page(self._ask(lambda stubs: stubs.models.List, request, timeout_s))

    def model_versions(self, name: str = "", *, page_size: int = 0) -> Iterator[ModelVersion]:
        """Every version of a model, or of all, page after page as they are consumed."""
        token = ""
        while True:
            page = self.list_model_versions(name, page_size=page_size, page_token=token)
            yield from page.versions
            token = page.next_page_token
            if not token:
                return

    def verify_model(self, name: str, version: str, *, timeout_s: float | None = None) -> None:
        """Compare every file of a version with its hash; NotPossible where one is missing or altered."""
        request = models_pb2.ModelsVerifyRequest(name=name, version=version)
        self._ask(lambda stubs: stubs.models.Verify, request, either(timeout_s, self.judging_timeout_s))

    def activate_model(
        self,
        name: str,
        version: str,
        *,
        label: str = "stable",
        expected_version: str | None = None,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> LabelMove:
        """Let a label point at a version, and the recommender answer with it where it follows that label."""
        request = models_pb2.ModelsActivateRequest(
            name=name, version=version, label=label, expected_version=expected_version, request_id=request_id
        )
        timeout_s = either(timeout_s, self.judging_timeout_s)
        return wire.model_activation(request, self._ask(lambda stubs: stubs.models.Activate, request, timeout_s))

    def roll_back_model(
        self,
        name: str,
        *,
        label: str = "stable",
        expected_version: str | None = None,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> LabelMove:
        """Let a label point at the version before, as `activate_model` does; again, at the one before that."""
        request = models_pb2.ModelsRollbackRequest(
            name=name, label=label, expected_version=expected_version, request_id=request_id
        )
        timeout_s = either(timeout_s, self.judging_timeout_s)
        response = self._ask(lambda stubs: stubs.models.Rollback, request, timeout_s)
        return LabelMove(version=response.version, before=response.before, answers=response.answers)

    def remove_unneeded_model_versions(
        self, name: str, *, keep: int | None = None, request_id: str = "", timeout_s: float | None = None
    ) -> RemovedVersions:
        """Remove versions that no label needs and no process uses; `keep` of them stay for each label (None: 2)."""
        request = made(models_pb2.ModelsRemoveUnneededRequest, name=name, keep=keep, request_id=request_id)
        timeout_s = either(timeout_s, self.judging_timeout_s)
        return wire.removed(self._ask(lambda stubs: stubs.models.RemoveUnneeded, request, timeout_s))


class AsyncModelCalls(AsyncAdminConnections):
    """For asyncio: same methods, answers and errors as `ModelCalls`."""

    async def list_model_versions(
        self, name: str = "", *, page_size: int = 0, page_token: str = "", timeout_s: float | None = None
    ) -> ModelVersionPage:
        """One page of versions of a model, or of all; `page_size` 0 leaves the size to the service."""
        request = made(models_pb2.ModelsListRequest, name=name, page_size=page_size, page_token=page_token)
        timeout_s = either(timeout_s, self.timeout_s)
        return wire.model_version_page(await self._ask(lambda stubs: stubs.models.List, request, timeout_s))

    async def model_versions(self, name: str = "", *, page_size: int = 0) -> AsyncIterator[ModelVersion]:
        """Every version of a model, or of all, page after page as they are consumed."""
        token = ""
        while True:
            page = await self.list_model_versions(name, page_size=page_size, page_token=token)
            for each in page.versions:
                yield each
            token = page.next_page_token
            if not token:
                return

    async def verify_model(self, name: str, version: str, *, timeout_s: float | None = None) -> None:
        """Compare every file of a version with its hash; NotPossible where one is missing or altered."""
        request = models_pb2.ModelsVerifyRequest(name=name, version=version)
        await self._ask(lambda stubs: stubs.models.Verify, request, either(timeout_s, self.judging_timeout_s))

    async def activate_model(
        self,
        name: str,
        version: str,
        *,
        label: str = "stable",
        expected_version: str | None = None,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> LabelMove:
        """Let a label point at a version, and the recommender answer with it where it follows that label."""
        request = models_pb2.ModelsActivateRequest(
            name=name, version=version, label=label, expected_version=expected_version, request_id=request_id
        )
        timeout_s = either(timeout_s, self.judging_timeout_s)
        return wire.model_activation(request, await self._ask(lambda stubs: stubs.models.Activate, request, timeout_s))

    async def roll_back_model(
        self,
        name: str,
        *,
        label: str = "stable",
        expected_version: str | None = None,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> LabelMove:
        """Let a label point at the version before, as `activate_model` does; again, at the one before that."""
        request = models_pb2.ModelsRollbackRequest(
            name=name, label=label, expected_version=expected_version, request_id=request_id
        )
        timeout_s = either(timeout_s, self.judging_timeout_s)
        response = await self._ask(lambda stubs: stubs.models.Rollback, request, timeout_s)
        return LabelMove(version=response.version, before=response.before, answers=response.answers)

    async def remove_unneeded_model_versions(
        self, name: str, *, keep: int | None = None, request_id: str = "", timeout_s: float | None = None
    ) -> RemovedVersions:
        """Remove versions that no label needs and no process uses; `keep` of them stay for each label (None: 2)."""
        request = made(models_pb2.ModelsRemoveUnneededRequest, name=name, keep=keep, request_id=request_id)
        timeout_s = either(timeout_s, self.judging_timeout_s)
        return wire.removed(await self._ask(lambda stubs: stubs.models.RemoveUnneeded, request, timeout_s))
