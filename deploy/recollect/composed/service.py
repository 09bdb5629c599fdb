"""Composed retrieval in one process: features of the reference, the query's embedding, the search, and its reasons."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from typing import Self, TypeVar

import numpy as np

from recollect.classification.batching import Batcher
from recollect.composed.calls import (
    FoundPicture,
    GalleryList,
    NoEffect,
    SearchAnswer,
    SearchCall,
    SearchNote,
    SearchReasons,
)
from recollect.composed.config import ComposedConfig
from recollect.composed.galleries import OpenGallery
from recollect.composed.queries import EmbeddedQuery, Query, embed_together
from recollect.composed.reasons import reasons_of
from recollect.composed.references import (
    MaskedBox,
    ReadPicture,
    Reference,
    RememberedReferences,
    masked,
    read_picture,
)
from recollect.composed.versions import GalleryVersions
from recollect.gateway.errors import (
    DeadlinePassed,
    GalleryUnusable,
    ImageNotRead,
    InvalidCall,
    TooManyWaiting,
    Violation,
)
from recollect.telemetry.answers import serving
from recollect.telemetry.stages import stage
from retrieval.composed.encoder import ComposedEncoder, Tokens
from retrieval.composed.geometry import Floats
from retrieval.errors import BoxError, ImageRefused

T = TypeVar("T")

SHOWN_DIGITS = 12
"""Digits of the model's fingerprint that an answer carries."""


