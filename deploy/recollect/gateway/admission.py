"""Take a call only if its turn comes in time: one that would wait too long is refused at once, with when to come again.

A queue without a bound answers everybody too late as soon as more calls come than can be answered. How long a new call
would wait is known without asking what is slow today, threads, the interpreter, or the machine: it is the number of
calls that are inside times the time between two answers while there is something to do.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from recollect.gateway.errors import Overloaded

SMOOTHING = 1 / 32
"""Weight of the latest interval between two answers in their mean."""
LONGEST_INTERVAL_S = 1.0
"""No interval between two answers counts as more."""
MOST_OF_MEAN = 32
"""Nor as more than this many times the mean before it. A pause, of the machine perhaps, says nothing of the answers
after it, and would have calls refused that are answered in time; a service that has become slow doubles the mean with
every answer. Answers that are ranked together come at once, and the interval before them may be 16 times the mean."""
ALWAYS_COUNTED_S = 0.01
"""What counts whatever the mean is, which answers that came at once may have made nothing."""
TOLD_TO_S = 0.01
"""Refused callers are told how long they would wait, and when to come again, in steps of this: few refusals differ."""
MOST_RETRY_S = 1.0
"""A refused caller is never told to wait longer."""


class Admission:
    """Counts the calls inside and measures how fast they are answered; use it in one event loop."""

    def __init__(self, *, most_wait_s: float, threads: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`most_wait_s` is how long a call may wait for its turn, `threads` how many rank.

        Twice as many calls as threads are always let in: one is read for while another is ranked, and with fewer inside
        it would never be seen that a service that was slow is fast again.
        """
        self.inside = 0
        """Calls that were let in and have not left."""
        self._most_wait_s = most_wait_s
        self._threads = threads
        self._at_once = 2 * threads
        self._monotonic = monotonic
        self._interval_s: float | None = None
        self._answered_at: float | None = None
        """When the last call was answered, where others waited then."""

    @property
    def expected_wait_s(self) -> float:
        """How long a call that comes now would wait, as far as is known."""
        return max(0, self.inside - self._at_once + 1) * (self._interval_s or 0.0)

    def require_room(self, until: float | None = None) -> None:
        """Overloaded where a call that comes now would wait too long, or past `until`, seconds of the monotonic clock,
        when its caller goes."""
        if self.inside < self._at_once:
            return
        wait_s = self.expected_wait_s
        allowed_s = self._most_wait_s if until is None else min(self._most_wait_s, until - self._monotonic())
        if wait_s > allowed_s:
            told_s = math.ceil(wait_s / TOLD_TO_S) * TOLD_TO_S
            raise Overloaded(
                f"too many calls wait: this one would wait {told_s * 1_000:.0f} ms for its turn, more than the "
                f"{max(0.0, allowed_s) * 1_000:.0f} that it may; come again later",
                retry_after_s=min(MOST_RETRY_S, told_s),
            )

    @contextmanager
    def turn(self, until: float | None = None) -> Iterator[None]:
        """Let a call in that ends with the block; Overloaded as `require_room` has it."""
        self.require_room(until)
        self.inside += 1
        try:
            yield
        except BaseException:
            # Nothing was answered: callers who give up must not look like a service that is fast.
            self.inside -= 1
            raise
        self.inside -= 1
        self._measure()

    def _measure(self) -> None:
        """Take in the time since the last answer, if there was something to do all along."""
        now = self._monotonic()
        if self._answered_at is not None:
            interval_s = min(now - self._answered_at, LONGEST_INTERVAL_S)
            before_s = interval_s if self._interval_s is None else self._interval_s
            counted_s = min(interval_s, max(MOST_OF_MEAN * before_s, ALWAYS_COUNTED_S))
            self._interval_s = before_s + SMOOTHING * (counted_s - before_s)
        self._answered_at = now if self.inside >= self._threads else None
