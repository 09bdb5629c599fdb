"""What the admin clients share: one channel to the one admin server of a service, and its stubs."""

from typing import TYPE_CHECKING, cast

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]
from google.longrunning import operations_pb2_grpc  # type: ignore[import-untyped]

from recollect_api.channel import ChannelConfig
from recollect_api.connections import AsyncChannels, BlockingChannels, seconds
from recollect_api.v1 import indexes_pb2_grpc, models_pb2_grpc

if TYPE_CHECKING:
    from recollect_api.v1.indexes_pb2_grpc import IndexesAsyncStub
    from recollect_api.v1.models_pb2_grpc import ModelsAsyncStub

DEFAULT_TIMEOUT_S = 10.0
"""How long a call may take, retries included, where the caller does not say."""
DEFAULT_JUDGING_TIMEOUT_S = 600.0
"""The same for calls that read or judge whole versions."""


class AdminStubs:
    """The admin services over one channel."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.indexes = indexes_pb2_grpc.IndexesStub(channel)
        self.models = models_pb2_grpc.ModelsStub(channel)
        self.operations = operations_pb2_grpc.OperationsStub(channel)


class AsyncAdminStubs:
    """The admin services over one channel of an event loop."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        # The generated stubs have the type of calls that block; over an aio channel the same calls are awaited.
        stubs = AdminStubs(channel)
        self.indexes = cast("IndexesAsyncStub", stubs.indexes)
        self.models = cast("ModelsAsyncStub", stubs.models)
        self.operations = stubs.operations


class BlockingAdminConnections(BlockingChannels[AdminStubs]):
    """A channel for calls that block; safe to share between threads. Close it, or use it in a `with` block.

    Every method raises a `ClientError` (see `recollect_api.errors`) where the call ends without an answer, and
    ValueError where a value cannot be sent at all. `expected_version` refuses a move, with Conflict, unless the label
    points at that version; "" unless there is no such label yet.
    """

    def __init__(
        self,
        target: str,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        judging_timeout_s: float = DEFAULT_JUDGING_TIMEOUT_S,
        tls: bool = False,
        root_certificates: bytes | None = None,
        client_certificate: bytes | None = None,
        client_key: bytes | None = None,
        token: str | None = None,
    ) -> None:
        config = ChannelConfig(
            target=target,
            tls=tls,
            root_certificates=root_certificates,
            client_certificate=client_certificate,
            client_key=client_key,
            token=token,
        )
        super().__init__(AdminStubs, config, timeout_s=timeout_s, connections=1)
        self.judging_timeout_s = seconds("judging_timeout_s", judging_timeout_s)


class AsyncAdminConnections(AsyncChannels[AsyncAdminStubs]):
    """A channel for asyncio; make and use it in one event loop. Close it, or use it in an `async with` block."""

    def __init__(
        self,
        target: str,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        judging_timeout_s: float = DEFAULT_JUDGING_TIMEOUT_S,
        tls: bool = False,
        root_certificates: bytes | None = None,
        client_certificate: bytes | None = None,
        client_key: bytes | None = None,
        token: str | None = None,
    ) -> None:
        config = ChannelConfig(
            target=target,
            tls=tls,
            root_certificates=root_certificates,
            client_certificate=client_certificate,
            client_key=client_key,
            token=token,
        )
        super().__init__(AsyncAdminStubs, config, timeout_s=timeout_s, connections=1)
        self.judging_timeout_s = seconds("judging_timeout_s", judging_timeout_s)
