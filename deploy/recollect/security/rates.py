"""Limit how often a token is used: a bucket that fills at the allowed rate, and calls that each take one out of it."""

from collections.abc import Callable


class TokenBucket:
    """Allows `burst` calls at once and `rate` a second in the long run."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float]) -> None:
        """`clock` gives seconds, of which only the difference counts."""
        self.rate = rate
        self.burst = burst
        self._clock = clock
        self._level = burst
        self._at = clock()

    def take(self) -> float:
        """Take one call out; returns 0, or the seconds until there is one, which is then not taken."""
        now = self._clock()
        self._level = min(self.burst, self._level + (now - self._at) * self.rate)
        self._at = now
        if self._level < 1:
            return (1 - self._level) / self.rate
        self._level -= 1
        return 0.0
