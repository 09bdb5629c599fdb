"""The clients' calls for composed retrieval: find the object of a picture, changed as a text says; list galleries."""

import asyncio
from functools import partial

from recollect_api import composed_wire as wire
from recollect_api.classification_wire import Image
from recollect_api.composed_records import ComposedResults, Galleries
from recollect_api.composed_wire import BoxSides
from recollect_api.connections import AsyncConnections, BlockingConnections, either
from recollect_api.metadata_wire import Filters
from recollect_api.v1 import composed_retrieval_pb2


class ComposedCalls(BlockingConnections):
    """ComposedRetrieval for callers that block."""

    def search_composed(
        self,
        text: str,
        *,
        gallery: str,
        image: Image | None = None,
        image_id: str | None = None,
        box: BoxSides | None = None,
        k: int = 10,
        filters: Filters | None = None,
        explain: bool = False,
        beta: float | None = None,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> ComposedResults:
        """Find pictures of `gallery` that show the object of a reference picture, changed as `text` says.

        The reference is `image` (bytes, or the path of a file) or the gallery's own `image_id`; `box` says in its
        pixels where the object is. `filters` keeps hits whose column has one of the values. `beta` says how strongly to
        look at the box; None leaves it to the model.
        """
        request = wire.search_request(
            text,
            gallery=gallery,
            image=image,
            image_id=image_id,
            box=box,
            k=k,
            filters=filters,
            explain=explain,
            beta=beta,
            request_id=request_id,
        )
        timeout_s = either(timeout_s, self.classify_timeout_s)
        return wire.results(self._ask(lambda stubs: stubs.composed_retrieval.Search, request, timeout_s))

    def list_galleries(self, *, timeout_s: float | None = None) -> Galleries:
        """All galleries, by name, and which version of each answers."""
        request = composed_retrieval_pb2.ListGalleriesRequest()
        timeout_s = either(timeout_s, self.timeout_s)
        return wire.galleries(self._ask(lambda stubs: stubs.composed_retrieval.ListGalleries, request, timeout_s))


class AsyncComposedCalls(AsyncConnections):
    """ComposedRetrieval for asyncio: same methods, answers and errors as `ComposedCalls`."""

    async def search_composed(
        self,
        text: str,
        *,
        gallery: str,
        image: Image | None = None,
        image_id: str | None = None,
        box: BoxSides | None = None,
        k: int = 10,
        filters: Filters | None = None,
        explain: bool = False,
        beta: float | None = None,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> ComposedResults:
        """Find pictures of `gallery` that show the object of a reference picture, changed as `text` says.

        The reference is `image` (bytes, or the path of a file) or the gallery's own `image_id`; `box` says in its
        pixels where the object is. `filters` keeps hits whose column has one of the values. `beta` says how strongly to
        look at the box; None leaves it to the model.
        """
        make = partial(
            wire.search_request,
            text,
            gallery=gallery,
            image=image,
            image_id=image_id,
            box=box,
            k=k,
            filters=filters,
            explain=explain,
            beta=beta,
            request_id=request_id,
        )
        # A file is read off the event loop.
        request = make() if image is None or isinstance(image, bytes) else await asyncio.to_thread(make)
        timeout_s = either(timeout_s, self.classify_timeout_s)
        return wire.results(await self._ask(lambda stubs: stubs.composed_retrieval.Search, request, timeout_s))

    async def list_galleries(self, *, timeout_s: float | None = None) -> Galleries:
        """All galleries, by name, and which version of each answers."""
        request = composed_retrieval_pb2.ListGalleriesRequest()
        timeout_s = either(timeout_s, self.timeout_s)
        return wire.galleries(await self._ask(lambda stubs: stubs.composed_retrieval.ListGalleries, request, timeout_s))
