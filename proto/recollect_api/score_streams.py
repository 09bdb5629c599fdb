"""Score row after row over streams that come and go: what is sent ahead, what is sent again, and what the answers are.

A stream of the service lasts for seconds, since connections and replicas do not last either. Rows that have no answer
when one ends go over the next, as Score may be repeated; the caller sees rows go in and answers come out.
"""

import asyncio
import itertools
import threading
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]

from recollect_api import recommender_wire as wire
from recollect_api.errors import (
    ClientError,
    DeadlineExceeded,
    InvalidRequest,
    Unavailable,
    closed,
    from_rpc_error,
    from_status,
)
from recollect_api.records import ScoreRow, Scores
from recollect_api.streams import accepted, drawn, is_cancelled
from recollect_api.v1 import recommender_pb2

Request = recommender_pb2.ScoreStreamRequest
Response = recommender_pb2.ScoreStreamResponse
Answer = tuple[ScoreRow, Scores | ClientError]

ROWS_AHEAD = 64
"""Most rows that are sent and have no answer: enough that a service which works on 16 at one time need not wait."""
PAUSES_S = (0.05, 0.15, 0.45)
"""Before the next stream, where the last ones brought no answer at all; after these the caller is told."""


class _Rows:
    """Rows that were drawn, by the numbers under which they travel, until they are answered. Knows no waiting."""

    def __init__(self) -> None:
        self.stream = 0
        """Number of the stream that is open."""
        self.drawing = False
        """Whether somebody waits for the caller's next row."""
        self.ended = False
        """Whether the caller has no more."""
        self.error: BaseException | None = None
        """What the caller's iterator ended with."""
        self._numbers = itertools.count()
        self._unanswered: dict[int, tuple[ScoreRow, Request]] = {}
        self._unsent: deque[int] = deque()
        self._refused: deque[Answer] = deque()

    def open(self) -> int:
        """Begin another stream, with what the last one left unanswered."""
        self.stream += 1
        self._unsent = deque(self._unanswered)
        return self.stream

    def take(self, row: ScoreRow) -> None:
        """Have `row` sent; one that has no form on the wire is answered here."""
        number = next(self._numbers)
        try:
            self._unanswered[number] = row, Request(key=str(number), score=wire.row_request(row))
        except InvalidRequest as error:
            self._refused.append((row, error))
        except Exception as error:
            self._refused.append((row, InvalidRequest(f"this row cannot be sent: {error}")))
        else:
            self._unsent.append(number)

    def end(self, error: BaseException | None = None) -> None:
        """There are no more rows, as the caller's iterator says or because it failed."""
        self.ended, self.error = True, error

    @property
    def may_draw(self) -> bool:
        """Whether another row should be asked for."""
        return not (self.ended or self.drawing) and len(self._unanswered) + len(self._refused) < ROWS_AHEAD

    @property
    def may_send(self) -> bool:
        """Whether a row waits to be sent."""
        return bool(self._unsent)

    def send(self) -> Request:
        """The next row to be sent."""
        return self._unanswered[self._unsent.popleft()][1]

    @property
    def waiting(self) -> bool:
        """Whether a row waits for its answer."""
        return bool(self._unanswered)

    @property
    def stuck(self) -> bool:
        """Whether the caller has an answer coming, and the service none that would wake who reads from the stream."""
        return bool(self._refused) and not self._unanswered

    @property
    def finished(self) -> bool:
        """Whether all rows are answered and no more will come."""
        return self.ended and not self._unanswered

    def refused(self) -> Iterator[Answer]:
        """Those that were answered here."""
        while self._refused:
            yield self._refused.popleft()

    def answered(self, response: Response) -> Iterator[Answer]:
        """The row of `response` and its answer; none for a row that was answered before."""
        sent = self._unanswered.pop(int(response.key), None)
        if sent is None:
            return
        row, request = sent
        if response.HasField("status"):
            yield row, from_status(response.status.SerializeToString(), request_id=row.request_id)
        else:
            yield row, wire.scores(request.score, response.response)


class _Patience:
    """How often streams may bring nothing before the caller is told."""

    def __init__(self, target: str, rows: _Rows) -> None:
        self._target = target
        self._rows = rows
        self._pauses = iter(PAUSES_S)

    def answered(self) -> None:
        """A stream brought an answer."""
        self._pauses = iter(PAUSES_S)

    def pause_s(self, error: grpc.RpcError | None, *, brought: bool) -> float:
        """How long to wait before the next stream, after one that ended with `error`; raises where there is none."""
        failed = None if error is None else from_rpc_error(error, target=self._target)
        ended = failed is None or (isinstance(failed, DeadlineExceeded) and (brought or not self._rows.waiting))
        if failed is not None and not ended and not _may_pass(failed):
            raise failed from error
        asked_s = 0.0 if failed is None else failed.retry_after_s or 0.0
        if brought or (ended and not self._rows.waiting):
            return asked_s
        pause_s = next(self._pauses, None)
        if pause_s is not None:
            return max(pause_s, asked_s)
        if failed is None:
            message = f"{self._target}: streams end without an answer to the rows that were sent"
            failed = Unavailable(message, code=grpc.StatusCode.UNAVAILABLE)
        raise failed from error


