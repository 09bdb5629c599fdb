"""Embed images of several calls together: what waits while a batch is computed is the next batch."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from retrieval.encoders.protocol import Floats


@dataclass(slots=True)
class _Waiting:
    """One image and who waits for it."""

    pixels: Floats
    """[3, height, width]."""
    embedding: asyncio.Future[Floats]
    """[d]."""


class ImageBatcher:
    """Gives the images of all calls to `embed` in batches, one batch at a time; use it in one event loop.

    An idle encoder takes what there is at once, so nobody waits for company at low load; a busy one finds a batch when
    it is done. Images whose caller has gone are left out.
    """

    def __init__(self, embed: Callable[[Floats], Floats], executor: Executor, *, largest: int) -> None:
        """`embed` takes [n, 3, height, width] to [n, d], in a thread of `executor`; n is at most `largest`."""
        self._embed = embed
        self._executor = executor
        self._largest = largest
        self._waiting: deque[_Waiting] = deque()
        self._working: asyncio.Task[None] | None = None

    async def embed(self, images: Sequence[Floats]) -> list[Floats]:
        """The embeddings [d] of `images`, each [3, height, width], in their order; raises what `embed` raises."""
        loop = asyncio.get_running_loop()
        waiting = [_Waiting(pixels=pixels, embedding=loop.create_future()) for pixels in images]
        self._waiting.extend(waiting)
        if self._working is None and waiting:
            self._working = loop.create_task(self._work())
        try:
            return list(await asyncio.gather(*(each.embedding for each in waiting)))
        finally:
            # Where one has failed, or the caller has gone, nobody asks for the others.
            for each in waiting:
                each.embedding.cancel()

    async def _work(self) -> None:
        """Embed until nothing waits."""
        try:
            while batch := self._take():
                await self._embed_all(batch)
        finally:
            self._working = None

    def _take(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        while self._waiting and len(batch) < self._largest:
            first = self._waiting.popleft()
            if not first.embedding.done():
                batch.append(first)
        return batch

    async def _embed_all(self, batch: Sequence[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        try:
            pixels = np.stack([each.pixels for each in batch])  # [n, 3, H, W]
            embeddings = await loop.run_in_executor(self._executor, self._embed, pixels)
            pairs = list(zip(batch, embeddings, strict=True))
        except Exception as error:
            for each in batch:
                if not each.embedding.done():
                    each.embedding.set_exception(error)
            return
        for each, embedding in pairs:
            if not each.embedding.done():
                each.embedding.set_result(embedding)
