"""Ask a running service, from outside, whether its parts answer, and say what to do about those that do not."""

import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import grpc  # type: ignore[import-untyped]
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from recollect.security.exposure import is_loopback
from recollect.telemetry.figures import figures
from recollect.telemetry.reading import MetricsTarget, MetricsUnread, read_snapshot
from recollect_api import ClientError, RecollectClient, Unavailable
from recollect_api.channel import ChannelConfig, open_channel

State = Literal["ok", "warn", "fail"]
PATIENCE_S = 5.0
"""How long each part may take to answer."""
LEFT = 0.25
"""Share of a certificate's lifetime that is left when its renewal is late."""

Clock = Callable[[], datetime]


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One thing that was looked at."""

    what: str
    state: State
    found: str
    remedy: str = ""
    """What to do; empty where all is well."""


def check_service(config: ChannelConfig, clock: Clock = lambda: datetime.now(UTC)) -> Iterator[Check]:
    """Whether the service at `config.target` answers, how it is encrypted, whether it takes calls and the token, and
    how its history store is."""
    with open_channel(config) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        try:
            told = health.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)
        except grpc.RpcError as error:
            how = "over TLS" if config.tls else "without TLS"
            yield Check(
                what="service",
                state="fail",
                found=f"{config.target}, called {how}: {error.code().name}: {error.details()}",
                remedy="start `recollect serve` there, correct --target, or say --tls, --ca and --cert as it needs",
            )
            if config.tls:
                yield from _certificate(config, clock)
            return
        serving = told.status == health_pb2.HealthCheckResponse.SERVING
        yield Check(
            what="service",
            state="ok" if serving else "fail",
            found=f"{config.target} is {health_pb2.HealthCheckResponse.ServingStatus.Name(told.status)}",
            remedy="" if serving else "it starts or ends; ask again soon, and look into its log if this stays",
        )
        listed = health.List(health_pb2.HealthListRequest(), timeout=PATIENCE_S).statuses
        down = sorted(name for name, each in listed.items() if each.status != health_pb2.HealthCheckResponse.SERVING)
        yield Check(
            what="parts",
            state="fail" if down else "ok",
            found=", ".join(down or sorted(name.rpartition(".")[2] for name in listed if name)),
            remedy="these do not take calls; the service's log says why" if down else "",
        )
    yield from _certificate(config, clock) if config.tls else _unencrypted(config.target)
    yield from _histories(config)


def check_metrics(target: MetricsTarget) -> Check:
    """Whether metrics are told there."""
    try:
        now = read_snapshot(target)
    except MetricsUnread as error:
        found, _, remedy = str(error).partition("; ")
        return Check(what="metrics", state="fail", found=found, remedy=remedy or "look at the token and its scope")
    roles = [each.role for each in figures(now, now).processes]
    counted = ", ".join(f"{roles.count(role)} {role}" for role in dict.fromkeys(roles)) or "none alive"
    return Check(what="metrics", state="ok" if roles else "warn", found=f"{target.url}, processes: {counted}")


def check_ray(address: str) -> Check:
    """Whether the control plane of a Ray cluster answers at `address`, `host:port`."""
    with grpc.insecure_channel(address) as channel:
        try:
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)
        except grpc.RpcError as error:
            code = error.code()
            if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                return Check(
                    what="ray",
                    state="fail",
                    found=f"{address}: {code.name}: {error.details()}",
                    remedy="start it with `ray start --head`, or correct --ray-address; HOST:6379 as a rule",
                )
            # It asks for its token, which is an answer.
            return Check(what="ray", state="ok", found=f"{address} answers ({code.name})")
    return Check(what="ray", state="ok", found=f"{address} answers")


def _certificate(config: ChannelConfig, clock: Clock) -> Iterator[Check]:
    host, port = _host_and_port(config.target)
    # What is asked is when it ends; whether it can be trusted, the call before has shown.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((host, port), timeout=PATIENCE_S) as plain,
            context.wrap_socket(plain, server_hostname=host) as encrypted,
        ):
            shown = encrypted.getpeercert(binary_form=True)
    except OSError as error:
        yield Check(what="TLS", state="fail", found=str(error), remedy="look whether the service has a certificate")
        return
    assert shown is not None, "a server shows a certificate"
    found = x509.load_der_x509_certificate(shown)
    begin, end, now = found.not_valid_before_utc, found.not_valid_after_utc, clock()
    state: State = "ok"
    if now > end:
        state = "fail"
    elif end - now < LEFT * (end - begin):
        state = "warn"
    remedy = "" if state == "ok" else "renew the certificate; the service takes the new files without a restart"
    yield Check(what="TLS", state=state, found=f"certificate until {end:%Y-%m-%d %H:%M} UTC", remedy=remedy)


def _unencrypted(target: str) -> Iterator[Check]:
    host, _ = _host_and_port(target)
    if is_loopback(host):
        yield Check(what="TLS", state="ok", found="unencrypted, to this machine alone")
    else:
        yield Check(
            what="TLS",
            state="warn",
            found="unencrypted, over the network",
            remedy="start the service with --tls-cert and --tls-key, unless something else keeps strangers out",
        )


def _histories(config: ChannelConfig) -> Iterator[Check]:
    with RecollectClient(
        config.target,
        timeout_s=PATIENCE_S,
        connections=1,
        tls=config.tls,
        root_certificates=config.root_certificates,
        client_certificate=config.client_certificate,
        client_key=config.client_key,
        token=config.token,
    ) as client:
        try:
            store = client.history_stats("").store
        except Unavailable as error:
            yield Check(
                what="histories",
                state="fail",
                found=str(error),
                remedy="start Redis again; until then scores are computed without histories and appends refused",
            )
        except ClientError as error:
            yield Check(
                what="token",
                state="fail",
                found=str(error),
                remedy="give --token-file with a token of the scope read, see `recollect token create`",
            )
        else:
            yield Check(what="histories", state="ok", found=f"{store.server}, {store.persistence}")
            for warning in store.warnings:
                found, _, remedy = warning.partition("; ")
                yield Check(what="histories", state="warn", found=found, remedy=remedy)


def _host_and_port(target: str) -> tuple[str, int]:
    """Those of `host:port`, with a scheme of gRPC's perhaps."""
    host, _, port = target.rpartition("/")[2].rpartition(":")
    return host.strip("[]"), int(port) if port.isdigit() else 443
