"""Listen for calls: grpc.aio servers with their limits, tokens, health and reflection, whatever their services are."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped]

from recollect.errors import SetupError
from recollect.gateway.address import address_of
from recollect.gateway.decoding import DecodingInterceptor
from recollect.gateway.health import Health
from recollect.gateway.limiting import LimitInterceptor
from recollect.security.access import AccessInterceptor, AccessRules
from recollect.security.certificates import TlsFiles, server_credentials
from recollect.telemetry.calls import CallsInterceptor

S = TypeVar("S")

ACCEPTORS = 4
"""Servers that share the port of one process, and its event loop; the system gives each connection to one of them. A
server of grpc.aio takes one new call a turn of the loop, and turns are long when there is much to do: calls would wait
unseen that can be refused in a moment."""
MOST_UNSEEN = 10_000
"""Calls that have arrived and that the event loop has not yet seen, at most, when it is late. gRPC ends what is more
with CANCELLED, which tells a caller nothing and no client repeats; its own limit of 1,000 is half a second's worth."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ListenerConfig:
    """Where a server listens and what it takes."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 0
    """Port to listen on; 0 takes a free one."""
    share_port: bool = True
    """Whether every other server of this machine that names the port shares it; otherwise it is refused to them."""
    max_calls: int = 256
    """Calls that are worked on or wait at one time, those of grpc.health.v1 not among them; the next is refused with
    RESOURCE_EXHAUSTED."""
    max_request_bytes: int = 16 << 20
    """Largest request; the client sends as much."""
    max_response_bytes: int = 16 << 20
    """Largest response; the client accepts as much."""
    max_connection_age_s: float | None = 30.0
    """Replicas share a port by connections: one that lives for ever would never find a new replica. None: no limit."""
    connection_grace_s: float = 10.0
    """How long calls in flight on a connection that has reached its age may take."""
    tls: TlsFiles | None = None
    """Certificate and key that it shows; None: calls are not encrypted."""
    access: AccessRules | None = None
    """Tokens that calls must carry; None: they need none."""
    slow_call_s: float | None = None
    """Calls that take longer are written to the log, seconds; None: none is."""

    def __post_init__(self) -> None:
        if self.max_calls < 1:
            raise ValueError(f"max_calls must be at least 1, got {self.max_calls}")


class Listener:
    """Servers on one port: `add` services, then `start` it; `stop` it in the same event loop."""

    def __init__(
        self,
        config: ListenerConfig,
        *,
        served: Sequence[str],
        known: Sequence[str],
        interceptors: Sequence[grpc.aio.ServerInterceptor],
    ) -> None:
        """`served` are the services that grpc.health.v1 tells of, `known` those whose contract reflection gives."""
        self.port = 0
        """Where it listens, once started."""
        self._config = config
        self._known = known
        self._health = Health(served)
        around = [
            CallsInterceptor(slow_s=config.slow_call_s),
            LimitInterceptor(config.max_calls),
            *([] if config.access is None else [AccessInterceptor(config.access)]),
            DecodingInterceptor(),
            *interceptors,
        ]
        self._servers = [
            grpc.aio.server(interceptors=around, options=_options(config))
            for _ in range(ACCEPTORS if config.share_port else 1)
        ]

    def add(self, register: Callable[[S, grpc.aio.Server], None], servicer: S) -> None:
        """Have `servicer` answer; `register` is the stubs' function for it, as `add_HistoriesServicer_to_server`."""
        for server in self._servers:
            register(servicer, server)

    async def start(self) -> int:
        """Listen; returns the port. SetupError where that address cannot be listened on."""
        names = (*self._known, "grpc.health.v1.Health", reflection.SERVICE_NAME)
        for server in self._servers:
            self._health.add_to(server)
            reflection.enable_server_reflection(names, server)
        self.port, tls, several = self._config.port, self._config.tls, len(self._servers)
        credentials = [None] * several if tls is None else server_credentials(tls, servers=several)
        for server, own in zip(self._servers, credentials, strict=True):  # the first chooses, where the port is 0
            self.port = self._bound(server, self.port, own)
        await asyncio.gather(*(server.start() for server in self._servers))
        self._health.serving()
        return self.port

    async def stop(self, grace_s: float) -> None:
        """Say NOT_SERVING, take no more calls, and end once those in flight are answered or `grace_s` has passed."""
        self._health.draining()
        await asyncio.gather(*(server.stop(grace_s) for server in self._servers))

    def _bound(self, server: grpc.aio.Server, port: int, credentials: grpc.ServerCredentials | None) -> int:
        address = address_of(self._config.host, port)
        try:
            if credentials is None:
                return int(server.add_insecure_port(address))
            return int(server.add_secure_port(address, credentials))
        except RuntimeError as error:
            raise SetupError(f"cannot listen on {address} ({error}); choose another host or port") from error


def _options(config: ListenerConfig) -> list[tuple[str, int]]:
    age_s = config.max_connection_age_s
    return [
        ("grpc.so_reuseport", int(config.share_port)),
        *([] if age_s is None else [("grpc.max_connection_age_ms", int(age_s * 1_000))]),
        ("grpc.max_connection_age_grace_ms", int(config.connection_grace_s * 1_000)),
        ("grpc.max_receive_message_length", config.max_request_bytes),
        ("grpc.max_send_message_length", config.max_response_bytes),
        ("grpc.server.max_pending_requests", MOST_UNSEEN),
        ("grpc.server.max_pending_requests_hard_limit", MOST_UNSEEN),
        # The smallest ping interval that is accepted, so that clients behind NAT may keep a quiet connection open.
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
