"""Say at most once in a while what is true of every call: a log that a lost Redis fills helps nobody."""

import logging
import time
from collections.abc import Callable

EVERY_S = 1.0
"""How often the same thing is said, at most."""


class Seldom:
    """Writes warnings of one kind to `log`; use it in one event loop."""

    def __init__(
        self, log: logging.Logger, *, every_s: float = EVERY_S, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._every_s = every_s
        self._monotonic = monotonic
        self._said_at: float | None = None
        self._left_out = 0

    def warning(self, message: str, *arguments: object, exc_info: BaseException | None = None) -> None:
        """Write `message`, unless one was written just now; the next one tells how many were left out."""
        now = self._monotonic()
        if self._said_at is not None and now - self._said_at < self._every_s:
            self._left_out += 1
            return
        if self._left_out:
            message, arguments = f"{message} (%d more were not written)", (*arguments, self._left_out)
        self._said_at, self._left_out = now, 0
        self._log.warning(message, *arguments, exc_info=exc_info, stacklevel=2)
