"""Give each call its model: the one that answers, or the canary for those who try it, and compare the two."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import numpy as np

from recollect.gateway.canary import Canary, compare
from recollect.gateway.errors import CallError
from recollect.gateway.models import ModelSlot, ServedModel
from recollect.gateway.scoring import ScoreWork
from recollect.gateway.workers import Priority, Workers
from recollect.telemetry.answers import compared
from recollect_api.v1 import recommender_pb2

T = TypeVar("T")

MOST_COMPARED = 4
"""Calls that are compared at one time; further ones are not compared."""
COMPARED_WITHIN_S = 5.0
"""A comparison that has not begun by then is left out: the service has enough to do."""


class ModelTrial:
    """The model that answers and, where there is one, the canary beside it; use it in one event loop."""

    def __init__(
        self,
        slot: ModelSlot | None,
        workers: Workers,
        *,
        canary: Canary | None = None,
    ) -> None:
        """Without a slot there is no recommender."""
        self._slot = slot
        self._workers = workers
        self._canary = canary
        self._comparing: set[asyncio.Task[None]] = set()

    @property
    def served(self) -> bool:
        """Whether there is a model."""
        return self._slot is not None

    async def answer(self, user_id: str, work: Callable[[ServedModel], Awaitable[T]]) -> T:
        """What `work` makes of the model of this user, taken once: all that it tells is of that model, whatever is
        swapped in meanwhile. Where the canary cannot answer, the other one does."""
        assert self._slot is not None, "what is not served was refused"
        canary = self._canary
        tried = None if canary is None else canary.answering(user_id)
        if canary is None or tried is None:
            return await work(self._slot.current)
        try:
            result = await work(tried)
        except CallError:
            raise
        except Exception:
            canary.failed(tried)
            return await work(self._slot.current)
        canary.succeeded()
        return result

    def compare(self, user_id: str, work: ScoreWork, response: recommender_pb2.ScoreResponse) -> None:
        """Rank what was answered by the canary, too, later and where there is time, if this user is one of those."""
        canary = self._canary
        tried = None if canary is None else canary.shadowing(user_id)
        if canary is None or tried is None or len(self._comparing) >= MOST_COMPARED:
            return
        if tried.version == response.model_version and tried.name == response.model_name:
            return
        task = asyncio.create_task(self._compared(canary, tried, work, response))
        self._comparing.add(task)
        task.add_done_callback(self._comparing.discard)

    async def close(self) -> None:
        """Compare no more."""
        for task in self._comparing:
            task.cancel()
        await asyncio.gather(*self._comparing, return_exceptions=True)

    async def _compared(
        self, canary: Canary, model: ServedModel, work: ScoreWork, response: recommender_pb2.ScoreResponse
    ) -> None:
        try:
            scores = await self._workers.run(
                work.to_compare(model), priority=Priority.BATCH, until=time.monotonic() + COMPARED_WITHIN_S
            )
        except CallError:
            return  # no time for it
        except Exception:
            canary.failed(model)
            return
        found = compare(np.array(response.scores, dtype=np.float32), scores)
        compared(model.version, score_change=found.mean_change, top_shared=found.top_shared)
