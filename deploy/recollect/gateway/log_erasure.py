"""Rewrite Redis's append-only file after deletions: one rewrite at a time, for all who were deleted before it began."""

import asyncio
import contextlib
import logging

from recsys.errors import HistoryError, HistoryUnavailable
from recsys.history import HistoryStore

log = logging.getLogger(__name__)

REWRITE_S = 3_600.0
"""How long a rewrite may take."""
AGAIN_S = 1.0
"""After this, a Redis that was not there is asked again."""


class LogErasure:
    """Takes users who were deleted and has the file rewritten without them, in the background.

    What is asked for and not done when the process ends stays pending; a repeated Delete asks for it again.
    """

    def __init__(self, store: HistoryStore) -> None:
        self._store = store
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._task: asyncio.Task[None] | None = None

    def ask(self, user_id: str) -> "asyncio.Future[None]":
        """Have the file rewritten without `user_id`; the future ends when it is, with HistoryError where it is not."""
        future = self._waiting.get(user_id)
        if future is None:
            future = self._waiting[user_id] = asyncio.get_running_loop().create_future()
            # Nobody has to wait for it: an error that no one takes is in the log.
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._rewrite())
        return future

    async def close(self) -> None:
        """Begin no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        for future in self._waiting.values():
            future.cancel()

    async def _rewrite(self) -> None:
        while self._waiting:
            # Whoever asks from here on needs the next one: this one may have passed them already.
            users, self._waiting = self._waiting, {}
            failure: HistoryError | None = None
            try:
                await self._erase(list(users))
            except HistoryError as error:
                log.warning("deleted users stay in the append-only file: %s", error)
                failure = error
            for future in users.values():
                if future.done():
                    continue
                if failure is None:
                    future.set_result(None)
                else:
                    future.set_exception(failure)

    async def _erase(self, users: list[str]) -> None:
        """Rewrite the file without `users`; from the beginning where Redis was lost, and the rewrite with it."""
        clock = asyncio.get_running_loop()
        until = clock.time() + REWRITE_S
        while True:
            try:
                await self._store.erase_log(users, timeout_s=max(0.0, until - clock.time()))
                return
            except HistoryUnavailable:
                if clock.time() >= until:
                    raise
                await asyncio.sleep(AGAIN_S)
