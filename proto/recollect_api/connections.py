"""What the clients share: several channels to one address, and how a failed call becomes an exception."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]

from recollect_api.balancing import Balancer
from recollect_api.channel import ChannelConfig, open_async_channel, open_channel
from recollect_api.errors import ClientError, closed, from_rpc_error
from recollect_api.request_ids import METADATA_KEY, fits_metadata
from recollect_api.sources import AsyncSources, Sources
from recollect_api.streams import is_cancelled
from recollect_api.throttling import Throttle
from recollect_api.v1 import (
    classifier_pb2_grpc,
    composed_retrieval_pb2_grpc,
    descriptor_sets_pb2_grpc,
    histories_pb2,
    histories_pb2_grpc,
    recommender_pb2_grpc,
)

if TYPE_CHECKING:
    from recollect_api.v1.classifier_pb2_grpc import ClassifierAsyncStub
    from recollect_api.v1.composed_retrieval_pb2_grpc import ComposedRetrievalAsyncStub
    from recollect_api.v1.descriptor_sets_pb2_grpc import DescriptorSetsAsyncStub
    from recollect_api.v1.histories_pb2_grpc import HistoriesAsyncStub
    from recollect_api.v1.recommender_pb2_grpc import RecommenderAsyncStub

S = TypeVar("S")
"""The services over one channel."""

DEFAULT_TIMEOUT_S = 2.0
"""How long a call may take, retries included, where the caller does not say."""
DEFAULT_CLASSIFY_TIMEOUT_S = 10.0
"""The same for calls that embed images or texts."""
DEFAULT_STREAM_TIMEOUT_S = 30.0
"""How long a stream may last: longer than the seconds for which the service takes what it brings."""
MAX_TIMEOUT_S = 1e9
"""Longest that a call may be given, thirty years; gRPC's clock ends two centuries later, and begins anew."""
DEFAULT_CONNECTIONS = 2
"""Replicas of one address share its *connections*: one client with one connection would only ever use one replica."""


class Stubs:
    """The services over one channel."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.recommender = recommender_pb2_grpc.RecommenderStub(channel)
        self.histories = histories_pb2_grpc.HistoriesStub(channel)
        self.classifier = classifier_pb2_grpc.ClassifierStub(channel)
        self.descriptor_sets = descriptor_sets_pb2_grpc.DescriptorSetsStub(channel)
        self.composed_retrieval = composed_retrieval_pb2_grpc.ComposedRetrievalStub(channel)


class AsyncStubs:
    """The services over one channel of an event loop."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        # The generated stubs have the type of calls that block; over an aio channel the same calls are awaited.
        stubs = Stubs(channel)
        self.recommender = cast("RecommenderAsyncStub", stubs.recommender)
        self.histories = cast("HistoriesAsyncStub", stubs.histories)
        self.classifier = cast("ClassifierAsyncStub", stubs.classifier)
        self.descriptor_sets = cast("DescriptorSetsAsyncStub", stubs.descriptor_sets)
        self.composed_retrieval = cast("ComposedRetrievalAsyncStub", stubs.composed_retrieval)


