"""Open channels to the service: limits, retries, TLS and the token."""

import json
import re
from dataclasses import dataclass

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]

MAX_MESSAGE_BYTES = 16 << 20
"""Largest message that is sent or received: images need it; a thousand explained candidates stay under 1 MiB."""

SERVICE_CONFIG = json.dumps(
    {
        "methodConfig": [
            {
                "name": [
                    *(
                        {"service": f"recollect_api.v1.{service}"}
                        for service in ("Recommender", "Histories", "Classifier", "DescriptorSets", "ComposedRetrieval")
                    ),
                    # Of the admin services only what may be done twice.
                    *(
                        {"service": f"recollect_api.v1.{service}", "method": method}
                        for service in ("Indexes", "Models")
                        for method in ("List", "Verify")
                    ),
                    {"service": "google.longrunning.Operations"},
                ],
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.05s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 3,
                    # Only what says that nothing was done: a replica that closes, a store that cannot be reached.
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
)
"""gRPC repeats a call by itself after UNAVAILABLE, never after anything else, and never past the call's deadline."""

OPTIONS: tuple[tuple[str, str | int], ...] = (
    ("grpc.enable_retries", 1),
    ("grpc.service_config", SERVICE_CONFIG),
    # What is longer than this is sent once and never repeated; the default would leave out every photograph.
    ("grpc.per_rpc_retry_buffer_size", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # A replica that was just killed resets the connection; gRPC's own second of pause would outlast all attempts.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # Who vanishes without a word, or is forgotten by a NAT on the way, closes no connection: calls over it would time
    # out for ever. The service takes pings at rest, too; others end a connection for those, so they go beside calls.
    ("grpc.keepalive_time_ms", 12_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    # What a ping waits for is said twice: gRPC's own minute would hold otherwise.
    ("grpc.http2.ping_timeout_ms", 3_000),
    # Without a pool of its own, a second channel to the same address would share the first one's connection.
    ("grpc.use_local_subchannel_pool", 1),
)

MAX_PORT = 65_535
"""gRPC would take a larger one for another, by its last 16 bits."""
TOKEN = re.compile("[!-~]+")
"""What a token may be; gRPC says of others that the service cannot be reached."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChannelConfig:
    """How to reach the service."""

    target: str
    """`host:port`, or any gRPC target such as `dns:///recollect.internal:50051`."""
    tls: bool = False
    """Encrypt; the service's certificate is checked against `root_certificates`."""
    root_certificates: bytes | None = None
    """PEM roots to trust; None with `tls` trusts gRPC's own roots."""
    client_certificate: bytes | None = None
    """PEM chain to show to a service that asks for one (mutual TLS); needs `client_key`."""
    client_key: bytes | None = None
    """Its private key, PEM."""
    token: str | None = None
    """Sent as `authorization: Bearer …` with every call; needs `tls`."""

    def __post_init__(self) -> None:
        if not self.target:
            raise ValueError("target is empty; give host:port, such as localhost:50051")
        if any(int(port) > MAX_PORT for port in _ports(self.target)):
            raise ValueError(f"target must have a port of at most {MAX_PORT}, got {self.target!r}")
        if self.root_certificates is not None and not self.tls:
            raise ValueError("root_certificates without tls would not be used; pass tls=True")
        if (self.client_certificate is None) != (self.client_key is None):
            raise ValueError("client_certificate and client_key belong together; pass both")
        if self.client_key is not None and not self.tls:
            raise ValueError("client_certificate without tls would not be used; pass tls=True")
        if self.token is not None and not self.tls:
            raise ValueError("a token would travel unencrypted; pass tls=True")
        if self.token is not None and not TOKEN.fullmatch(self.token):
            raise ValueError(  # without the token, which belongs into no log
                "token must be printable ASCII without blanks; where it is read from a file, take the line break away "
                "with .strip()"
            )


def _ports(target: str) -> list[str]:
    """The ports that `target` names, where it is no path; it may be several addresses."""
    return [] if target.startswith(("unix:", "unix-abstract:")) else re.findall(r":([0-9]+)(?=,|$)", target)


def open_channel(config: ChannelConfig) -> grpc.Channel:
    """A channel for blocking calls."""
    if config.tls:
        return grpc.secure_channel(config.target, _credentials(config), options=OPTIONS)
    return grpc.insecure_channel(config.target, options=OPTIONS)


def open_async_channel(config: ChannelConfig) -> grpc.aio.Channel:
    """A channel for calls that are awaited."""
    if config.tls:
        return grpc.aio.secure_channel(config.target, _credentials(config), options=OPTIONS)
    return grpc.aio.insecure_channel(config.target, options=OPTIONS)


def _credentials(config: ChannelConfig) -> grpc.ChannelCredentials:
    channel = grpc.ssl_channel_credentials(
        root_certificates=config.root_certificates,
        private_key=config.client_key,
        certificate_chain=config.client_certificate,
    )
    if config.token is None:
        return channel
    return grpc.composite_channel_credentials(channel, grpc.access_token_call_credentials(config.token))
