"""Call the service: one client that blocks and one that is awaited, with the same methods and the same answers."""

import itertools
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]

from recollect_api import wire
from recollect_api.channel import ChannelConfig, open_async_channel, open_channel
from recollect_api.errors import from_rpc_error
from recollect_api.records import AppendResult, Behaviour, Event, HistoryPage, Scores
from recollect_api.v1 import histories_pb2_grpc, recommender_pb2_grpc

if TYPE_CHECKING:
    from recollect_api.v1.histories_pb2_grpc import HistoriesAsyncStub
    from recollect_api.v1.recommender_pb2_grpc import RecommenderAsyncStub

DEFAULT_TIMEOUT_S = 2.0
"""How long a call may take, retries included, where the caller does not say."""
DEFAULT_CONNECTIONS = 2
"""Replicas of one address share its *connections*: one client with one connection would only ever use one replica."""


class RecollectClient:
    """Blocking client; safe to share between threads. Close it, or use it in a `with` block.

    Every method raises a `ClientError` (see `recollect_api.errors`) where the call ends without an answer, and
    ValueError where a value cannot be sent at all, such as a time without a time zone.
    """

    def __init__(
        self,
        target: str,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        tls: bool = False,
        root_certificates: bytes | None = None,
        token: str | None = None,
        connections: int = DEFAULT_CONNECTIONS,
    ) -> None:
        self.target = target
        self.timeout_s = timeout_s
        config = ChannelConfig(target=target, tls=tls, root_certificates=root_certificates, token=token)
        self._channels = [open_channel(config) for _ in range(_at_least_one(connections))]
        self._recommenders = itertools.cycle([recommender_pb2_grpc.RecommenderStub(each) for each in self._channels])
        self._histories = itertools.cycle([histories_pb2_grpc.HistoriesStub(each) for each in self._channels])

    def score(
        self,
        user_id: str,
        item_ids: Sequence[int],
        *,
        as_of: datetime | None = None,
        explain: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Scores:
        """Score the candidates `item_ids` for `user_id`, by behaviours strictly earlier than `as_of` (None: by all)."""
        request = wire.score_request(user_id, item_ids, as_of=as_of, explain=explain, request_id=request_id)
        try:
            response = next(self._recommenders).Score(request, timeout=self._timeout(timeout_s))
        except grpc.RpcError as error:
            raise from_rpc_error(error, target=self.target) from error
        return wire.scores(request, response)

    def append(
        self, user_id: str, events: Sequence[Event], *, request_id: str = "", timeout_s: float | None = None
    ) -> AppendResult:
        """Add `events` to the history of `user_id`; those that cannot be stored are in `AppendResult.rejected`."""
        request = wire.append_request(user_id, events, request_id=request_id)
        try:
            response = next(self._histories).Append(request, timeout=self._timeout(timeout_s))
        except grpc.RpcError as error:
            raise from_rpc_error(error, target=self.target) from error
        return wire.append_result(response)

    def list_history(
        self, user_id: str, *, page_size: int = 0, page_token: str = "", timeout_s: float | None = None
    ) -> HistoryPage:
        """One page of the history of `user_id`, newest first; `page_size` 0 leaves the size to the service."""
        request = wire.list_request(user_id, page_size=page_size, page_token=page_token)
        try:
            response = next(self._histories).List(request, timeout=self._timeout(timeout_s))
        except grpc.RpcError as error:
            raise from_rpc_error(error, target=self.target) from error
        return wire.history_page(response)

    def history(self, user_id: str, *, page_size: int = 0) -> Iterator[Behaviour]:
        """Every behaviour of `user_id`, newest first, page after page as they are consumed."""
        token = ""
        while True:
            page = self.list_history(user_id, page_size=page_size, page_token=token)
            yield from page.behaviours
            token = page.next_page_token
            if not token:
                return

    def close(self) -> None:
        """Close the connections; calls in flight end with Cancelled."""
        for channel in self._channels:
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _timeout(self, timeout_s: float | None) -> float:
        return self.timeout_s if timeout_s is None else timeout_s


class AsyncRecollectClient:
    """Client for asyncio; make and use it in one event loop. Close it, or use it in an `async with` block.

    Same methods, answers and errors as `RecollectClient`.
    """

    def __init__(
        self,
        target: str,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        tls: bool = False,
        root_certificates: bytes | None = None,
        token: str | None = None,
        connections: int = DEFAULT_CONNECTIONS,
    ) -> None:
        self.target = target
        self.timeout_s = timeout_s
        config = ChannelConfig(target=target, tls=tls, root_certificates=root_certificates, token=token)
        self._channels = [open_async_channel(config) for _ in range(_at_least_one(connections))]
        self._recommenders = itertools.cycle([_recommender(each) for each in self._channels])
        self._histories = itertools.cycle([_histories(each) for each in self._channels])

    async def score(
        self,
        user_id: str,
        item_ids: Sequence[int],
        *,
        as_of: datetime | None = None,
        explain: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Scores:
        """Score the candidates `item_ids` for `user_id`, by behaviours strictly earlier than `as_of` (None: by all)."""
        request = wire.score_request(user_id, item_ids, as_of=as_of, explain=explain, request_id=request_id)
        try:
            response = await next(self._recommenders).Score(request, timeout=self._timeout(timeout_s))
        except grpc.RpcError as error:
            raise from_rpc_error(error, target=self.target) from error
        return wire.scores(request, response)

    async def append(
        self, user_id: str, events: Sequence[Event], *, request_id: str = "", timeout_s: float | None = None
    ) -> AppendResult:
        """Add `events` to the history of `user_id`; those that cannot be stored are in `AppendResult.rejected`."""
        request = wire.append_request(user_id, events, request_id=request_id)
        try:
            response = await next(self._histories).Append(request, timeout=self._timeout(timeout_s))
        except grpc.RpcError as error:
            raise from_rpc_error(error, target=self.target) from error
        return wire.append_result(response)

    async def list_history(
        self, user_id: str, *, page_size: int = 0, page_token: str = "", timeout_s: float | None = None
    ) -> HistoryPage:
        """One page of the history of `user_id`, newest first; `page_size` 0 leaves the size to the service."""
        request = wire.list_request(user_id, page_size=page_size, page_token=page_token)
        try:
            response = await next(self._histories).List(request, timeout=self._timeout(timeout_s))
        except grpc.RpcError as error:
            raise from_rpc_error(error, target=self.target) from error
        return wire.history_page(response)

    async def history(self, user_id: str, *, page_size: int = 0) -> AsyncIterator[Behaviour]:
        """Every behaviour of `user_id`, newest first, page after page as they are consumed."""
        token = ""
        while True:
            page = await self.list_history(user_id, page_size=page_size, page_token=token)
            for behaviour in page.behaviours:
                yield behaviour
            token = page.next_page_token
            if not token:
                return

    async def close(self) -> None:
        """Close the connections; calls in flight are cancelled."""
        for channel in self._channels:
            await channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _timeout(self, timeout_s: float | None) -> float:
        return self.timeout_s if timeout_s is None else timeout_s


def _at_least_one(connections: int) -> int:
    if connections < 1:
        raise ValueError(f"connections must be at least 1, got {connections}")
    return connections


# The generated stubs have the type of a call that blocks; over an aio channel the same stub's calls are awaited.
def _recommender(channel: grpc.aio.Channel) -> "RecommenderAsyncStub":
    return cast("RecommenderAsyncStub", recommender_pb2_grpc.RecommenderStub(channel))


def _histories(channel: grpc.aio.Channel) -> "HistoriesAsyncStub":
    return cast("HistoriesAsyncStub", histories_pb2_grpc.HistoriesStub(channel))
