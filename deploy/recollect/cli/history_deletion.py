"""`recollect history delete` and `erase`: a user's right to be forgotten, from Redis, its file and the disk."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from recollect.cli.console import explains_errors, out, progress, show_json, show_table
from recollect.cli.history_store import JsonOption, RedisOption, history_url, open_histories

REWRITE_S = 3_600.0
"""How long Redis may take to rewrite its append-only file, in seconds."""


@explains_errors
def delete(
    user: Annotated[str, typer.Argument(help="User id, as the event log has it.")],
    events: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Event store that histories are completed from: noted there, too."),
    ] = None,
    redis: RedisOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete a user's history from Redis and, by a rewrite that is waited for, from its append-only file.

    A mark stays, so that neither late events nor the event store bring anything older back. What the event store still
    has on the disk is not read any more; `recollect history erase` takes it out.

    Example: `recollect history delete u42 --events var/data/shop`
    """
    import asyncio

    from recollect.settings import Settings
    from recsys.history import Deletion, EventSource

    settings = Settings.load(events=events)
    source = None if settings.events is None else EventSource(settings.events)

    async def run(url: str) -> tuple[Deletion, bool | None]:
        async with open_histories(url, source=source) as store:
            deletion = await store.delete(user)
            await store.erase_log([user], timeout_s=REWRITE_S)
            return deletion, await store.source_holds_deleted(user)

    with history_url(redis) as url:
        deletion, held = asyncio.run(run(url))
    states = {None: "not used", True: "pending", False: "erased"}
    if as_json:
        row = {"user_id": user, "behaviours": deletion.behaviours, "until_ms": deletion.time_ms}
        show_json([{**row, "redis_log": "erased", "event_store": states[held]}])
        return
    out.print(f"{user}: {deletion.behaviours} behaviours deleted from Redis and its file", highlight=False)
    if held and settings.events is not None:
        message = f"still on the disk, and not read: recollect history erase {settings.events}"
        out.print(message, highlight=False)


@explains_errors
def erase(
    store_dir: Annotated[Path, typer.Argument(help="Event store directory.")],
    redis: RedisOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take deleted users out of an event store, and out of the sampled serving log in var/serving-log.

    The store is written anew without them and swapped in whole; training and serving may go on. Deleted are those whom
    Redis has marked or who are noted beside the store, in STORE.deletions.jsonl, where those of Redis are added; what
    they did after their deletion stays. Run it as often as the law asks, and after each import of an old log.

    Example: `recollect history erase var/data/shop`
    """
    import asyncio

    from recollect.settings import Settings
    from recsys.data.deletions import Deletions
    from recsys.data.erasure import erase_users
    from recsys.history.serving_log import erase_served

    async def marked(url: str) -> dict[str, int]:
        async with open_histories(url) as store:
            return await store.deletions()

    deletions = Deletions(store_dir)
    with history_url(redis) as url:
        for user, time_ms in asyncio.run(marked(url)).items():
            if time_ms > (deletions.time_of(user) or -1):
                deletions.add(user, time_ms)
    until_ms = deletions.times_ms
    with progress() as bar:
        task = bar.add_task("events", total=None)
        erasure = erase_users(
            store_dir,
            until_ms,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    served = erase_served(Settings().serving_log, until_ms)
    if as_json:
        show_json([{**asdict(erasure), "serving_log_rows": served}])
        return
    rows = [("users", erasure.users), ("events", erasure.events), ("rows of the serving log", served)]
    show_table(f"Erased from {store_dir}", ("what", "count"), rows, right=("count",))