class BlockingChannels(Generic[S]):
    """Channels for calls that block; safe to share between threads. Close it, or use it in a `with` block.

    Every method raises a `ClientError` (see `recollect_api.errors`) where the call ends without an answer, and
    ValueError where a value cannot be sent at all, such as a time without a time zone.
    """

    def __init__(
        self, over: Callable[[grpc.Channel], S], config: ChannelConfig, *, timeout_s: float, connections: int
    ) -> None:
        """`over` makes the stubs of a channel."""
        self.target = config.target
        self.timeout_s = seconds("timeout_s", timeout_s)
        self._closed = False
        self._channels = [open_channel(config) for _ in range(_at_least_one(connections))]
        self._balancer = Balancer([over(each) for each in self._channels])

    def _stub(self) -> S:
        """The stubs over a channel that has little to do, for a stream."""
        self._require_open()
        return self._balancer.choose()

    def _ask(self, method: Callable[[S], Callable[..., Any]], request: object, timeout_s: float | None) -> Any:
        """The response to `request`, over a channel that has little to do."""
        self._require_open()
        try:
            with self._balancer.call() as stubs:
                return method(stubs)(request, timeout=timeout_s, metadata=_named(request))
        except grpc.RpcError as error:
            raise from_rpc_error(error, target=self.target) from error
        except ValueError as error:
            if self._closed:  # by another thread, after it was looked at
                raise closed(self.target) from error
            raise

    def _require_open(self) -> None:
        if self._closed:
            raise closed(self.target)

    def close(self) -> None:
        """Close the connections; calls in flight, and later ones, end with Cancelled."""
        self._closed = True
        for channel in self._channels:
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncChannels(Generic[S]):
    """Channels for asyncio; make and use it in one event loop. Close it, or use it in an `async with` block."""

    def __init__(
        self, over: Callable[[grpc.aio.Channel], S], config: ChannelConfig, *, timeout_s: float, connections: int
    ) -> None:
        """`over` makes the stubs of a channel."""
        self.target = config.target
        self.timeout_s = seconds("timeout_s", timeout_s)
        self._closed = False
        self._channels = [open_async_channel(config) for _ in range(_at_least_one(connections))]
        self._balancer = Balancer([over(each) for each in self._channels])

    def _stub(self) -> S:
        """The stubs over a channel that has little to do, for a stream."""
        self._require_open()
        return self._balancer.choose()

    async def _ask(self, method: Callable[[S], Callable[..., Any]], request: object, timeout_s: float | None) -> Any:
        """The response to `request`, over a channel that has little to do."""
        self._require_open()
        try:
            with self._balancer.call() as stubs:
                return await method(stubs)(request, timeout=timeout_s, metadata=_named(request))
        except grpc.RpcError as error:
            raise from_rpc_error(error, target=self.target) from error
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            raise closed(self.target) from None

    def _require_open(self) -> None:
        if self._closed:
            raise closed(self.target)

    async def close(self) -> None:
        """Close the connections; calls in flight, and later ones, end with Cancelled."""
        self._closed = True
        for channel in self._channels:
            await channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class BlockingConnections(BlockingChannels[Stubs]):
    """Channels to what serves, for calls that block; safe to share between threads.

    Close it, or use it in a `with` block.
    """

    def __init__(
        self,
        target: str,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        classify_timeout_s: float = DEFAULT_CLASSIFY_TIMEOUT_S,
        stream_timeout_s: float = DEFAULT_STREAM_TIMEOUT_S,
        tls: bool = False,
        root_certificates: bytes | None = None,
        client_certificate: bytes | None = None,
        client_key: bytes | None = None,
        token: str | None = None,
        connections: int = DEFAULT_CONNECTIONS,
    ) -> None:
        config = ChannelConfig(
            target=target,
            tls=tls,
            root_certificates=root_certificates,
            client_certificate=client_certificate,
            client_key=client_key,
            token=token,
        )
        super().__init__(Stubs, config, timeout_s=timeout_s, connections=connections)
        self.classify_timeout_s = seconds("classify_timeout_s", classify_timeout_s)
        self.stream_timeout_s = seconds("stream_timeout_s", stream_timeout_s)
        self._throttle = Throttle()
        self._sources: Sources[histories_pb2.AppendStreamRequest] = Sources()

    def close(self) -> None:
        """Close the connections; calls in flight, and later ones, end with Cancelled."""
        super().close()
        self._sources.close()

    def _ranked(self, method: Callable[[Stubs], Callable[..., Any]], request: object, timeout_s: float | None) -> Any:
        """As `_ask`, of calls that rank: those that a service with too much to do would refuse are not sent."""
        self._throttle.require()
        try:
            response = self._ask(method, request, timeout_s)
        except ClientError as error:
            self._throttle.note(error.reason)
            raise
        self._throttle.note("")
        return response


class AsyncConnections(AsyncChannels[AsyncStubs]):
    """Channels to what serves, for asyncio; make and use it in one event loop.

    Close it, or use it in an `async with` block.
    """

    def __init__(
        self,
        target: str,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        classify_timeout_s: float = DEFAULT_CLASSIFY_TIMEOUT_S,
        stream_timeout_s: float = DEFAULT_STREAM_TIMEOUT_S,
        tls: bool = False,
        root_certificates: bytes | None = None,
        client_certificate: bytes | None = None,
        client_key: bytes | None = None,
        token: str | None = None,
        connections: int = DEFAULT_CONNECTIONS,
    ) -> None:
        config = ChannelConfig(
            target=target,
            tls=tls,
            root_certificates=root_certificates,
            client_certificate=client_certificate,
            client_key=client_key,
            token=token,
        )
        super().__init__(AsyncStubs, config, timeout_s=timeout_s, connections=connections)
        self.classify_timeout_s = seconds("classify_timeout_s", classify_timeout_s)
        self.stream_timeout_s = seconds("stream_timeout_s", stream_timeout_s)
        self._throttle = Throttle()
        self._sources: AsyncSources[histories_pb2.AppendStreamRequest] = AsyncSources()

    async def close(self) -> None:
        """Close the connections; calls in flight, and later ones, end with Cancelled. What streams still wait for is
        cancelled."""
        await super().close()
        await self._sources.close()

    async def _ranked(
        self, method: Callable[[AsyncStubs], Callable[..., Any]], request: object, timeout_s: float | None
    ) -> Any:
        """As `_ask`, of calls that rank: those that a service with too much to do would refuse are not sent."""
        self._throttle.require()
        try:
            response = await self._ask(method, request, timeout_s)
        except ClientError as error:
            self._throttle.note(error.reason)
            raise
        self._throttle.note("")
        return response


def either(given: float | None, otherwise: float) -> float:
    """The timeout that the caller gave, or the client's."""
    return otherwise if given is None else seconds("timeout_s", given)


def seconds(name: str, timeout_s: float) -> float:
    """The timeout `name`; ValueError for one that no clock reaches, which gRPC takes for one that has passed."""
    if not abs(timeout_s) <= MAX_TIMEOUT_S:
        raise ValueError(f"{name} must be at most {MAX_TIMEOUT_S:g} seconds, got {timeout_s}; give how long to wait")
    return timeout_s


def _named(request: object) -> tuple[tuple[str, str], ...] | None:
    """Metadata with the name that `request` gives its call: a service that refuses it unread learns of no other."""
    given = getattr(request, "request_id", "")
    return ((METADATA_KEY, given),) if fits_metadata(given) else None


def _at_least_one(connections: int) -> int:
    if connections < 1:
        raise ValueError(f"connections must be at least 1, got {connections}")
    return connections