class ComposedService:
    """A `ComposedBackend` with the model in this process; `start` it and `stop` it in the same event loop."""

    def __init__(self, config: ComposedConfig, encoder: ComposedEncoder) -> None:
        self._config = config
        self._encoder = encoder
        threads = partial(_use_torch_threads, config.embedding_threads)
        self._decoding = ThreadPoolExecutor(config.decode_threads, thread_name_prefix="decoding")
        self._embedding = ThreadPoolExecutor(1, thread_name_prefix="embedding", initializer=threads)
        # Several searches at a time use the cores as well as one that is computed with all of them.
        alone = partial(_use_torch_threads, 1)
        self._searching = ThreadPoolExecutor(config.search_threads, thread_name_prefix="searching", initializer=alone)
        self._pictures = Batcher[Floats, Tokens](
            lambda pixels: list(encoder.image_tokens(np.stack(pixels))), self._embedding, largest=config.largest_batch
        )
        self._queries = Batcher[Query, EmbeddedQuery](
            partial(embed_together, encoder), self._embedding, largest=config.largest_batch, items="queries"
        )
        self._versions = GalleryVersions(
            config.indexes,
            shared=config.shared,
            label=config.label,
            fingerprint=encoder.fingerprint,
            look_s=config.look_s,
        )
        self._references = RememberedReferences(config.references)
        self._inside = 0

    @classmethod
    def load(cls, config: ComposedConfig) -> Self:
        """With the model that `config` names; ComposedError where there is none. Takes seconds."""
        from retrieval.composed.encoder import load_composed
        from retrieval.index.search import use_threads

        use_threads(1)
        _use_torch_threads(config.embedding_threads)
        encoder = load_composed(config.model)
        serving("composed model", config.model_name, encoder.fingerprint[:SHOWN_DIGITS])
        return cls(config, encoder)

    async def start(self) -> None:
        """Open the galleries that there are, and follow their labels from now on."""
        await self._versions.start()

    async def stop(self) -> None:
        """End the background work and the threads."""
        await self._versions.stop()
        for executor in (self._decoding, self._embedding, self._searching):
            executor.shutdown(wait=False, cancel_futures=True)

    async def search(self, call: SearchCall) -> SearchAnswer:
        """The pictures that fit `call` best."""
        with self._room():
            async with _deadline(call.timeout_s):
                # Taken once: all of this call is answered by this version, whatever is published meanwhile.
                gallery = await self._versions.current(call.gallery)
                return await self._searched(call, gallery)

    async def galleries(self) -> GalleryList:
        """All galleries, by name."""
        return GalleryList(
            galleries=await self._versions.standings(),
            model_name=self._config.model_name,
            model_fingerprint=self._encoder.fingerprint[:SHOWN_DIGITS],
        )

    async def _searched(self, call: SearchCall, gallery: OpenGallery) -> SearchAnswer:
        allowed = await self._run(self._searching, partial(gallery.allowed, call.filters)) if call.filters else None
        reference = await self._reference(call, gallery)
        box = self._masked(call, reference)
        asked = Query(tokens=reference.tokens, mask=box.mask, text=call.text, beta=call.beta)
        (query,) = await self._queries.results([asked])
        exclude = (call.reference,) if isinstance(call.reference, str) else ()
        with stage("searching"):
            hits = await self._run(
                self._searching, partial(gallery.search, query.vector, call.k, exclude=exclude, allowed=allowed)
            )
        return SearchAnswer(
            hits=tuple(hits),
            beta=tuple(float(beta) for beta in query.beta),
            version=gallery.version,
            model_name=self._config.model_name,
            model_fingerprint=self._encoder.fingerprint[:SHOWN_DIGITS],
            notes=tuple(self._notes(call, box, query, reference)),
            reasons=await self._reasons(call, gallery, reference, box, hits) if call.explain else None,
        )

    async def _reference(self, call: SearchCall, gallery: OpenGallery) -> Reference:
        """The features of the call's reference, remembered or made now."""
        if isinstance(call.reference, bytes):
            key = hashlib.sha256(call.reference).hexdigest()
        else:
            # The same id may be another picture in the next version.
            key = f"{gallery.name}/{gallery.version}/{call.reference}"
        found = self._references.get(key)
        if found is None:
            found = await self._made(call.reference, gallery)
            self._references.keep(key, found)
        return found

    async def _made(self, asked: bytes | str, gallery: OpenGallery) -> Reference:
        if isinstance(asked, str):
            kept = await self._run(self._decoding, partial(gallery.kept_reference, asked))
            if kept is not None:
                return kept
        try:
            with stage("decoding"):
                picture = await self._run(self._decoding, partial(self._read, asked, gallery))
        except ImageRefused as refused:
            if isinstance(asked, bytes):
                raise ImageNotRead(refused.reason.name, str(refused)) from refused
            raise GalleryUnusable(
                f"picture {asked!r} of gallery {gallery.name!r} is no longer what it was ({refused}); send it as image"
            ) from refused
        (tokens,) = await self._pictures.results([picture.pixels])
        return Reference(tokens=tokens, size=picture.size, square=picture.square)

    def _read(self, asked: bytes | str, gallery: OpenGallery) -> ReadPicture:
        data = asked if isinstance(asked, bytes) else gallery.picture_bytes(asked, self._config.image_limits.max_bytes)
        return read_picture(data, self._encoder, self._config.image_limits)

    def _masked(self, call: SearchCall, reference: Reference) -> MaskedBox:
        try:
            return masked(call.box, reference.size, self._encoder)
        except BoxError as error:
            raise InvalidCall([Violation(field="box", description=str(error))]) from error

    def _notes(
        self, call: SearchCall, box: MaskedBox, query: EmbeddedQuery, reference: Reference
    ) -> Iterator[SearchNote]:
        if query.truncated:
            yield SearchNote(
                kind=NoEffect.TEXT_TRUNCATED,
                message=f"the model reads {self._encoder.text_tokens} tokens of a text; its end had no effect",
            )
        if call.box is None:
            return
        if box.clipped:
            size = reference.size
            yield SearchNote(
                kind=NoEffect.BOX_CLIPPED,
                message=f"a part of the box is outside the picture of {size.width} by {size.height} pixels and had no "
                "effect",
            )
        if not box.seen:
            yield SearchNote(
                kind=NoEffect.BOX_NOT_SEEN,
                message="the model sees the middle of a picture, and nothing of the box is there: it had no effect; "
                "crop the picture around the object",
            )
        elif not np.any(query.beta):
            yield SearchNote(
                kind=NoEffect.BOX_IGNORED,
                message="β is 0: the box had no effect; use a model that was trained with boxes, or send a beta",
            )

    async def _reasons(
        self,
        call: SearchCall,
        gallery: OpenGallery,
        reference: Reference,
        box: MaskedBox,
        hits: list[FoundPicture],
    ) -> SearchReasons:
        first = None
        if hits:
            first = await self._run(self._searching, partial(gallery.vectors_of, hits[0].image_id))
        if reference.square is None:
            # Without the picture, the map is still told.
            with contextlib.suppress(GalleryUnusable, ImageRefused):
                picture = await self._run(self._decoding, partial(self._read, call.reference, gallery))
                reference = replace(reference, square=picture.square)
        return await self._run(
            self._embedding,
            partial(reasons_of, self._encoder, reference, box.mask, call.text, beta=call.beta, first_hit=first),
        )

    async def _run(self, executor: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(executor, work)

    @contextmanager
    def _room(self) -> Iterator[None]:
        """Count a search in; TooManyWaiting where that is more than may be inside."""
        most = self._config.most_waiting
        if self._inside >= most:
            raise TooManyWaiting(
                f"{self._inside} searches wait already, at most {most} may; send fewer at once or start more replicas"
            )
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1


@asynccontextmanager
async def _deadline(timeout_s: float | None) -> AsyncIterator[None]:
    """DeadlinePassed where the block takes longer; work of it that has not begun by then never is."""
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError as error:
        raise DeadlinePassed("the deadline passed before the search was done; allow more time") from error


def _use_torch_threads(threads: int) -> None:
    """Compute with that many threads where torch does it: for what the calling thread starts."""
    import torch

    torch.set_num_threads(threads)
