"""`recollect history`: fill, read and extend the user histories in Redis."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from recollect.cli.console import err, explains_errors, out, progress, show_json, show_table
from recollect.cli.history_deletion import delete, erase
from recollect.cli.history_export import export
from recollect.cli.history_store import JsonOption, RedisOption, history_url, open_histories

history_app = typer.Typer(
    name="history",
    help="Fill, read, extend, delete and export the user histories in Redis. Without --redis or RECOLLECT_REDIS_URL, "
    "they are kept in a private server in var/redis, which is started for the time of the command.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
history_app.command()(delete)
history_app.command()(erase)
history_app.command()(export)


@history_app.command()
@explains_errors
def load(
    store_dir: Annotated[Path, typer.Argument(help="Event store directory, as `recollect data import` writes it.")],
    redis: RedisOption = None,
    user: Annotated[list[str] | None, typer.Option(help="Only this user; may be repeated.")] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Begin anew where a load was interrupted.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Bring the latest events of every user of an event store into Redis.

    Events that are there already are left alone, and so are newer ones that came in live: loading twice changes
    nothing. A load that was interrupted goes on where it stopped.

    Example: `recollect history load var/events/shop`
    """
    import asyncio

    from recsys.data.event_store import EventStore
    from recsys.history import LoadResult

    events = EventStore(store_dir)

    async def run(url: str) -> LoadResult:
        with progress() as bar:
            task = bar.add_task("users", total=None)
            async with open_histories(url) as store:
                return await store.load(
                    events,
                    users=user or None,
                    progress=lambda done, total: bar.update(task, completed=done, total=total),
                    resume=not restart,
                )

    with history_url(redis) as url:
        result = asyncio.run(run(url))
    if as_json:
        show_json([asdict(result)])
        return
    rows = [
        ("users", result.users),
        ("users done before", result.resumed_at),
        ("events new", result.accepted),
        ("events there already", result.duplicates),
        ("older than a full history", result.expired),
        ("of deleted users", result.deleted),
        ("of unknown items", result.unknown),
        ("rejected", result.rejected),
    ]
    show_table(f"Loaded {store_dir}", ("what", "count"), rows, right=("count",))
    if result.first_rejection:
        err.print(f"first rejected: {result.first_rejection}", highlight=False)


@history_app.command()
@explains_errors
def show(
    user: Annotated[str, typer.Argument(help="User id, as the event log has it.")],
    limit: Annotated[int, typer.Option(min=1, help="Show at most this many of the latest events.")] = 20,
    redis: RedisOption = None,
    store: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Event store whose catalogue names items and categories.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print a user's latest behaviours, the latest last.

    Example: `recollect history show u42 --limit 5 --store var/events/shop`
    """
    import asyncio

    from recsys.data.catalogue import Catalogue
    from recsys.data.event_store import EventType
    from recsys.history import History

    catalogue = Catalogue.load(store) if store is not None else None

    async def run(url: str) -> History:
        async with open_histories(url) as histories:
            return await histories.read(user, limit=limit)

    with history_url(redis) as url:
        history = asyncio.run(run(url))
    rows: list[dict[str, Any]] = []
    for item_id, time_ms, kind in zip(
        history.item_ids.tolist(), history.times_ms.tolist(), history.types.tolist(), strict=True
    ):
        row: dict[str, Any] = {
            "user_id": user,
            "time": _moment(time_ms),
            "time_ms": time_ms,
            "type": EventType(kind).name.lower() if kind in set(EventType) else str(kind),
            "item_id": item_id,
        }
        if catalogue is not None:
            row |= {"item": catalogue.name_of(item_id), "category": catalogue.category_name_of(item_id)}
        rows.append(row)
    if as_json:
        show_json(rows)
        return
    if not rows:
        out.print(f"{user} has no history", highlight=False)
        return
    names = ["time", "type", "item_id", *(("item", "category") if catalogue is not None else ())]
    title = f"{user}: the latest {len(rows)} of {history.length} events, version {history.version}"
    show_table(title, names, [[row[name] for name in names] for row in rows], right=("item_id",))


@history_app.command()
@explains_errors
def append(
    user: Annotated[str, typer.Argument(help="User id, as the event log has it.")],
    item: Annotated[int, typer.Option(help="Item id.")],
    time: Annotated[
        str | None, typer.Option(help="When: 2026-01-31T12:00:00 (UTC unless it says otherwise), or milliseconds.")
    ] = None,
    kind: Annotated[str, typer.Option("--type", help="click, cart, favorite or purchase.")] = "click",
    event_id: Annotated[str, typer.Option(help="The producer's id; tells equal events of one moment apart.")] = "",
    redis: RedisOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add one behaviour to a user's history; repeating it with the same --time changes nothing.

    Example: `recollect history append u42 --item 7 --type purchase --time 2026-01-31T12:00:00`
    """
    import asyncio

    from recsys.data.event_store import EventType
    from recsys.history import AppendResult, EventBatch, now_ms

    if kind.upper() not in EventType.__members__:
        known = ", ".join(name.lower() for name in EventType.__members__)
        raise typer.BadParameter(f"got {kind!r}, expected one of {known}", param_hint="--type")
    time_ms = now_ms() if time is None else _milliseconds(time)
    batch = EventBatch.of([item], [time_ms], [EventType[kind.upper()]], [event_id])

    async def run(url: str) -> AppendResult:
        async with open_histories(url) as store:
            return await store.append(user, batch)

    with history_url(redis) as url:
        result = asyncio.run(run(url))
    if as_json:
        show_json([{"user_id": user, "time_ms": time_ms, **asdict(result)}])
    elif result.rejected:
        err.print(f"rejected: {result.rejected[0][1]}", highlight=False)
    else:
        done = "added" if result.accepted else "was there already"
        message = f"{user}: item {item} at {_moment(time_ms)} {done}; {result.length} events, version {result.version}"
        out.print(message, highlight=False)
    if result.rejected:
        raise typer.Exit(1)


def _moment(time_ms: int) -> str:
    """`time_ms` as ISO 8601 in UTC; the number where no calendar reaches."""
    from datetime import UTC, datetime

    try:
        return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(sep=" ", timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return str(time_ms)


def _milliseconds(text: str) -> int:
    """Milliseconds since the Unix epoch of ISO 8601, in UTC unless it names a zone, or of the number itself."""
    from datetime import UTC, datetime, timedelta

    if text.lstrip("-").isdigit():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"got {text!r}, expected a time as 2026-01-31T12:00:00 or milliseconds since 1970", param_hint="--time"
        ) from None
    zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (zoned - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
