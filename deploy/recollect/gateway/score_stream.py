"""Answer ScoreStream: rows are scored as Score would, a few at one time, and each has an answer of its own."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from recollect.gateway.errors import refusal
from recollect.gateway.request_ids import request_id
from recollect.gateway.statuses import status_of
from recollect.gateway.validation import MAX_KEY_BYTES, Violations
from recollect.telemetry.answers import row_refused
from recollect_api.v1 import recommender_pb2

Row = recommender_pb2.ScoreStreamRequest
Answer = recommender_pb2.ScoreStreamResponse
Score = Callable[[recommender_pb2.ScoreRequest], Awaitable[recommender_pb2.ScoreResponse]]


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamLimits:
    """What one stream may take."""

    rows: int
    """Rows that are worked on at one time. None is read before one of these has been answered, and the answer taken: so
    a caller who sends too fast, or does not read, is held up by HTTP/2 rather than kept in memory."""
    seconds: float
    """How long rows are taken; those are answered, and the stream ends."""


class ScoreStreams:
    """The streams of one gateway."""

    def __init__(self, limits: StreamLimits) -> None:
        self._limits = limits
        self._open: set[asyncio.Task[object]] = set()

    async def answer(self, rows: AsyncIterator[Row], score: Score, write: Callable[[Answer], Awaitable[None]]) -> None:
        """Answer the stream that this task is for."""
        task = asyncio.current_task()
        if task is not None:
            self._open.add(task)
            task.add_done_callback(self._open.discard)
        await answer_rows(rows, score, write, self._limits)

    async def close(self) -> None:
        """Wait for streams whose callers have gone: gRPC stops without them, while they still give up their rows."""
        if self._open:
            await asyncio.wait(self._open)


async def answer_rows(
    rows: AsyncIterator[Row], score: Score, write: Callable[[Answer], Awaitable[None]], limits: StreamLimits
) -> None:
    """Write an answer to each of `rows` as soon as `score` has it, until they end or their time is over."""
    clock = asyncio.get_running_loop()
    end = clock.time() + limits.seconds
    working: set[asyncio.Task[Answer]] = set()
    reading: asyncio.Task[Row | None] | None = None
    more = True
    try:
        while True:
            more = more and clock.time() < end
            if more and reading is None and len(working) < limits.rows:
                reading = asyncio.ensure_future(_next(rows))
            awaited = {*working, *([reading] if more and reading is not None else [])}
            if not awaited:
                return
            patience_s = max(0.0, end - clock.time()) if more else None
            await asyncio.wait(awaited, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
            if reading is not None and reading.done():
                row = reading.result()
                reading, more = None, row is not None
                if row is not None:
                    working.add(asyncio.ensure_future(_answer(row, score)))
            answered = [task for task in working if task.done()]
            working.difference_update(answered)
            for one in answered:
                await write(one.result())
    finally:
        # The caller has gone, or what it sends cannot be read: nobody waits for these any more.
        begun = [task for task in (*working, reading) if task is not None]
        for task in begun:
            task.cancel()
        await asyncio.gather(*begun, return_exceptions=True)


async def _next(rows: AsyncIterator[Row]) -> Row | None:
    return await anext(rows, None)


async def _answer(row: Row, score: Score) -> Answer:
    try:
        violations = Violations()
        violations.require_text("key", row.key, most_bytes=MAX_KEY_BYTES, empty=None)
        violations.raise_any()
        return Answer(key=row.key, response=await score(row.score))
    except Exception as error:
        refused = refusal(error, method="ScoreStream", request_id=row.score.request_id or request_id.get())
        row_refused(refused.reason)
        # A key that is too long is told by its beginning: what is sent back must not grow with what was sent.
        return Answer(key=row.key[:MAX_KEY_BYTES], status=status_of(refused))
