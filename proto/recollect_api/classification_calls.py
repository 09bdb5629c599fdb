"""The clients' calls for classification: classify images, and keep the descriptor sets that it is done by."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial

from recollect_api import classification_wire as wire
from recollect_api.classification_records import (
    Classifications,
    DescriptorSetPage,
    DescriptorSetRevision,
    Scoring,
    StoredDescriptorSet,
)
from recollect_api.classification_wire import Classes, Image
from recollect_api.connections import AsyncConnections, BlockingConnections, either
from recollect_api.v1 import descriptor_sets_pb2
from recollect_api.wire import made


class ClassificationCalls(BlockingConnections):
    """Classifier and DescriptorSets for callers that block."""

    def classify(
        self,
        images: Sequence[Image],
        *,
        descriptor_set: str | None = None,
        classes: Classes | None = None,
        prefix: str = "",
        suffix: str = "",
        top_k: int = 5,
        explain: bool = False,
        contrast_with: str | None = None,
        scoring: Scoring = Scoring.MEAN,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Classifications:
        """Say what each of `images` (bytes or paths of files) shows, among the classes of a stored set or of `classes`.

        `prefix` and `suffix` frame the texts of `classes`. `contrast_with` names a class: what made the best one win
        against it comes back as well. An image that cannot be read is a `RefusedImage` at its place.
        """
        request = wire.classify_request(
            images,
            descriptor_set=descriptor_set,
            classes=classes,
            prefix=prefix,
            suffix=suffix,
            top_k=top_k,
            explain=explain,
            contrast_with=contrast_with,
            scoring=scoring,
            request_id=request_id,
        )
        timeout_s = either(timeout_s, self.classify_timeout_s)
        return wire.classifications(self._ask(lambda stubs: stubs.classifier.Classify, request, timeout_s))

    def create_descriptor_set(
        self,
        name: str,
        classes: Classes,
        *,
        prefix: str = "",
        suffix: str = "",
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> DescriptorSetRevision:
        """Store a new set; AlreadyExists where one of this name says something else."""
        content = wire.descriptor_set_message(name, classes, prefix=prefix, suffix=suffix)
        request = descriptor_sets_pb2.DescriptorSetsCreateRequest(descriptor_set=content, request_id=request_id)
        timeout_s = either(timeout_s, self.classify_timeout_s)
        response = self._ask(lambda stubs: stubs.descriptor_sets.Create, request, timeout_s)
        return wire.revision(name, response.revision, response.warnings)

    def get_descriptor_set(self, name: str, *, timeout_s: float | None = None) -> StoredDescriptorSet:
        """The newest revision of a set with its content; NotFound names the sets whose names come close."""
        request = descriptor_sets_pb2.DescriptorSetsGetRequest(name=name)
        timeout_s = either(timeout_s, self.timeout_s)
        return wire.stored_descriptor_set(self._ask(lambda stubs: stubs.descriptor_sets.Get, request, timeout_s))

    def list_descriptor_sets(
        self, *, page_size: int = 0, page_token: str = "", timeout_s: float | None = None
    ) -> DescriptorSetPage:
        """One page of the sets, by name; `page_size` 0 leaves the size to the service."""
        request = made(descriptor_sets_pb2.DescriptorSetsListRequest, page_size=page_size, page_token=page_token)
        timeout_s = either(timeout_s, self.timeout_s)
        return wire.descriptor_set_page(self._ask(lambda stubs: stubs.descriptor_sets.List, request, timeout_s))

    def descriptor_sets(self, *, page_size: int = 0) -> Iterator[DescriptorSetRevision]:
        """Every set, by name, page after page as they are consumed."""
        token = ""
        while True:
            page = self.list_descriptor_sets(page_size=page_size, page_token=token)
            yield from page.descriptor_sets
            token = page.next_page_token
            if not token:
                return

    def update_descriptor_set(
        self,
        name: str,
        classes: Classes,
        *,
        etag: str,
        prefix: str = "",
        suffix: str = "",
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> DescriptorSetRevision:
        """Replace the whole set, if `etag` is still its revision; Conflict where it has changed in between."""
        content = wire.descriptor_set_message(name, classes, prefix=prefix, suffix=suffix)
        request = descriptor_sets_pb2.DescriptorSetsUpdateRequest(
            descriptor_set=content, etag=etag, request_id=request_id
        )
        timeout_s = either(timeout_s, self.classify_timeout_s)
        response = self._ask(lambda stubs: stubs.descriptor_sets.Update, request, timeout_s)
        return wire.revision(name, response.revision, response.warnings)

    def delete_descriptor_set(
        self, name: str, *, etag: str = "", request_id: str = "", timeout_s: float | None = None
    ) -> None:
        """Delete a set; with `etag` only if that is still its revision."""
        request = descriptor_sets_pb2.DescriptorSetsDeleteRequest(name=name, etag=etag, request_id=request_id)
        self._ask(lambda stubs: stubs.descriptor_sets.Delete, request, either(timeout_s, self.timeout_s))


class AsyncClassificationCalls(AsyncConnections):
    """Classifier and DescriptorSets for asyncio: same methods, answers and errors as `ClassificationCalls`."""

    async def classify(
        self,
        images: Sequence[Image],
        *,
        descriptor_set: str | None = None,
        classes: Classes | None = None,
        prefix: str = "",
        suffix: str = "",
        top_k: int = 5,
        explain: bool = False,
        contrast_with: str | None = None,
        scoring: Scoring = Scoring.MEAN,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Classifications:
        """Say what each of `images` (bytes or paths of files) shows, among the classes of a stored set or of `classes`.

        `prefix` and `suffix` frame the texts of `classes`. `contrast_with` names a class: what made the best one win
        against it comes back as well. An image that cannot be read is a `RefusedImage` at its place.
        """
        make = partial(
            wire.classify_request,
            images,
            descriptor_set=descriptor_set,
            classes=classes,
            prefix=prefix,
            suffix=suffix,
            top_k=top_k,
            explain=explain,
            contrast_with=contrast_with,
            scoring=scoring,
            request_id=request_id,
        )
        # Files are read off the event loop.
        request = make() if all(isinstance(image, bytes) for image in images) else await asyncio.to_thread(make)
        timeout_s = either(timeout_s, self.classify_timeout_s)
        return wire.classifications(await self._ask(lambda stubs: stubs.classifier.Classify, request, timeout_s))

    async def create_descriptor_set(
        self,
        name: str,
        classes: Classes,
        *,
        prefix: str = "",
        suffix: str = "",
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> DescriptorSetRevision:
        """Store a new set; AlreadyExists where one of this name says something else."""
        content = wire.descriptor_set_message(name, classes, prefix=prefix, suffix=suffix)
        request = descriptor_sets_pb2.DescriptorSetsCreateRequest(descriptor_set=content, request_id=request_id)
        timeout_s = either(timeout_s, self.classify_timeout_s)
        response = await self._ask(lambda stubs: stubs.descriptor_sets.Create, request, timeout_s)
        return wire.revision(name, response.revision, response.warnings)

    async def get_descriptor_set(self, name: str, *, timeout_s: float | None = None) -> StoredDescriptorSet:
        """The newest revision of a set with its content; NotFound names the sets whose names come close."""
        request = descriptor_sets_pb2.DescriptorSetsGetRequest(name=name)
        timeout_s = either(timeout_s, self.timeout_s)
        return wire.stored_descriptor_set(await self._ask(lambda stubs: stubs.descriptor_sets.Get, request, timeout_s))

    async def list_descriptor_sets(
        self, *, page_size: int = 0, page_token: str = "", timeout_s: float | None = None
    ) -> DescriptorSetPage:
        """One page of the sets, by name; `page_size` 0 leaves the size to the service."""
        request = made(descriptor_sets_pb2.DescriptorSetsListRequest, page_size=page_size, page_token=page_token)
        timeout_s = either(timeout_s, self.timeout_s)
        return wire.descriptor_set_page(await self._ask(lambda stubs: stubs.descriptor_sets.List, request, timeout_s))

    async def descriptor_sets(self, *, page_size: int = 0) -> AsyncIterator[DescriptorSetRevision]:
        """Every set, by name, page after page as they are consumed."""
        token = ""
        while True:
            page = await self.list_descriptor_sets(page_size=page_size, page_token=token)
            for each in page.descriptor_sets:
                yield each
            token = page.next_page_token
            if not token:
                return

    async def update_descriptor_set(
        self,
        name: str,
        classes: Classes,
        *,
        etag: str,
        prefix: str = "",
        suffix: str = "",
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> DescriptorSetRevision:
        """Replace the whole set, if `etag` is still its revision; Conflict where it has changed in between."""
        content = wire.descriptor_set_message(name, classes, prefix=prefix, suffix=suffix)
        request = descriptor_sets_pb2.DescriptorSetsUpdateRequest(
            descriptor_set=content, etag=etag, request_id=request_id
        )
        timeout_s = either(timeout_s, self.classify_timeout_s)
        response = await self._ask(lambda stubs: stubs.descriptor_sets.Update, request, timeout_s)
        return wire.revision(name, response.revision, response.warnings)

    async def delete_descriptor_set(
        self, name: str, *, etag: str = "", request_id: str = "", timeout_s: float | None = None
    ) -> None:
        """Delete a set; with `etag` only if that is still its revision."""
        request = descriptor_sets_pb2.DescriptorSetsDeleteRequest(name=name, etag=etag, request_id=request_id)
        await self._ask(lambda stubs: stubs.descriptor_sets.Delete, request, either(timeout_s, self.timeout_s))
