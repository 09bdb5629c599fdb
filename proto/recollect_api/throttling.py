"""Ask less of a service that refuses much: calls that would most likely be refused are refused here, at once.

A refusal costs a service a good part of what an answer does, so that callers who go on asking take the answers away
from each other. Each client therefore sends, on average, only somewhat more than the service takes of it (adaptive
throttling, *Site Reliability Engineering*, ch. 21): enough to see that it takes more again.
"""

import random
import threading
import time
from collections.abc import Callable

import grpc  # type: ignore[import-untyped]

from recollect_api.errors import Unavailable

OVERLOADED = "OVERLOADED"
"""Reason of a refusal by a service that has too much to do."""
THROTTLED = "THROTTLED"
"""Reason of a refusal by the client."""
SENT_BY_TAKEN = 1.5
"""How many times as many calls are sent as were taken, at most; nearer to 1 the service gets fewer that it must refuse,
and is slower to get all of them again."""
HALF_LIFE_S = 0.5
"""After so long, what was seen counts half."""
FEW = 10.0
"""Calls of which nothing is concluded, whatever became of them."""


class Throttle:
    """Remembers what became of calls lately; threads may share it.

    Only calls whose end is known count: many at once are no sign of anything.
    """

    def __init__(
        self,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._monotonic = monotonic
        self._chance = chance
        self._lock = threading.Lock()
        self._taken = self._refused = 0.0
        self._at = monotonic()

    def require(self) -> None:
        """Unavailable, with the reason `THROTTLED`, where a call is better not sent."""
        with self._lock:
            self._fade()
            wanted = self._taken + self._refused
            least = (wanted - max(FEW, SENT_BY_TAKEN * self._taken)) / (wanted + 1)
            throttled = least > 0 and self._chance() < least
            self._refused += throttled
        if throttled:
            error = Unavailable(
                f"not sent: the service refused most of this client's calls lately ({OVERLOADED}), and would most "
                f"likely refuse this one; come again in {HALF_LIFE_S:g} s",
                code=grpc.StatusCode.RESOURCE_EXHAUSTED,
                reason=THROTTLED,
            )
            error.retry_after_s = HALF_LIFE_S
            raise error

    def note(self, reason: str) -> None:
        """Note what a call that was sent ended with, "" for an answer; whatever is no refusal for too much to do says
        that the service took it."""
        with self._lock:
            self._fade()
            if reason == OVERLOADED:
                self._refused += 1
            else:
                self._taken += 1

    def _fade(self) -> None:
        now = self._monotonic()
        left = 0.5 ** ((now - self._at) / HALF_LIFE_S)
        self._taken, self._refused, self._at = self._taken * left, self._refused * left, now
