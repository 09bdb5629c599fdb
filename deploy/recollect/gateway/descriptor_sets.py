"""Answer DescriptorSets: check what is sent, store it, and say how far it is."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

import grpc.aio  # type: ignore[import-untyped]

from recollect.classification.calls import ClassificationBackend
from recollect.classification.store import Standing
from recollect.gateway.classification_checks import (
    check_create,
    check_delete,
    check_get,
    check_list_sets,
    check_update,
    page_token,
)
from recollect.gateway.classifier import required
from recollect.gateway.workers import require_time
from recollect_api.v1 import descriptor_sets_pb2, descriptor_sets_pb2_grpc
from retrieval.descriptors.descriptor_set import DescriptorSet
from retrieval.descriptors.problems import Problem

T = TypeVar("T")

MAX_WAIT_S = 2.0
"""How long Create and Update wait for a revision to answer."""
SHARE_OF_TIME = 0.5
"""Of what a caller still has, that is waited: a stored revision must not end as a passed deadline."""
MAX_WARNINGS = 100


class DescriptorSetsServicer(descriptor_sets_pb2_grpc.DescriptorSetsServicer):
    """Keeps the sets of `backend`; without one, every call says how to get one.

    Sets are checked off the event loop: a large one takes longer than a Score may wait.
    """

    def __init__(self, backend: ClassificationBackend | None) -> None:
        self._backend = backend

    async def Create(  # noqa: N802 - gRPC's name, here and below
        self, request: descriptor_sets_pb2.DescriptorSetsCreateRequest, context: grpc.aio.ServicerContext
    ) -> descriptor_sets_pb2.DescriptorSetsCreateResponse:
        """Store a new set."""
        backend = required(self._backend)
        descriptors, warnings = await asyncio.to_thread(_checked, check_create, request)
        require_time(context)
        standing = await backend.create_set(descriptors, wait_s=_wait_s(context))
        return descriptor_sets_pb2.DescriptorSetsCreateResponse(
            revision=_revision(standing), warnings=warnings, request_id=request.request_id
        )

    async def Get(  # noqa: N802
        self, request: descriptor_sets_pb2.DescriptorSetsGetRequest, context: grpc.aio.ServicerContext
    ) -> descriptor_sets_pb2.DescriptorSetsGetResponse:
        """The newest accepted content of a set."""
        backend = required(self._backend)
        check_get(request)
        require_time(context)
        descriptors, standing = await backend.get_set(request.name)
        return await asyncio.to_thread(_found, descriptors, standing)

    async def List(  # noqa: N802
        self, request: descriptor_sets_pb2.DescriptorSetsListRequest, context: grpc.aio.ServicerContext
    ) -> descriptor_sets_pb2.DescriptorSetsListResponse:
        """One page of sets, by name."""
        backend = required(self._backend)
        after, page_size = check_list_sets(request)
        require_time(context)
        # One more than fits into the page says whether there is a next one.
        found = await backend.list_sets(after=after, limit=page_size + 1)
        page = found[:page_size]
        return descriptor_sets_pb2.DescriptorSetsListResponse(
            descriptor_sets=[
                descriptor_sets_pb2.DescriptorSetSummary(name=each.revision.name, revision=_revision(each))
                for each in page
            ],
            next_page_token=page_token(page[-1].revision.name) if len(found) > page_size else "",
        )

    async def Update(  # noqa: N802
        self, request: descriptor_sets_pb2.DescriptorSetsUpdateRequest, context: grpc.aio.ServicerContext
    ) -> descriptor_sets_pb2.DescriptorSetsUpdateResponse:
        """Replace a set that is still as the caller has read it."""
        backend = required(self._backend)
        descriptors, warnings = await asyncio.to_thread(_checked, check_update, request)
        require_time(context)
        standing = await backend.update_set(descriptors, etag=request.etag, wait_s=_wait_s(context))
        return descriptor_sets_pb2.DescriptorSetsUpdateResponse(
            revision=_revision(standing), warnings=warnings, request_id=request.request_id
        )

    async def Delete(  # noqa: N802
        self, request: descriptor_sets_pb2.DescriptorSetsDeleteRequest, context: grpc.aio.ServicerContext
    ) -> descriptor_sets_pb2.DescriptorSetsDeleteResponse:
        """Delete a set."""
        backend = required(self._backend)
        check_delete(request)
        require_time(context)
        await backend.delete_set(request.name, etag=request.etag)
        return descriptor_sets_pb2.DescriptorSetsDeleteResponse(request_id=request.request_id)


def _checked(
    check: Callable[[T], DescriptorSet], request: T
) -> tuple[DescriptorSet, list[descriptor_sets_pb2.DescriptorWarning]]:
    descriptors = check(request)
    return descriptors, _warnings(descriptors)


def _found(descriptors: DescriptorSet, standing: Standing) -> descriptor_sets_pb2.DescriptorSetsGetResponse:
    return descriptor_sets_pb2.DescriptorSetsGetResponse(
        descriptor_set=descriptor_sets_pb2.DescriptorSet(
            name=descriptors.name,
            classes=[
                descriptor_sets_pb2.DescribedClass(name=each.name, descriptors=each.descriptors)
                for each in descriptors.classes
            ],
            prefix=descriptors.prefix,
            suffix=descriptors.suffix,
        ),
        revision=_revision(standing),
        warnings=_warnings(descriptors),
    )


def _warnings(descriptors: DescriptorSet) -> list[descriptor_sets_pb2.DescriptorWarning]:
    return list(map(_warning, descriptors.problems()[:MAX_WARNINGS]))


def _warning(problem: Problem) -> descriptor_sets_pb2.DescriptorWarning:
    return descriptor_sets_pb2.DescriptorWarning(
        class_name=problem.class_name, descriptor=problem.descriptor, message=problem.message
    )


def _revision(standing: Standing) -> descriptor_sets_pb2.Revision:
    revision = standing.revision
    return descriptor_sets_pb2.Revision(
        etag=revision.etag,
        state=(
            descriptor_sets_pb2.REVISION_STATE_READY if standing.ready else descriptor_sets_pb2.REVISION_STATE_PREPARING
        ),
        classes=revision.classes,
        texts=revision.texts,
        texts_embedded=standing.embedded,
        serving_etag=standing.serving_etag,
        shipped=revision.shipped,
    )


def _wait_s(context: grpc.aio.ServicerContext) -> float:
    remaining = context.time_remaining()
    return MAX_WAIT_S if remaining is None else min(MAX_WAIT_S, SHARE_OF_TIME * remaining)
