"""The admin clients' calls for indexes: build them, say what versions are worth, and move labels."""

from collections.abc import AsyncIterator, Iterator, Sequence

from recollect_api.admin import wire
from recollect_api.admin.connections import AsyncAdminConnections, BlockingAdminConnections
from recollect_api.admin.records import (
    BuildOperation,
    IndexKind,
    IndexVersion,
    IndexVersionPage,
    LabelMove,
    Quality,
    RemovedVersions,
    VectorStorage,
)
from recollect_api.connections import either
from recollect_api.v1 import indexes_pb2
from recollect_api.wire import made


class IndexCalls(BlockingAdminConnections):
    """For callers that block."""

    def build_index(
        self,
        name: str,
        *,
        model: str | None = None,
        files: Sequence[str] | None = None,
        gallery: str | None = None,
        kind: IndexKind = IndexKind.UNSPECIFIED,
        storage: VectorStorage = VectorStorage.UNSPECIFIED,
        refine: VectorStorage = VectorStorage.UNSPECIFIED,
        memory_bytes: int = 0,
        inner_product: bool = False,
        recall_aim: float | None = None,
        label: str = "stable",
        seed: int = 0,
        drop_added: bool = False,
        restore_deleted: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> BuildOperation:
        """Start to build a version of an index of a `model`'s items, of Parquet `files`, or of a `gallery`'s pictures.

        `files` are paths below the service's directory of build sources. `label` points at the version if it may
        answer, none if it is empty. What was added and deleted since the last build is merged, unless `drop_added` or
        `restore_deleted`. NotPossible where the index is being built: its `metadata` names the `operation`.
        """
        request = wire.build_request(
            name,
            model=model,
            files=files,
            gallery=gallery,
            kind=kind,
            storage=storage,
            refine=refine,
            memory_bytes=memory_bytes,
            inner_product=inner_product,
            recall_aim=recall_aim,
            label=label,
            seed=seed,
            drop_added=drop_added,
            restore_deleted=restore_deleted,
            request_id=request_id,
        )
        timeout_s = either(timeout_s, self.timeout_s)
        return wire.operation(self._ask(lambda stubs: stubs.indexes.Build, request, timeout_s))

    def list_index_versions(
        self, name: str = "", *, page_size: int = 0, page_token: str = "", timeout_s: float | None = None
    ) -> IndexVersionPage:
        """One page of versions of an index, or of all; `page_size` 0 leaves the size to the service."""
        request = made(indexes_pb2.IndexesListRequest, name=name, page_size=page_size, page_token=page_token)
        timeout_s = either(timeout_s, self.timeout_s)
        return wire.index_version_page(self._ask(lambda stubs: stubs.indexes.List, request, timeout_s))

    def index_versions(self, name: str = "", *, page_size: int = 0) -> Iterator[IndexVersion]:
        """Every version of an index, or of all, page after page as they are consumed."""
        token = ""
        while True:
            page = self.list_index_versions(name, page_size=page_size, page_token=token)
            yield from page.versions
            token = page.next_page_token
            if not token:
                return

    def verify_index(
        self, name: str, version: str, *, against: str = "stable", timeout_s: float | None = None
    ) -> Quality:
        """Check every file of a version and judge it beside the one that the label `against` points at."""
        request = indexes_pb2.IndexesVerifyRequest(name=name, version=version, against=against)
        timeout_s = either(timeout_s, self.judging_timeout_s)
        return wire.quality(self._ask(lambda stubs: stubs.indexes.Verify, request, timeout_s).quality)

    def activate_index(
        self,
        name: str,
        version: str,
        *,
        label: str = "stable",
        expected_version: str | None = None,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> LabelMove:
        """Judge a version, and let a label point at it; NotPossible, with `preconditions`, where it may not answer."""
        request = indexes_pb2.IndexesActivateRequest(
            name=name, version=version, label=label, expected_version=expected_version, request_id=request_id
        )
        timeout_s = either(timeout_s, self.judging_timeout_s)
        return wire.index_activation(request, self._ask(lambda stubs: stubs.indexes.Activate, request, timeout_s))

    def roll_back_index(
        self,
        name: str,
        *,
        label: str = "stable",
        expected_version: str | None = None,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> LabelMove:
        """Let a label point at the version before; again, at the one before that."""
        request = indexes_pb2.IndexesRollbackRequest(
            name=name, label=label, expected_version=expected_version, request_id=request_id
        )
        timeout_s = either(timeout_s, self.judging_timeout_s)
        response = self._ask(lambda stubs: stubs.indexes.Rollback, request, timeout_s)
        return LabelMove(version=response.version, before=response.before)

    def remove_unneeded_index_versions(
        self, name: str, *, keep: int | None = None, request_id: str = "", timeout_s: float | None = None
    ) -> RemovedVersions:
        """Remove versions that no label needs and no process uses; `keep` of them stay for each label (None: 2)."""
        request = made(indexes_pb2.IndexesRemoveUnneededRequest, name=name, keep=keep, request_id=request_id)
        timeout_s = either(timeout_s, self.judging_timeout_s)
        return wire.removed(self._ask(lambda stubs: stubs.indexes.RemoveUnneeded, request, timeout_s))


class AsyncIndexCalls(AsyncAdminConnections):
    """For asyncio: same methods, answers and errors as `IndexCalls`."""

    async def build_index(
        self,
        name: str,
        *,
        model: str | None = None,
        files: Sequence[str] | None = None,
        gallery: str | None = None,
        kind: IndexKind = IndexKind.UNSPECIFIED,
        storage: VectorStorage = VectorStorage.UNSPECIFIED,
        refine: VectorStorage = VectorStorage.UNSPECIFIED,
        memory_bytes: int = 0,
        inner_product: bool = False,
        recall_aim: float | None = None,
        label: str = "stable",
        seed: int = 0,
        drop_added: bool = False,
        restore_deleted: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> BuildOperation:
        """Start to build a version of an index of a `model`'s items, of Parquet `files`, or of a `gallery`'s pictures.

        `files` are paths below the service's directory of build sources. `label` points at the version if it may
        answer, none if it is empty. What was added and deleted since the last build is merged, unless `drop_added` or
        `restore_deleted`. NotPossible where the index is being built: its `metadata` names the `operation`.
        """
        request = wire.build_request(
            name,
            model=model,
            files=files,
            gallery=gallery,
            kind=kind,
            storage=storage,
            refine=refine,
            memory_bytes=memory_bytes,
            inner_product=inner_product,
            recall_aim=recall_aim,
            label=label,
            seed=seed,
            drop_added=drop_added,
            restore_deleted=restore_deleted,
            request_id=request_id,
        )
        timeout_s = either(timeout_s, self.timeout_s)
        return wire.operation(await self._ask(lambda stubs: stubs.indexes.Build, request, timeout_s))

    async def list_index_versions(
        self, name: str = "", *, page_size: int = 0, page_token: str = "", timeout_s: float | None = None
    ) -> IndexVersionPage:
        """One page of versions of an index, or of all; `page_size` 0 leaves the size to the service."""
        request = made(indexes_pb2.IndexesListRequest, name=name, page_size=page_size, page_token=page_token)
        timeout_s = either(timeout_s, self.timeout_s)
        return wire.index_version_page(await self._ask(lambda stubs: stubs.indexes.List, request, timeout_s))

    async def index_versions(self, name: str = "", *, page_size: int = 0) -> AsyncIterator[IndexVersion]:
        """Every version of an index, or of all, page after page as they are consumed."""
        token = ""
        while True:
            page = await self.list_index_versions(name, page_size=page_size, page_token=token)
            for each in page.versions:
                yield each
            token = page.next_page_token
            if not token:
                return

    async def verify_index(
        self, name: str, version: str, *, against: str = "stable", timeout_s: float | None = None
    ) -> Quality:
        """Check every file of a version and judge it beside the one that the label `against` points at."""
        request = indexes_pb2.IndexesVerifyRequest(name=name, version=version, against=against)
        timeout_s = either(timeout_s, self.judging_timeout_s)
        return wire.quality((await self._ask(lambda stubs: stubs.indexes.Verify, request, timeout_s)).quality)

    async def activate_index(
        self,
        name: str,
        version: str,
        *,
        label: str = "stable",
        expected_version: str | None = None,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> LabelMove:
        """Judge a version, and let a label point at it; NotPossible, with `preconditions`, where it may not answer."""
        request = indexes_pb2.IndexesActivateRequest(
            name=name, version=version, label=label, expected_version=expected_version, request_id=request_id
        )
        timeout_s = either(timeout_s, self.judging_timeout_s)
        return wire.index_activation(request, await self._ask(lambda stubs: stubs.indexes.Activate, request, timeout_s))

    async def roll_back_index(
        self,
        name: str,
        *,
        label: str = "stable",
        expected_version: str | None = None,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> LabelMove:
        """Let a label point at the version before; again, at the one before that."""
        request = indexes_pb2.IndexesRollbackRequest(
            name=name, label=label, expected_version=expected_version, request_id=request_id
        )
        timeout_s = either(timeout_s, self.judging_timeout_s)
        response = await self._ask(lambda stubs: stubs.indexes.Rollback, request, timeout_s)
        return LabelMove(version=response.version, before=response.before)

    async def remove_unneeded_index_versions(
        self, name: str, *, keep: int | None = None, request_id: str = "", timeout_s: float | None = None
    ) -> RemovedVersions:
        """Remove versions that no label needs and no process uses; `keep` of them stay for each label (None: 2)."""
        request = made(indexes_pb2.IndexesRemoveUnneededRequest, name=name, keep=keep, request_id=request_id)
        timeout_s = either(timeout_s, self.judging_timeout_s)
        return wire.removed(await self._ask(lambda stubs: stubs.indexes.RemoveUnneeded, request, timeout_s))
