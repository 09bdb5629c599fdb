"""`recollect doctor`: say whether what Recollect stands on keeps what Recollect promises."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from recollect.cli.console import err, explains_errors, show_json, show_table
from recollect.cli.history_store import JsonOption, RedisOption, history_url, open_histories


@explains_errors
def doctor(
    redis: RedisOption = None,
    events: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Event store of which to look for deleted users, too.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether Redis answers, lets Recollect work, and would keep an acknowledged append; exit status 2 if not.

    Looks at version, persistence, eviction, memory limit, cluster mode, encryption and login, and tries an append that
    leaves nothing behind. Without --redis or RECOLLECT_REDIS_URL it looks at the private server.

    Example: `recollect doctor --redis redis://cache.internal:6379/0`
    """
    import asyncio

    from recollect.settings import Settings
    from recsys.history import EventSource, ServerReport

    settings = Settings.load(events=events)
    source = None if settings.events is None else EventSource(settings.events)

    async def run(url: str) -> ServerReport:
        async with open_histories(url) as store:
            await store.try_out()
            return await store.check()

    with history_url(redis) as url:
        report = asyncio.run(run(url))
    held = [] if source is None else [user for user in source.deletions.times_ms if source.holds_deleted(user)]
    warnings = list(report.warnings)
    if source is not None and held:
        warnings.append(
            f"{len(held)} deleted users still lie in {source.directory}; recollect history erase {source.directory}"
        )
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
            err.print(f"warning: {warning}", highlight=False, markup=False)
    if warnings:
        raise typer.Exit(2)
