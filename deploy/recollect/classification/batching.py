"""Compute for several calls together: what waits while a batch is computed is the next batch."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextvars import Context
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from recollect.telemetry.metrics import BATCH_SIZE, QUEUE_DEPTH
from recollect.telemetry.stages import stage
from retrieval.encoders.protocol import Floats

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(slots=True)
class _Waiting(Generic[Item, Result]):
    """One item and who waits for what becomes of it."""

    item: Item
    result: asyncio.Future[Result]


class Batcher(Generic[Item, Result]):
    """Gives the items of all calls to `results` to `work` in batches, one batch at a time; use it in one event loop.

    An idle worker takes what there is at once, so nobody waits for company at low load; a busy one finds a batch when
    it is done. Items whose caller has gone are left out.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Sequence[Result]],
        executor: Executor,
        *,
        largest: int,
        items: str = "images",
    ) -> None:
        """`work` takes n items to n results, in a thread of `executor`; n is at most `largest`. `items` is what metrics
        call them."""
        self._batches = BATCH_SIZE.labels(items)
        self._depth = QUEUE_DEPTH.labels(items)
        self._compute = work
        self._executor = executor
        self._largest = largest
        self._waiting: deque[_Waiting[Item, Result]] = deque()
        self._working: asyncio.Task[None] | None = None

    async def results(self, items: Sequence[Item]) -> list[Result]:
        """What becomes of `items`, in their order; raises what the work raises."""
        loop = asyncio.get_running_loop()
        waiting = [_Waiting[Item, Result](item=item, result=loop.create_future()) for item in items]
        self._waiting.extend(waiting)
        self._depth.inc(len(waiting))
        if self._working is None and waiting:
            # It works for many calls, and belongs to the trace of none.
            self._working = loop.create_task(self._work(), context=Context())
        try:
            with stage("embedding"):
                return list(await asyncio.gather(*(each.result for each in waiting)))
        finally:
            # Where one has failed, or the caller has gone, nobody asks for the others.
            for each in waiting:
                each.result.cancel()

    async def _work(self) -> None:
        """Compute until nothing waits."""
        try:
            while batch := self._take():
                await self._compute_all(batch)
        finally:
            self._working = None

    def _take(self) -> list[_Waiting[Item, Result]]:
        batch: list[_Waiting[Item, Result]] = []
        while self._waiting and len(batch) < self._largest:
            first = self._waiting.popleft()
            self._depth.dec()
            if not first.result.done():
                batch.append(first)
        return batch

    async def _compute_all(self, batch: Sequence[_Waiting[Item, Result]]) -> None:
        loop = asyncio.get_running_loop()
        self._batches.observe(len(batch))
        try:
            items = [each.item for each in batch]
            results = await loop.run_in_executor(self._executor, self._compute, items)
            pairs = list(zip(batch, results, strict=True))
        except Exception as error:
            for each in batch:
                if not each.result.done():
                    each.result.set_exception(error)
            return
        for each, result in pairs:
            if not each.result.done():
                each.result.set_result(result)


class ImageBatcher(Batcher[Floats, Floats]):
    """Embeds images of several calls together."""

    def __init__(self, embed: Callable[[Floats], Floats], executor: Executor, *, largest: int) -> None:
        """`embed` takes [n, 3, height, width] to [n, …], in a thread of `executor`; n is at most `largest`."""
        super().__init__(lambda images: list(embed(np.stack(images))), executor, largest=largest)

    async def embed(self, images: Sequence[Floats]) -> list[Floats]:
        """What becomes of `images`, each [3, height, width], in their order; raises what `embed` raises."""
        return await self.results(images)
