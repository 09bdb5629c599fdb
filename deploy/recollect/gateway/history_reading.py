"""Read the histories that answers rest on: where Redis is lost, or hangs, calls are answered without one."""

import asyncio
import logging
import time
from collections.abc import Callable

from recollect.telemetry.answers import redis_failed
from recollect.telemetry.stages import stage
from recsys.errors import HistoryError, HistoryOverdue, HistoryUnavailable
from recsys.history.seldom import Seldom
from recsys.history.store import History, HistoryStore

log = logging.getLogger(__name__)

PROBE_S = 1.0
"""Between two calls that wait for a Redis that hangs; all others are answered without a history at once."""
LONG_S = 0.05
"""A caller who goes after this much waiting for Redis, before Redis is overdue, tells as much as if it were."""


class HistoryReader:
    """Reads from `store`, and asks a Redis that did not answer in time by one call after another only.

    If every call waited for it, a turn would take as long as a call waits for Redis, and nearly all would be refused
    while there is nothing to do. The first call after one that was not answered asks again: had only that one been
    slow, no other is answered worse for it. Use it in one event loop.
    """

    def __init__(self, store: HistoryStore, *, limit: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`limit` is the longest history that is read, in events."""
        self._store = store
        self._limit = limit
        self._monotonic = monotonic
        self._ask_at: float | None = None
        """When the next call may ask a Redis that hangs; None: it does not hang."""
        self._unavailable, self._unreadable = Seldom(log), Seldom(log)

    async def read(self, user_id: str, before_ms: int | None) -> History | None:
        """The history, or None where it cannot be had: a worse answer is better than none."""
        now = self._monotonic()
        if self._ask_at is not None:
            if now < self._ask_at:
                redis_failed()
                self._unavailable.warning("answering without a history: Redis at %s hangs", self._store.address)
                return None
            # Whatever becomes of this one, even that its caller goes, the next one waits until it must be known.
            self._ask_at = now + self._store.config.timeout_s + PROBE_S
        try:
            with stage("history"):
                history = await self._store.read(user_id, limit=self._limit, before_ms=before_ms)
        except asyncio.CancelledError:
            if self._monotonic() - now >= LONG_S:
                self._hangs()
            raise
        except HistoryOverdue as error:
            redis_failed()
            self._unavailable.warning("answering without a history: %s", error)
            self._hangs()
            return None
        except HistoryUnavailable as error:
            redis_failed()
            self._unavailable.warning("answering without a history: %s", error)
            history = None
        except HistoryError as error:
            redis_failed()
            self._unreadable.warning("answering without a history, which cannot be read", exc_info=error)
            history = None
        self._ask_at = None
        return history

    def _hangs(self) -> None:
        if self._ask_at is None:
            self._ask_at = self._monotonic()
