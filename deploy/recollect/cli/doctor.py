"""`recollect doctor`: say whether what Recollect stands on keeps what Recollect promises, and whether it answers."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recollect.cli.connecting import connects, made
from recollect.cli.console import err, explains_errors, show_json, show_table
from recollect.cli.history_store import JsonOption, RedisOption, history_url, open_histories
from recollect.cli.top import MetricsOption, metrics_target

if TYPE_CHECKING:
    from recollect.checkup import Check
    from recollect.settings import Settings
    from recsys.history import EventSource, ServerReport


@explains_errors
@connects
def doctor(
    redis: RedisOption = None,
    events: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Event store of which to look for deleted users, too.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Service to look at, and whether its parts answer.")
    ] = None,
    metrics: MetricsOption = None,
    ray_address: Annotated[
        str | None, typer.Option("--ray-address", metavar="ADDRESS", help="Ray cluster to look at, as HOST:6379.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether Redis answers, lets Recollect work, and would keep an acknowledged append; with --target also whether
    a service answers: its health, its certificate, its token, its history store, its metrics, its Ray. Exit status 2
    if there is anything to mend.

    Of Redis it looks at version, persistence, eviction, memory limit, cluster mode, encryption and login, and tries an
    append that leaves nothing behind. Without --redis or RECOLLECT_REDIS_URL it looks at the private server, unless
    something else is asked for.

    Examples:

    `recollect doctor --redis redis://cache.internal:6379/0`

    `recollect doctor --target recollect.internal:50051 --ca ca.pem --token-file reader.token`

    `recollect doctor --target localhost:50051 --metrics localhost:9464`
    """
    from recollect.settings import Settings

    settings = Settings.load(events=events, redis_url=redis, ray_address=ray_address)
    checks = list(_asked(settings, target, metrics, ray_address))
    if as_json:
        show_json([asdict(check) for check in checks])
    elif checks:
        rows = [(check.state, check.what, check.found, check.remedy) for check in checks]
        show_table("Service", ("state", "what", "found", "remedy"), rows)
    troubled = any(check.state != "ok" for check in checks)
    if not checks or settings.redis_url is not None:
        troubled = _look_at_redis(settings, as_json=as_json) or troubled
    if troubled:
        raise typer.Exit(2)


def _asked(settings: "Settings", target: str | None, metrics: str | None, ray_address: str | None) -> "Iterator[Check]":
    """What is to be looked at beside Redis."""
    from recollect.checkup import check_metrics, check_ray, check_service
    from recollect_api.channel import ChannelConfig

    if target is not None:
        yield from check_service(made(ChannelConfig, target))
    if metrics is not None or (target is not None and settings.metrics_port is not None):
        yield check_metrics(metrics_target(metrics))
    if ray_address is not None or (target is not None and settings.ray_address is not None):
        assert settings.ray_address is not None
        yield check_ray(settings.ray_address)


def _look_at_redis(settings: "Settings", *, as_json: bool) -> bool:
    """Show how Redis is; returns whether there is anything to mend."""
    import asyncio

    from recsys.history import EventSource

    source = None if settings.events is None else EventSource(settings.events)
    with history_url(settings.redis_url) as url:
        report = asyncio.run(_report(url))
    warnings = [*report.warnings, *_deleted_that_lie(source)]
    if as_json:
        show_json([{**asdict(report), "warnings": warnings}])
    else:
        limit = f" of {report.memory_limit_bytes / 1e6:.1f} MB" if report.memory_limit_bytes else ", no limit"
        rows = [
            ("address", report.address),
            ("server", report.server),
            ("mode", report.mode),
            ("persistence", report.persistence),
            ("when full", report.eviction),
            ("memory", f"{report.memory_bytes / 1e6:.1f} MB{limit}"),
            ("transport", report.transport),
            ("user", report.user),
        ]
        if source is not None:
            rows.append(("event store", f"{source.directory}: {len(source.store):,} events"))
        show_table("History store", ("what", "is"), rows)
        for warning in warnings:
            err.print(f"warning: {warning}", highlight=False)
    return bool(warnings)


async def _report(url: str) -> "ServerReport":
    async with open_histories(url) as store:
        await store.try_out()
        return await store.check()


def _deleted_that_lie(source: "EventSource | None") -> Iterator[str]:
    held = [] if source is None else [user for user in source.deletions.times_ms if source.holds_deleted(user)]
    if source is not None and held:
        yield f"{len(held)} deleted users still lie in {source.directory}; recollect history erase {source.directory}"
