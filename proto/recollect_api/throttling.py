"""Ask less of a service that refuses much: calls that would most likely be refused are refused here, at once.

A refusal costs a service a part of what an answer does, so that callers who go on asking take the answers away from
each other. Each client therefore sends, on average, only somewhat more than the service takes of it (adaptive
throttling, *Site Reliability Engineering*, ch. 21): enough to see that it takes more again. How much more follows from
what becomes of it: while nothing is refused twice as much, so that a service that has recovered soon gets all; and with
each refusal less, so that one that cannot take more is left alone.
"""

import random
import threading
import time
from collections.abc import Callable

import grpc  # type: ignore[import-untyped]

from recollect_api.errors import Unavailable
from recollect_api.fading import HALF_LIFE_S, left_after

OVERLOADED = "OVERLOADED"
"""Reason of a refusal by a service that has too much to do."""
TOO_MANY_CALLS = "TOO_MANY_CALLS"
"""That of one that works on as many calls as it takes at one time."""
THROTTLED = "THROTTLED"
"""Reason of a refusal by the client."""
MOST_BY_TAKEN = 2.0
"""How many times as many calls are sent as were taken, at most, while the service refuses none."""
LESS_BY_REFUSED = 7.0
"""How many fewer that are for each that it refuses: at a service that is full, this settles where one of nine is."""
LEAST_BY_TAKEN = 1.1
"""How many times as many as were taken are sent however many it refuses; refusals are known sooner than answers."""
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
        self._taken = self._refused = self._kept = 0.0
        self._at = monotonic()

    def require(self) -> None:
        """Unavailable, with the reason `THROTTLED`, where a call is better not sent."""
        with self._lock:
            self._fade()
            wanted = self._taken + self._refused + self._kept
            least = (wanted - self._sendable()) / (wanted + 1)
            throttled = least > 0 and self._chance() < least
            self._kept += throttled
        if throttled:
            error = Unavailable(
                f"not sent: the service has more to do than it can ({OVERLOADED}), and would most likely refuse this "
                f"call; come again in {HALF_LIFE_S:g} s",
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
            if reason in (OVERLOADED, TOO_MANY_CALLS):
                self._refused += 1
            else:
                self._taken += 1

    def _sendable(self) -> float:
        """How many of the calls that are remembered should have been sent."""
        by_refused = MOST_BY_TAKEN * self._taken - LESS_BY_REFUSED * self._refused
        return max(FEW, LEAST_BY_TAKEN * self._taken, by_refused)

    def _fade(self) -> None:
        now = self._monotonic()
        left = left_after(now - self._at)
        self._taken, self._refused, self._kept = self._taken * left, self._refused * left, self._kept * left
        self._at = now
