"""Try the next model on a share of the users before all of them get it: its answers go out, or are only compared.

Who belongs to the share is decided by the user's id, so that a user sees one model as long as the share stays, on every
replica, and a larger share keeps whom a smaller one had.
"""

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from recollect.artifacts.following import Failure
from recollect.errors import ArtifactError
from recollect.gateway.models import ModelSource, ServedModel
from recollect.telemetry.answers import serving

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""How often the label is looked at."""
MOST_FAILURES = 3
"""So many failures one after the other, and the canary answers nobody until its label moves."""
COMPARED_TOP = 10
"""Candidates at the top of both orders that are compared."""
_SHARES = 1 << 32


@dataclass(frozen=True, kw_only=True, slots=True)
class CanaryConfig:
    """Which model is tried, and on how many."""

    reference: str
    """`dare@canary`: the label is followed, and need not be there yet."""
    share: float = 0.0
    """Share of the users who get its answers."""
    shadow_share: float = 0.0
    """Share of the other users' Score calls that it ranks, too, after they are answered, to be compared."""

    def __post_init__(self) -> None:
        for name in ("share", "shadow_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be 0 to 1, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """How far two models agree on T candidates."""

    mean_change: float
    """Mean of the absolute differences of their scores."""
    top_shared: float
    """Share of the first `COMPARED_TOP` of the one order that are so in the other."""


class Canary:
    """The model that a label points at, if it points at one; use it in one event loop."""

    def __init__(self, models: ModelSource, config: CanaryConfig) -> None:
        self.config = config
        self._models = models
        self._current: ServedModel | None = None
        self._reference = ""
        """What was loaded last: it is, unless it was taken away."""
        self._failure = Failure()
        self._failures = 0

    @property
    def current(self) -> ServedModel | None:
        """The model that is tried; None while there is none."""
        return self._current

    def answering(self, user_id: str) -> ServedModel | None:
        """The model, where it answers `user_id`."""
        return self._current if _place(user_id) < self.config.share else None

    def shadowing(self, user_id: str) -> ServedModel | None:
        """The model, where its answer for `user_id` is compared with the one that went out."""
        # Counted down from the end, so that those who get its answers are the last who are compared.
        return self._current if 1 - _place(user_id) < self.config.shadow_share else None

    def succeeded(self) -> None:
        """Note that it answered."""
        self._failures = 0

    def failed(self, model: ServedModel) -> None:
        """Note that `model` could not answer a call, which the other one then does."""
        log.exception("the canary %s cannot answer", model.reference)
        if model is not self._current:  # another one by now
            return
        self._failures += 1
        if self._failures >= MOST_FAILURES:
            log.error("the canary %s is taken away; activate another version of it", model.reference)
            self._take(None)

    async def follow(self) -> None:
        """Look at the label for ever; run it as a task."""
        while True:
            with contextlib.suppress(OSError):  # looked at again soon
                await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Go over to the version that the label points at, if it is another one."""
        try:
            reference = await asyncio.to_thread(self._models.current, self.config.reference)
        except ArtifactError:
            return  # no such label yet
        if self._failure.keeps_from(reference) or reference == self._reference:
            return
        if self._current is None:
            self._reference = ""  # what was taken away may come back, now that the label has moved
        try:
            model = await asyncio.to_thread(self._models.load, reference)
        except Exception as error:
            # Whatever it is, of a model that was never asked: those who answer go on.
            if self._failure.note(reference, error):
                log.exception("the canary %s cannot be loaded", reference)
            else:
                log.warning("the canary %s cannot be loaded yet: %r", reference, error)
            return
        self._reference = reference
        self._take(model)
        self._failures = 0
        serving("canary", model.name, model.version)

    def close(self) -> None:
        """Let the model go."""
        self._take(None)

    def _take(self, model: ServedModel | None) -> None:
        before, self._current = self._current, model
        if before is not None and before.hold is not None:
            before.hold.release()


def compare(scores: npt.NDArray[np.float32], others: npt.NDArray[np.float32]) -> Comparison:
    """How far the scores of two models for the same candidates [T], one at least, agree."""
    top = min(COMPARED_TOP, len(scores))
    first, second = (set(np.argsort(-each, kind="stable")[:top].tolist()) for each in (scores, others))
    return Comparison(
        mean_change=float(np.abs(scores.astype(np.float64) - others).mean()),
        top_shared=len(first & second) / top,
    )


def _place(user_id: str) -> float:
    """Where `user_id` lies between 0 and 1: the same everywhere and for ever."""
    return int.from_bytes(blake2b(user_id.encode(), digest_size=4, person=b"canary").digest(), "big") / _SHARES
