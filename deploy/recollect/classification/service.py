"""Classification in one process: decode, embed in batches, score by the set that answers, and keep the sets."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Self

import numpy as np

from recollect.classification.batching import ImageBatcher
from recollect.classification.calls import ClassifyAnswer, ClassifyCall, RefusedImage
from recollect.classification.config import ClassificationConfig
from recollect.classification.preparation import PreparedSets
from recollect.classification.prepared import PreparedSet
from recollect.classification.store import DescriptorSetStore, Standing
from recollect.gateway.errors import DeadlinePassed, InvalidCall, TooManyWaiting, Violation
from recollect.telemetry.answers import serving
from recollect.telemetry.stages import stage
from retrieval.descriptors.classifier import Classification
from retrieval.descriptors.descriptor_set import DescriptorSet
from retrieval.encoders.protocol import Encoder, Floats
from retrieval.errors import DescriptorError, ImageRefused
from retrieval.images import decode_image

INLINE_COSINES = 20_000
"""Images times texts up to which scoring takes less time than to hand it to a thread."""
SHOWN_DIGITS = 12
"""Digits of the encoder's fingerprint that an answer carries."""


class ClassificationService:
    """A `ClassificationBackend` with the encoder in this process; `start` it and `stop` it in the same event loop."""

    def __init__(self, config: ClassificationConfig, encoder: Encoder, texts: Encoder) -> None:
        """`texts` embeds texts as `encoder` does, and remembers them."""
        self._config = config
        self._encoder = encoder
        self._preprocessing = encoder.preprocessing
        self._store = DescriptorSetStore(config.sets)
        threads = partial(_use_torch_threads, config.embedding_threads)
        self._decoding = ThreadPoolExecutor(config.decode_threads, thread_name_prefix="decoding")
        self._embedding = ThreadPoolExecutor(1, thread_name_prefix="embedding", initializer=threads)
        self._texts = ThreadPoolExecutor(1, thread_name_prefix="texts", initializer=threads)
        self._sets = PreparedSets(self._store, texts, self._texts, config)
        self._batcher = ImageBatcher(encoder.embed_pixels, self._embedding, largest=config.largest_batch)
        self._inside = 0

    @classmethod
    def load(cls, config: ClassificationConfig) -> Self:
        """With the encoder that `config` names; EncoderError where there is none. Takes seconds."""
        from retrieval.encoders.load import load_encoder
        from retrieval.encoders.text_cache import CachedTexts

        _use_torch_threads(config.embedding_threads)
        encoder = load_encoder(config.encoder, runtime=config.runtime, threads=config.embedding_threads)
        serving("encoder", encoder.name, encoder.fingerprint[:SHOWN_DIGITS])
        return cls(config, encoder, CachedTexts(encoder, config.text_cache))

    def start(self) -> None:
        """Prepare the sets that are not, in the background."""
        self._sets.start()

    async def stop(self) -> None:
        """End the background work and the threads."""
        await self._sets.stop()
        for executor in (self._decoding, self._embedding, self._texts):
            executor.shutdown(wait=False, cancel_futures=True)

    async def classify(self, call: ClassifyCall) -> ClassifyAnswer:
        """Classify the images of `call`, in their order."""
        with self._room(len(call.images)):
            async with _deadline(call.timeout_s):
                # Taken once: every image of this call is scored by this revision, whatever is accepted meanwhile.
                prepared = await self._prepared(call)
                images = await self._classified(call, prepared)
        return ClassifyAnswer(
            images=images,
            encoder_name=self._encoder.name,
            encoder_fingerprint=self._encoder.fingerprint[:SHOWN_DIGITS],
            etag=prepared.etag,
        )

    async def create_set(self, descriptors: DescriptorSet, *, wait_s: float) -> Standing:
        """Store a new set, then wait up to `wait_s` until it answers."""
        revision = await asyncio.to_thread(self._store.create, descriptors)
        return await self._sets.settled(revision, wait_s=wait_s)

    async def get_set(self, name: str) -> tuple[DescriptorSet, Standing]:
        """The newest accepted content of a set, and how far it is."""
        revision, descriptors = await asyncio.to_thread(self._store.read, name)
        return descriptors, await self._sets.standing_of(revision)

    async def list_sets(self, *, after: str, limit: int) -> list[Standing]:
        """At most `limit` sets whose names come after `after`, by name."""
        return await self._sets.standings(after=after, limit=limit)

    async def update_set(self, descriptors: DescriptorSet, *, etag: str, wait_s: float) -> Standing:
        """Replace the set if `etag` is still its revision, then wait up to `wait_s` until that answers."""
        revision = await asyncio.to_thread(self._store.update, descriptors, etag)
        return await self._sets.settled(revision, wait_s=wait_s)

    async def delete_set(self, name: str, *, etag: str) -> None:
        """Delete the set; with an `etag` only if that is still its revision."""
        await asyncio.to_thread(self._store.delete, name, etag)

    async def _prepared(self, call: ClassifyCall) -> PreparedSet:
        """What to classify by; InvalidCall before any image is embedded in vain."""
        if isinstance(call.classes, str):
            prepared = await self._sets.serving(call.classes)
        else:
            prepared = await self._sets.inline(call.classes)
        if call.contrast_with is not None:
            try:
                prepared.require_class(call.contrast_with)
            except DescriptorError as error:
                raise InvalidCall([Violation(field="contrast_with", description=str(error))]) from error
        return prepared

    async def _classified(self, call: ClassifyCall, prepared: PreparedSet) -> tuple[Classification | RefusedImage, ...]:
        loop = asyncio.get_running_loop()
        with stage("decoding"):
            read = await asyncio.gather(
                *(loop.run_in_executor(self._decoding, self._read, data) for data in call.images)
            )
        embedded = await self._batcher.embed([each for each in read if not isinstance(each, RefusedImage)])
        if not embedded:
            return tuple(each for each in read if isinstance(each, RefusedImage))
        classify = partial(_classify, call, prepared, np.stack(embedded))
        large = call.explain or len(embedded) * prepared.n_texts > INLINE_COSINES
        found = await loop.run_in_executor(self._decoding, classify) if large else classify()
        remaining = iter(found)
        return tuple(each if isinstance(each, RefusedImage) else next(remaining) for each in read)

    def _read(self, data: bytes) -> Floats | RefusedImage:
        """The pixels [3, height, width] that the encoder takes; blocking."""
        try:
            image = decode_image(data, self._config.image_limits, target=self._preprocessing.shrinks_to)
        except ImageRefused as refused:
            return RefusedImage(reason=refused.reason, message=str(refused))
        return self._preprocessing.apply(image)

    @contextmanager
    def _room(self, images: int) -> Iterator[None]:
        """Count `images` in; TooManyWaiting where that is more than may be inside."""
        most = self._config.most_waiting
        if self._inside + images > most:
            raise TooManyWaiting(
                f"{self._inside} images wait already, at most {most} may; send fewer at once or start more replicas"
            )
        self._inside += images
        try:
            yield
        finally:
            self._inside -= images


@stage("scoring")
def _classify(call: ClassifyCall, prepared: PreparedSet, embeddings: Floats) -> list[Classification]:
    classifier = prepared.classifier(call.scoring)
    return classifier.classify(embeddings, top_k=call.top_k, explain=call.explain, contrast_with=call.contrast_with)


@asynccontextmanager
async def _deadline(timeout_s: float | None) -> AsyncIterator[None]:
    """DeadlinePassed where the block takes longer; work of it that has not begun by then never is."""
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError as error:
        raise DeadlinePassed("the deadline passed before all images were embedded; allow more time") from error


def _use_torch_threads(threads: int) -> None:
    """Compute with that many threads where torch does it: for what the calling thread starts."""
    import torch

    torch.set_num_threads(threads)
