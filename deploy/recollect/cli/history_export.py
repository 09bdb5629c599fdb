"""`recollect history export`: what is served, as Parquet to train on."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from recollect.cli.console import explains_errors, out, progress, show_json
from recollect.cli.history_store import JsonOption, RedisOption, history_url, open_histories


@explains_errors
def export(
    to: Annotated[Path, typer.Argument(help="Directory to write histories.parquet and served.parquet into.")],
    store: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Event store whose catalogue gives each item its category.")
    ] = None,
    redis: RedisOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the histories of Redis to histories.parquet, and the sampled serving log to served.parquet.

    `histories.parquet` has one row an event: user_id, item_id, category_id (with --store), time, type. To train on it:
    `recollect data import TO/histories.parquet --format columns --user user_id --item item_id --category category_id
    --time time --type type`. `served.parquet` has one row a candidate that was scored, with the behaviours that serving
    retrieved for it; it is there where the service runs with RECOLLECT_SERVING_LOG_RATE above 0.

    Example: `recollect history export var/export --store var/data/shop`
    """
    import asyncio

    from recollect.settings import Settings
    from recsys.data.catalogue import Catalogue
    from recsys.history import ExportResult
    from recsys.history.serving_log import export_served

    catalogue = None if store is None else Catalogue.load(store)

    async def run(url: str) -> ExportResult:
        with progress() as bar:
            task = bar.add_task("users", total=None)
            async with open_histories(url) as histories:
                return await histories.export(
                    to / "histories.parquet",
                    catalogue=catalogue,
                    progress=lambda done: bar.update(task, completed=done),
                )

    with history_url(redis) as url:
        result = asyncio.run(run(url))
    served = export_served(Settings().serving_log, to / "served.parquet")
    if as_json:
        show_json([{**asdict(result), "served": served}])
        return
    message = f"{result.events:,} events of {result.users:,} users and {served:,} served candidates are in {to}"
    out.print(message, highlight=False)
