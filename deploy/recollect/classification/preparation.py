"""Bring accepted descriptor sets to where they answer: their texts embedded, then one reference replaced."""

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from recollect.classification.config import ClassificationConfig
from recollect.classification.prepared import PreparedSet
from recollect.classification.store import DescriptorSetStore, Revision, Standing
from recollect.gateway.errors import NotFound, SetNotReady
from retrieval.descriptors.descriptor_set import DescriptorSet
from retrieval.encoders.protocol import Encoder, Floats

log = logging.getLogger(__name__)

RETRY_S = 10.0
"""How long a revision whose texts could not be embedded is left alone."""
POLL_S = 0.01
"""How often a writer who waits looks whether its revision answers."""
ENCODER_DIGITS = 16
"""Digits of the encoder's fingerprint that its files in the store are named by."""


class PreparedSets:
    """The sets that answer, and the background work that keeps them those of the store. Use it in one event loop.

    Which revision answers is decided by one small file of the store, replaced in one step and read for every call: so
    all replicas go over to a revision at the same moment, and none before all of its texts are embedded.
    """

    def __init__(
        self, store: DescriptorSetStore, encoder: Encoder, executor: ThreadPoolExecutor, config: ClassificationConfig
    ) -> None:
        """`encoder` should remember the texts that it has embedded; `executor` has one thread for all texts."""
        self._store = store
        self._encoder = encoder
        self._executor = executor
        self._config = config
        self._key = encoder.fingerprint[:ENCODER_DIGITS]
        self._kept: OrderedDict[str, PreparedSet] = OrderedDict()
        self._changing: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._jobs: dict[str, asyncio.Task[None]] = {}
        self._failed: dict[str, tuple[Revision, float]] = {}
        self._turns = asyncio.Semaphore(config.concurrent_sets)
        self._changed = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Prepare what was accepted and does not answer yet, from now on."""
        self._looking = asyncio.get_running_loop().create_task(self._look_for_ever())

    async def stop(self) -> None:
        """End the background work; what is embedded by then is remembered."""
        tasks = [*self._jobs.values(), *([self._looking] if self._looking else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def serving(self, name: str) -> PreparedSet:
        """The revision of `name` that answers now. NotFound; SetNotReady says how far the first one is."""
        # A file of a few bytes takes less time than a thread to read it in.
        etag = self._store.ready(name, self._key)
        if etag is None:
            self._kept.pop(name, None)
            standing = await self.standing(name)
            if not standing.ready:
                raise _not_ready(standing)
        kept = self._kept.get(name)
        if kept is None or kept.etag != etag:
            async with self._changing[name]:
                kept = await self._loaded(name)
        self._kept.move_to_end(name)
        return kept

    async def inline(self, descriptors: DescriptorSet) -> PreparedSet:
        """The classes of one call; their texts are embedded now, unless a call before had the same."""
        key = f"/{descriptors.digest}"  # no set has such a name
        kept = self._kept.get(key)
        if kept is None:
            kept = self._prepared("", descriptors, await self._embedded(descriptors.texts()))
            self._keep(key, kept)
        self._kept.move_to_end(key)
        return kept

    async def standing(self, name: str) -> Standing:
        """The newest revision of `name` and how far it is."""
        return await asyncio.to_thread(self._store.standing, name, self._key)

    async def standing_of(self, revision: Revision) -> Standing:
        """How far `revision` is, whether or not there is a newer one."""
        return await asyncio.to_thread(self._store.standing_of, revision, self._key)

    async def standings(self, *, after: str, limit: int) -> list[Standing]:
        """At most `limit` sets whose names come after `after`, by name."""

        def read() -> list[Standing]:
            found: list[Standing] = []
            for name in self._store.names():
                if name > after and len(found) < limit:
                    with contextlib.suppress(NotFound):  # deleted meanwhile
                        found.append(self._store.standing(name, self._key))
            return found

        return await asyncio.to_thread(read)

    async def settled(self, revision: Revision, *, wait_s: float) -> Standing:
        """How far `revision` is once it, or a newer one, answers; at the latest after `wait_s`."""
        if revision.name not in self._jobs:
            self._begin(revision.name)
        until = time.monotonic() + wait_s
        while True:
            standing = await self.standing_of(revision)
            if standing.ready or time.monotonic() >= until:
                return standing
            await asyncio.sleep(POLL_S)

    async def _loaded(self, name: str) -> PreparedSet:
        """What answers now, from memory or made anew from the store; by who holds the set's `_changing`."""
        while True:
            etag = await asyncio.to_thread(self._store.ready, name, self._key)
            kept = self._kept.get(name)
            if kept is not None and kept.etag == etag:
                return kept
            try:
                if etag is None:
                    raise _not_ready(await self.standing(name))
                descriptors, texts = await asyncio.to_thread(self._content, name, etag)
            except FileNotFoundError:
                if etag != await asyncio.to_thread(self._store.ready, name, self._key):
                    continue  # replaced, and no longer kept, in between
                # It came with another release; this one's is being prepared.
                raise _not_ready(await self.standing(name)) from None
            embeddings = await self._embedded(texts)
            prepared = await asyncio.to_thread(self._prepared, etag, descriptors, embeddings)
            self._keep(name, prepared)
            return prepared

    def _content(self, name: str, etag: str) -> tuple[DescriptorSet, list[str]]:
        """A revision and its texts; a large one takes a while."""
        descriptors = self._store.content(name, etag)
        return descriptors, descriptors.texts()

    def _prepared(self, etag: str, descriptors: DescriptorSet, embeddings: Floats) -> PreparedSet:
        return PreparedSet(etag, descriptors, embeddings, logit_scale=self._encoder.logit_scale)

    def _keep(self, name: str, prepared: PreparedSet) -> None:
        self._kept[name] = prepared
        self._kept.move_to_end(name)
        while len(self._kept) > 1 and sum(each.n_texts for each in self._kept.values()) > self._config.texts_in_memory:
            self._kept.popitem(last=False)

    async def _embedded(self, texts: Sequence[str]) -> Floats:
        """[T, d] of `texts`."""
        return np.concatenate([await self._embed(batch) for batch in self._batches(texts)])

    async def _embed(self, batch: Sequence[str]) -> Floats:
        """[n, d] of n texts; between two batches of a set others get their turn."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._encoder.embed_texts, batch)

    def _batches(self, texts: Sequence[str]) -> list[Sequence[str]]:
        size = self._config.text_batch
        return [texts[begin : begin + size] for begin in range(0, len(texts), size)]

    async def _look_for_ever(self) -> None:
        while True:
            self._changed.clear()
            try:
                for name in await asyncio.to_thread(self._unprepared):
                    self._begin(name)
            except Exception:
                log.exception("the descriptor sets in %s cannot be looked through", self._store.root)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._config.look_s):
                    await self._changed.wait()

    def _unprepared(self) -> list[str]:
        """Sets whose newest revision does not answer and is not being prepared here."""
        found: list[str] = []
        for name in self._store.names():
            try:
                standing = self._store.standing(name, self._key)
            except NotFound:
                continue  # deleted meanwhile
            except Exception:
                log.exception("descriptor set %r cannot be read; the others are prepared", name)
                continue
            failed, when = self._failed.get(name, (None, 0.0))
            wait = failed == standing.revision and time.monotonic() < when + RETRY_S
            found += [] if standing.ready or name in self._jobs or wait else [name]
        return found

    def _begin(self, name: str) -> None:
        """Prepare `name` in the background, unless another process does."""
        held = self._store.preparing(name, self._key)
        if held is None:
            return

        def end(_: asyncio.Task[None]) -> None:
            held.close()
            del self._jobs[name]
            # What was accepted while the job ended is not left to the next look.
            self._changed.set()

        self._jobs[name] = asyncio.get_running_loop().create_task(self._prepare_all(name))
        self._jobs[name].add_done_callback(end)

    async def _prepare_all(self, name: str) -> None:
        """Prepare the newest revision until that is the one that answers, also if there are new ones meanwhile."""
        async with self._turns:
            with contextlib.suppress(NotFound):  # deleted meanwhile
                while not (standing := await self.standing(name)).ready:
                    try:
                        await self._prepare(standing.revision)
                    except NotFound:
                        raise
                    except Exception:
                        log.exception(
                            "revision %s of descriptor set %r cannot be prepared", standing.revision.etag, name
                        )
                        self._failed[name] = standing.revision, time.monotonic()
                        return

    async def _prepare(self, revision: Revision) -> None:
        """Embed the texts of `revision` and let it answer; stops where there is a newer one."""
        name = revision.name
        try:
            descriptors, texts = await asyncio.to_thread(self._content, name, revision.etag)
        except FileNotFoundError:
            if await asyncio.to_thread(self._store.newest, name) == revision:
                raise
            return
        parts: list[Floats] = []
        for batch in self._batches(texts):
            parts.append(await self._embed(batch))
            await asyncio.to_thread(self._store.note_progress, revision, self._key, sum(map(len, parts)))
            if await asyncio.to_thread(self._store.newest, name) != revision:
                return  # what is embedded is remembered
        prepared = await asyncio.to_thread(self._prepared, revision.etag, descriptors, np.concatenate(parts))
        async with self._changing[name]:
            await asyncio.to_thread(self._store.mark_ready, revision, self._key)
            self._keep(name, prepared)


def _not_ready(standing: Standing) -> SetNotReady:
    revision = standing.revision
    return SetNotReady(
        f"descriptor set {revision.name!r} is being prepared: {standing.embedded} of {revision.texts} texts are "
        "embedded; repeat the call soon"
    )