def _may_pass(failed: ClientError) -> bool:
    """Whether another stream may be taken where one ended so: nothing is there to take it, or it is full and says for
    how long. A row that is too long has the status of what is full, and no such time."""
    full = failed.code is grpc.StatusCode.RESOURCE_EXHAUSTED and failed.retry_after_s is not None
    return full or failed.code is grpc.StatusCode.UNAVAILABLE


def score_rows(
    open_stream: Callable[[Iterator[Request]], Any], rows: Iterable[ScoreRow], *, target: str
) -> Iterator[Answer]:
    """Every row of `rows` with its answer, as answered; `open_stream` begins a call that sends what it is given.

    Raises what `rows` raises once the rows before are answered, and a ClientError where a stream is refused.
    """
    book = _Rows()
    sending = _BlockingSender(book, iter(rows))
    patience = _Patience(target, book)
    while not book.finished:
        call, brought, error = open_stream(sending.open()), False, None
        try:
            for response in call:
                brought = True
                patience.answered()
                yield from sending.answers(response)
        except grpc.RpcError as failed:
            error = failed
        finally:
            sending.stop()
            call.cancel()
        yield from sending.answers(None)
        if not book.finished:
            time.sleep(patience.pause_s(error, brought=brought))
    if book.error is not None:
        raise book.error


class _BlockingSender:
    """Draws rows and sends them, in the thread in which gRPC sends."""

    def __init__(self, book: _Rows, rows: Iterator[ScoreRow]) -> None:
        self._book = book
        self._rows = rows
        self._changed = threading.Condition()

    def open(self) -> Iterator[Request]:
        """What the next stream sends."""
        with self._changed:
            return self._requests(self._book.open())

    def stop(self) -> None:
        """Send nothing more over the stream that was open."""
        with self._changed:
            self._book.stream += 1
            self._changed.notify_all()

    def answers(self, response: Response | None) -> list[Answer]:
        """What there is to tell the caller, and room for as many further rows."""
        with self._changed:
            told = [*self._book.refused(), *([] if response is None else self._book.answered(response))]
            self._changed.notify_all()
        return told

    def _requests(self, stream: int) -> Iterator[Request]:
        book = self._book
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: stream != book.stream or book.may_send or book.ended or book.stuck or book.may_draw
                )
                if stream != book.stream or book.stuck:
                    return
                request = book.send() if book.may_send else None
                if request is None and book.ended:
                    return
                book.drawing = book.drawing or request is None
            if request is None:
                self._draw()
            else:
                yield request

    def _draw(self) -> None:
        """Ask the caller for a row, however long that takes; a stream that ends meanwhile leaves it to the next one."""
        rows: list[ScoreRow] = []
        error = None
        try:
            rows.append(next(self._rows))
        except StopIteration:
            pass
        except BaseException as raised:
            error = raised
        with self._changed:
            self._book.drawing = False
            for row in rows:
                self._book.take(row)
            if not rows:
                self._book.end(error)
            self._changed.notify_all()


async def score_rows_async(
    open_stream: Callable[[], Any], rows: AsyncIterable[ScoreRow] | Iterable[ScoreRow], *, target: str
) -> AsyncIterator[Answer]:
    """As `score_rows`, for asyncio; `open_stream` begins a call to which is written."""
    book = _Rows()
    patience = _Patience(target, book)
    changed = asyncio.Event()
    drawing = asyncio.create_task(_draw(book, drawn(rows), changed))
    try:
        while not book.finished:
            book.open()
            call, brought, error = open_stream(), False, None
            sending = asyncio.create_task(_send(call, book, changed))
            try:
                while (response := await call.read()) is not grpc.aio.EOF:
                    brought = True
                    patience.answered()
                    told = [*book.refused(), *book.answered(response)]
                    changed.set()
                    for answer in told:
                        yield answer
            except grpc.RpcError as failed:
                error = failed
            except asyncio.CancelledError:
                if is_cancelled():
                    raise
                raise closed(target) from None
            finally:
                call.cancel()
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
            for answer in book.refused():
                yield answer
            changed.set()
            if not book.finished:
                await asyncio.sleep(patience.pause_s(error, brought=brought))
        if book.error is not None:
            raise book.error
    finally:
        drawing.cancel()
        await asyncio.gather(drawing, return_exceptions=True)


async def _send(call: Any, book: _Rows, changed: asyncio.Event) -> None:
    """Write rows to `call` as they are drawn, until there are no more or it has ended."""
    # What it has ended with, who reads from it is told.
    with suppress(grpc.RpcError, asyncio.InvalidStateError):
        await accepted(call)
        while not book.stuck and not (book.ended and not book.may_send):
            if book.may_send:
                await call.write(book.send())
            else:
                changed.clear()
                await changed.wait()
        await call.done_writing()


async def _draw(book: _Rows, rows: AsyncIterator[ScoreRow], changed: asyncio.Event) -> None:
    """Ask the caller for rows, as many as may be without an answer."""
    try:
        async for row in rows:
            book.take(row)
            changed.set()
            while not book.may_draw:
                changed.clear()
                await changed.wait()
        book.end()
    except (Exception, asyncio.CancelledError) as error:  # also that of a task which the rows wait for
        book.end(error)
    changed.set()
