"""The clients' calls for histories: append, list, delete, and say what is stored."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import grpc  # type: ignore[import-untyped]

from recollect_api import history_wire as wire
from recollect_api.connections import AsyncConnections, BlockingConnections, either
from recollect_api.errors import ClientError, closed, from_rpc_error
from recollect_api.history_records import Append, AppendResult, DeleteResult, HistoryPage, Stats
from recollect_api.records import Behaviour, Event, EventType
from recollect_api.sources import AsyncSource
from recollect_api.streams import accepted, is_cancelled
from recollect_api.v1 import histories_pb2

MAX_STREAMED = 10_000
"""Appends that the service takes of one stream."""
STREAMED_S = 20.0
"""After this a stream waits for no more: the service ends connections after half a minute, and what was taken of a
stream that is cut is not told."""
STREAMED_SHARE = 2 / 3
"""Of the time that a stream may take, as much is for what it brings; the rest is for the answer."""


class HistoryCalls(BlockingConnections):
    """Histories for callers that block."""

    def append(
        self, user_id: str, events: Sequence[Event], *, request_id: str = "", timeout_s: float | None = None
    ) -> AppendResult:
        """Add `events` to the history of `user_id`; those that cannot be stored are in `AppendResult.rejected`.

        A `request_id` is applied once: give each append its own, and repeat it with the same.
        """
        request = wire.append_request(user_id, events, request_id=request_id)
        response = self._ask(lambda stubs: stubs.histories.Append, request, either(timeout_s, self.timeout_s))
        return wire.append_result(response)

    def append_many(
        self, appends: Sequence[Append], *, timeout_s: float | None = None
    ) -> list[AppendResult | ClientError]:
        """Add events of many users; what became of each append, in their order. Each is atomic for itself alone."""
        request = wire.append_many_request(appends)
        response = self._ask(lambda stubs: stubs.histories.AppendMany, request, either(timeout_s, self.timeout_s))
        return wire.outcomes(response)

    def append_stream(
        self, appends: Iterable[Append], *, timeout_s: float | None = None
    ) -> list[AppendResult | ClientError]:
        """As `append_many`, for appends that come one after the other: each is stored soon after it is drawn.

        A stream begins with the first append and takes 10,000, or what comes in 20 seconds. An iterator that is waited
        for then goes on, and another call of this client with it begins with what it brings; an empty list says that
        there is no more. `timeout_s` is for the stream as a whole; two thirds of it, at most, are for what comes.

        Raises what `appends` raises, and ValueError for an append that cannot be sent, when those before are stored.
        """
        self._require_open()
        timeout_s = either(timeout_s, self.stream_timeout_s)
        with self._sources.of(appends, wire.streamed_append) as source:
            if not source.wait():
                self._require_open()
                return []
            messages = source.parts(MAX_STREAMED, _drawn_s(timeout_s))
            response = self._ask(lambda stubs: stubs.histories.AppendStream, messages, timeout_s)
            return wire.outcomes(response)

    def list_history(
        self,
        user_id: str,
        *,
        page_size: int = 0,
        page_token: str = "",
        types: Sequence[EventType] = (),
        as_of: datetime | None = None,
        timeout_s: float | None = None,
    ) -> HistoryPage:
        """One page of the history of `user_id`, newest first; `page_size` 0 leaves the size to the service.

        `types` leaves out all others, `as_of` what is not strictly earlier; a `page_token` is good for the same ones.
        """
        request = wire.list_request(user_id, page_size=page_size, page_token=page_token, types=types, as_of=as_of)
        response = self._ask(lambda stubs: stubs.histories.List, request, either(timeout_s, self.timeout_s))
        return wire.history_page(response)

    def history(
        self, user_id: str, *, page_size: int = 0, types: Sequence[EventType] = (), as_of: datetime | None = None
    ) -> Iterator[Behaviour]:
        """Every behaviour of `user_id`, newest first, page after page as they are consumed."""
        token = ""
        while True:
            page = self.list_history(user_id, page_size=page_size, page_token=token, types=types, as_of=as_of)
            yield from page.behaviours
            token = page.next_page_token
            if not token:
                return

    def delete_history(
        self, user_id: str, *, wait: bool = False, request_id: str = "", timeout_s: float | None = None
    ) -> DeleteResult:
        """Delete what is known of `user_id` up to now; repeat the call to see how far its bytes are from the disks.

        With `wait`, until Redis has rewritten its append-only file: allow that more time.
        """
        request = histories_pb2.DeleteRequest(user_id=user_id, wait=wait, request_id=request_id)
        response = self._ask(lambda stubs: stubs.histories.Delete, request, either(timeout_s, self.timeout_s))
        return wire.delete_result(response)

    def history_stats(self, user_id: str = "", *, timeout_s: float | None = None) -> Stats:
        """What is stored of `user_id`, and how the store is."""
        request = histories_pb2.StatsRequest(user_id=user_id)
        response = self._ask(lambda stubs: stubs.histories.Stats, request, either(timeout_s, self.timeout_s))
        return wire.stats(response)


class AsyncHistoryCalls(AsyncConnections):
    """Histories for asyncio: same methods, answers and errors as `HistoryCalls`."""

    async def append(
        self, user_id: str, events: Sequence[Event], *, request_id: str = "", timeout_s: float | None = None
    ) -> AppendResult:
        """Add `events` to the history of `user_id`; those that cannot be stored are in `AppendResult.rejected`.

        A `request_id` is applied once: give each append its own, and repeat it with the same.
        """
        request = wire.append_request(user_id, events, request_id=request_id)
        response = await self._ask(lambda stubs: stubs.histories.Append, request, either(timeout_s, self.timeout_s))
        return wire.append_result(response)

    async def append_many(
        self, appends: Sequence[Append], *, timeout_s: float | None = None
    ) -> list[AppendResult | ClientError]:
        """Add events of many users; what became of each append, in their order. Each is atomic for itself alone."""
        request = wire.append_many_request(appends)
        response = await self._ask(lambda stubs: stubs.histories.AppendMany, request, either(timeout_s, self.timeout_s))
        return wire.outcomes(response)

    async def append_stream(
        self, appends: AsyncIterable[Append] | Iterable[Append], *, timeout_s: float | None = None
    ) -> list[AppendResult | ClientError]:
        """As `append_many`, for appends that come one after the other: each is stored soon after it is drawn.

        A stream begins with the first append and takes 10,000, or what comes in 20 seconds. An iterator that is waited
        for then goes on, and another call of this client with it begins with what it brings; an empty list says that
        there is no more. `timeout_s` is for the stream as a whole; two thirds of it, at most, are for what comes.

        Raises what `appends` raises, and ValueError for an append that cannot be sent, when those before are stored.
        """
        self._require_open()
        timeout_s = either(timeout_s, self.stream_timeout_s)
        async with self._sources.of(appends, wire.streamed_append) as source:
            if not await source.wait():
                self._require_open()
                return []
            call = self._stub().histories.AppendStream(timeout=timeout_s)
            try:
                await _send(call, source, _drawn_s(timeout_s))
                return wire.outcomes(await call)
            except grpc.RpcError as error:
                raise from_rpc_error(error, target=self.target) from error
            except asyncio.CancelledError:
                if is_cancelled():
                    raise
                raise closed(self.target) from None
            finally:
                call.cancel()

    async def list_history(
        self,
        user_id: str,
        *,
        page_size: int = 0,
        page_token: str = "",
        types: Sequence[EventType] = (),
        as_of: datetime | None = None,
        timeout_s: float | None = None,
    ) -> HistoryPage:
        """One page of the history of `user_id`, newest first; `page_size` 0 leaves the size to the service.

        `types` leaves out all others, `as_of` what is not strictly earlier; a `page_token` is good for the same ones.
        """
        request = wire.list_request(user_id, page_size=page_size, page_token=page_token, types=types, as_of=as_of)
        response = await self._ask(lambda stubs: stubs.histories.List, request, either(timeout_s, self.timeout_s))
        return wire.history_page(response)

    async def history(
        self, user_id: str, *, page_size: int = 0, types: Sequence[EventType] = (), as_of: datetime | None = None
    ) -> AsyncIterator[Behaviour]:
        """Every behaviour of `user_id`, newest first, page after page as they are consumed."""
        token = ""
        while True:
            page = await self.list_history(user_id, page_size=page_size, page_token=token, types=types, as_of=as_of)
            for behaviour in page.behaviours:
                yield behaviour
            token = page.next_page_token
            if not token:
                return

    async def delete_history(
        self, user_id: str, *, wait: bool = False, request_id: str = "", timeout_s: float | None = None
    ) -> DeleteResult:
        """Delete what is known of `user_id` up to now; repeat the call to see how far its bytes are from the disks.

        With `wait`, until Redis has rewritten its append-only file: allow that more time.
        """
        request = histories_pb2.DeleteRequest(user_id=user_id, wait=wait, request_id=request_id)
        response = await self._ask(lambda stubs: stubs.histories.Delete, request, either(timeout_s, self.timeout_s))
        return wire.delete_result(response)

    async def history_stats(self, user_id: str = "", *, timeout_s: float | None = None) -> Stats:
        """What is stored of `user_id`, and how the store is."""
        request = histories_pb2.StatsRequest(user_id=user_id)
        response = await self._ask(lambda stubs: stubs.histories.Stats, request, either(timeout_s, self.timeout_s))
        return wire.stats(response)


async def _send(call: Any, source: AsyncSource[histories_pb2.AppendStreamRequest], seconds: float) -> None:
    """Write to `call` what comes within `seconds`."""
    until = asyncio.get_running_loop().time() + seconds
    # What it has ended with, while it was written to, `await call` tells.
    with suppress(grpc.RpcError, asyncio.InvalidStateError):
        await accepted(call)
        for _ in range(MAX_STREAMED):
            drawn = await source.take(until)
            for message in drawn:
                await call.write(message)
            if not drawn:
                break
        await call.done_writing()


def _drawn_s(timeout_s: float) -> float:
    """How long appends are waited for, for a stream that may take `timeout_s`."""
    return min(STREAMED_S, STREAMED_SHARE * timeout_s)
