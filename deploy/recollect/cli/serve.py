"""`recollect serve`: answer over gRPC until it is told to stop."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recollect.cli.console import err, explains_errors, out

if TYPE_CHECKING:
    from recollect.admin.server import RunningAdmin
    from recollect.serve_app import RunningGateway
    from recollect.settings import Settings


@explains_errors
def serve(
    model: Annotated[
        str, typer.Option(help="Which model answers: NAME@LABEL, NAME/VERSION or a model directory.", metavar="MODEL")
    ] = "dare@stable",
    canary: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Model to try on some users, `dare@canary` for one; its label is followed."),
    ] = None,
    canary_share: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Share of the users who get its answers, 0 to 1.")
    ] = None,
    shadow_share: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Share of the others whose scores are compared with its own, 0 to 1."),
    ] = None,
    recommender: Annotated[
        bool | None, typer.Option("--recommender/--no-recommender", help="Whether items are scored and recommended.")
    ] = None,
    redis: Annotated[
        str | None, typer.Option("--redis", metavar="URL", help="Redis to use, as redis://HOST:6379/0 or unix://PATH.")
    ] = None,
    events: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Event store that histories which Redis does not have are completed from."),
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; others than this machine's take TLS and tokens.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    replicas: Annotated[int | None, typer.Option(help="Processes that answer; they share the port.")] = None,
    index: Annotated[
        str | None,
        typer.Option(metavar="INDEX", help="Index to recommend from, `items@stable` for one; none by default."),
    ] = None,
    catalogue: Annotated[
        str | None,
        typer.Option(
            metavar="CATALOGUE",
            help="Catalogue that items are filtered and displayed by, `shop@stable` for one; none by default.",
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            metavar="ENCODER",
            help="What embeds images: a shipped encoder, `encoder@LABEL`, a directory or a name on the hub.",
        ),
    ] = None,
    classification: Annotated[
        bool | None, typer.Option("--classification/--no-classification", help="Whether images are classified.")
    ] = None,
    composed: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Model of composed retrieval: `adafocal@LABEL`, a directory or a BLIP-2 on the hub; none by default.",
        ),
    ] = None,
    admin_port: Annotated[
        int | None,
        typer.Option(help="Port of the admin services, for this machine alone; 0 takes a free one, none by default."),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(help="Port that Prometheus reads, for this machine alone; 0 takes a free one, none by default."),
    ] = None,
    otel_endpoint: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Collector to send traces to, as http://localhost:4318; none by default."),
    ] = None,
    log_format: Annotated[
        str | None,
        typer.Option(metavar="text|json", help="How the log is written; JSON where no terminal shows it."),
    ] = None,
    log_level: Annotated[
        str | None,
        typer.Option(
            metavar="LEVEL", help="debug, info (a line for every call), warning or error; warning if left out."
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(metavar="PEM", help="Certificate to show; calls are then encrypted.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="PEM", help="Its private key.")] = None,
    tls_client_ca: Annotated[
        Path | None,
        typer.Option(metavar="PEM", help="Roots of certificates that callers must show; none if left out."),
    ] = None,
    tokens: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File of `recollect token` with what calls must carry; none if left out."),
    ] = None,
    insecure: Annotated[
        bool | None,
        typer.Option("--insecure", help="Listen for other machines without TLS and tokens.", show_default=False),
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option("--ray-address", metavar="ADDRESS", help="Ray cluster to run on, as HOST:6379.")
    ] = None,
) -> None:
    """Serve a model, classify images and search galleries over gRPC until Ctrl-C or SIGTERM; calls in flight are
    answered first.

    Without `--redis` and `--ray-address`, a private Redis (in `var/redis`) and a private Ray node are started for the
    time of the command. Each option is also a setting: `RECOLLECT_PORT=0`, or `port = 0` in the file that
    `RECOLLECT_CONFIG` names.

    Examples:

    `recollect serve`

    `recollect serve --model dare@canary --redis redis://cache:6379/0 --replicas 4`

    `recollect serve --canary dare@canary --canary-share 0.05 --shadow-share 0.1`

    `recollect serve --encoder openai/clip-vit-base-patch32`

    `recollect serve --composed adafocal@stable`

    `recollect serve --no-recommender --composed world`

    `recollect serve --index items@stable --catalogue shop@stable`

    `recollect serve --events var/data/shop`

    `recollect serve --index items@stable --admin-port 50052`

    `recollect serve --metrics-port 9464 --log-format json --log-level info`

    `recollect serve --host 0.0.0.0 --tls-cert server.pem --tls-key server.key --tokens tokens.json`
    """
    from recollect import serve_app, serve_config
    from recollect.embedded.ray import ray_cluster
    from recollect.embedded.redis import history_redis
    from recollect.settings import Settings
    from recollect.telemetry.log_relay import LogRelay
    from recollect.telemetry.logs import write_logs

    settings = Settings.load(
        redis_url=redis,
        events=events,
        host=host,
        port=port,
        replicas=replicas,
        ray_address=ray_address,
        recommender=recommender,
        canary=canary,
        canary_share=canary_share,
        canary_shadow_share=shadow_share,
        encoder=encoder,
        classification=classification,
        composed_model=composed,
        index=index,
        admin_port=admin_port,
        catalogue=catalogue,
        metrics_port=metrics_port,
        otel_endpoint=otel_endpoint,
        log_format=log_format,
        log_level=log_level,
        tls_cert=tls_cert,
        tls_key=tls_key,
        tls_client_ca=tls_client_ca,
        tokens=tokens,
        insecure=insecure,
    )
    served = model if settings.recommender else None
    serve_app.check(settings, served)
    write_logs(serve_config.log_config(settings))
    stop = _StopSignals()
    try:
        with (
            LogRelay() as relay,
            err.status("starting Redis") as status,
            history_redis(settings, own=True) as redis_url,
        ):
            status.update("starting Ray")
            with ray_cluster(settings, show_logs=True, serving=True):
                # Ray has put a handler of its own in place.
                stop.listen()
                status.update(f"starting {settings.replicas} gateways with {served or 'no recommender'}")
                with (
                    serve_app.run(settings, served, redis_url=redis_url, log_relay=relay.path) as gateway,
                    _administered(settings, served, gateway) as admin,
                ):
                    status.stop()
                    _show_ready(gateway, admin, settings)
                    stop.wait()
                    status.update("answering the calls in flight")
                    status.start()
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    err.print("stopped")


@contextmanager
def _administered(
    settings: "Settings", model: str | None, gateway: "RunningGateway"
) -> "Iterator[RunningAdmin | None]":
    """The admin server of the gateways, where one is wanted; what it changes is written to stderr."""
    if settings.admin_port is None:
        yield None
        return
    from recollect.admin.models import FollowedModel
    from recollect.admin.server import AdminConfig, RunningAdmin

    followed = FollowedModel.of(model, gateway.swap)
    with RunningAdmin(AdminConfig(settings=settings, port=settings.admin_port, followed=followed)) as admin:
        yield admin


class _StopSignals:
    """Turns Ctrl-C and SIGTERM into an orderly end; further ones change nothing."""

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._waiting = False

    def listen(self) -> None:
        """Handle both signals from now on."""
        signal.signal(signal.SIGINT, self._handle)
        signal.signal(signal.SIGTERM, self._handle)

    def wait(self) -> None:
        """Return when a signal has come."""
        self._waiting = True
        self._stopped.wait()

    def _handle(self, _number: int, _frame: object) -> None:
        first = not self._stopped.is_set()
        self._stopped.set()
        # While still starting there is nothing to drain: leave through the `with` blocks at once.
        if first and not self._waiting:
            raise KeyboardInterrupt


def _open_to(settings: "Settings") -> str:
    """Who may call, in words."""
    if settings.tls is None:
        wire = "unencrypted"
    else:
        from recollect.security.certificates import read_identity

        wire = f"TLS, certificate until {read_identity(settings.tls).until:%Y-%m-%d %H:%M} UTC"
    callers = "whoever reaches it" if settings.tokens is None else f"tokens of {settings.tokens}"
    shown = "" if settings.tls_client_ca is None else f" with a certificate of {settings.tls_client_ca}"
    return f"{callers}{shown} ({wire})"


def _trial(settings: "Settings") -> str:
    answered, compared = f"{settings.canary_share:.0%}", f"{settings.canary_shadow_share:.0%}"
    return f"canary        {settings.canary} for {answered} of the users, compared for {compared} of the others"


def _first_call(settings: "Settings", address: str) -> list[str]:
    if settings.recommender:
        return [f"try           recollect score USER --items 1,2,3 --target {address}"]
    return [f"try           recollect composed galleries --target {address}"] if settings.composed_model else []


def _show_ready(gateway: "RunningGateway", admin: "RunningAdmin | None", settings: "Settings") -> None:
    from rich.panel import Panel
    from rich.text import Text

    from recollect.artifacts.remote import Remote
    from recollect.gateway.server import services_of

    count = "1 replica" if settings.replicas == 1 else f"{settings.replicas} replicas"
    services = services_of(
        recommender=settings.recommender,
        classification=settings.classification,
        composed=settings.composed_model is not None,
    )
    encoder = settings.encoder if settings.classification else "none: --no-classification"
    histories = "Redis as configured" if settings.redis_url else f"private Redis in {settings.var / 'redis'}"
    lines = [
        f"model         {gateway.model or 'none: --no-recommender'}",
        *([_trial(settings)] if settings.canary else []),
        f"index         {settings.index or 'none: no --index INDEX, so nothing is recommended'}",
        f"catalogue     {settings.catalogue or 'none: no --catalogue CATALOGUE, so nothing is filtered by it'}",
        f"encoder       {encoder}",
        f"composed      {settings.composed_model or 'none: no --composed MODEL'}",
        f"services      {', '.join(services)}",
        f"admin         {'none: no --admin-port' if admin is None else admin.address}",
        f"metrics       {gateway.metrics_url or 'none: no --metrics-port'}",
        *([f"traces        to {settings.otel_endpoint}"] if settings.otel_endpoint else []),
        f"open to       {_open_to(settings)}",
        f"histories     {histories}" + (f", completed from {settings.events}" if settings.events else ""),
        *([f"artifacts     shared at {Remote(settings.artifacts).shown}"] if settings.artifacts else []),
        "",
        *_first_call(settings, gateway.address),
        "stop          Ctrl-C",
    ]
    listening = ("listening on  ", (gateway.address, "bold"), f"  (gRPC, {count})\n")
    out.print(Panel(Text.assemble(*listening, "\n".join(lines)), title="recollect is ready", expand=False))
