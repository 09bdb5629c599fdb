"""`recollect data`: import an event log, generate one, and look at what a store holds."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recollect.cli.console import explains_errors, out, progress, show_json, show_table
from recollect.cli.data_upload import upload
from recollect.cli.pictures import pictures
from recollect.settings import Settings

if TYPE_CHECKING:
    from recsys.data.event_store import EventStore
    from recsys.data.ingest import ImportReport

data_app = typer.Typer(
    help="Import event logs, generate a shop, and see what an event store holds.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


class Format(StrEnum):
    """Formats of `recsys.data.sources.SOURCES`, spelled here so that help needs no heavy import."""

    TAOBAO = "taobao"
    TMALL = "tmall"
    ONLINE_RETAIL = "online-retail"
    COLUMNS = "columns"


class Preset(StrEnum):
    """Shops that can be generated."""

    DEMO = "demo"
    TAOBAO_SCALE = "taobao-scale"
    RECURRING = "recurring"


class Output(StrEnum):
    """What a generated shop is written as."""

    STORE = "store"
    TAOBAO_CSV = "taobao-csv"


@data_app.command("import")
@explains_errors
def import_log(
    file: Annotated[Path, typer.Argument(help="The event log.", show_default=False)],
    format: Annotated[Format, typer.Option("--format", "-f", help="What the file is; see `recollect data sources`.")],
    to: Annotated[
        Path | None, typer.Option(help="Event store to write; VAR/data/NAME of the file unless told.")
    ] = None,
    event_types: Annotated[
        str | None, typer.Option(help="Keep only these, by comma: click, cart, favorite, purchase.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the store that is there.")] = False,
    year: Annotated[int | None, typer.Option(help="tmall: year of the dates; 2015 unless told.")] = None,
    user: Annotated[str | None, typer.Option(help="columns: column of the user.")] = None,
    item: Annotated[str | None, typer.Option(help="columns: column of the item.")] = None,
    category: Annotated[str | None, typer.Option(help="columns: column of the category.")] = None,
    time: Annotated[str | None, typer.Option(help="columns: column of the time.")] = None,
    time_unit: Annotated[
        str | None, typer.Option(help="columns: s, ms, us, ns, iso or auto; unless told, judged by the file.")
    ] = None,
    time_format: Annotated[str | None, typer.Option(help="columns: strftime pattern, as '%d/%m/%Y %H:%M'.")] = None,
    type: Annotated[str | None, typer.Option(help="columns: column of the event type.")] = None,
    type_values: Annotated[
        str | None, typer.Option(help="columns: what its values mean, as 'seen=click,bought=purchase'.")
    ] = None,
    default_type: Annotated[str | None, typer.Option(help="columns: type of all events, without a column.")] = None,
    delimiter: Annotated[
        str | None, typer.Option(help="columns: between fields of a CSV; judged by the header.")
    ] = None,
    no_quote: Annotated[bool, typer.Option("--no-quote", help="columns: double quotes in a CSV mean nothing.")] = False,
    ids: Annotated[str | None, typer.Option(help="columns: integer, text or auto: what items are called by.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the report as one line of JSON.")] = False,
) -> None:
    """Turn an event log into an event store that models train on.

    Rows that cannot be used are left out and counted by reason, with the numbers of a few of them.

    Example: `recollect data import UserBehavior.csv --format taobao --event-types click`

    Example: `recollect data import log.csv --format columns --user uid --item sku --time ts`
    """
    from recsys.data.ingest import ingest
    from recsys.data.sources import event_type_of

    given: dict[str, Any] = {
        "year": year,
        "user": user,
        "item": item,
        "category": category,
        "time": time,
        "time_unit": time_unit,
        "time_format": time_format,
        "type": type,
        "type_values": None if type_values is None else _pairs(type_values),
        "default_type": default_type,
        "delimiter": {"\\t": "\t"}.get(delimiter or "", delimiter),
        "quote": False if no_quote else None,
        "ids": ids,
    }
    options = {name: value for name, value in given.items() if value is not None}
    destination = to or Settings.load().var / "data" / file.stem
    kept = None if event_types is None else [event_type_of(name) for name in event_types.split(",")]
    with _staged_progress() as shown:
        report = ingest(
            format.value, file, destination, event_types=kept, overwrite=overwrite, progress=shown, **options
        )
    _show_report(report, destination, as_json=json)


@data_app.command("generate")
@explains_errors
def generate(
    preset: Annotated[Preset, typer.Option(help="The shop to start from.")] = Preset.DEMO,
    to: Annotated[Path | None, typer.Option(help="Where to write; VAR/data/PRESET unless told.")] = None,
    output: Annotated[Output, typer.Option("--as", help="An event store, or a log in Taobao's format.")] = Output.STORE,
    users: Annotated[int | None, typer.Option(help="Number of users.")] = None,
    items: Annotated[int | None, typer.Option(help="Number of items.")] = None,
    categories: Annotated[int | None, typer.Option(help="Number of categories.")] = None,
    events: Annotated[float | None, typer.Option(help="Mean events a user.")] = None,
    days: Annotated[int | None, typer.Option(help="Length of the log, days.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds give equal shops.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the report as one line of JSON.")] = False,
) -> None:
    """Generate a shop whose customers return to old interests.

    `recurring` is one whose best possible score is known: `recollect experiment` tells it beside the models'.

    Example: `recollect data generate --to var/data/demo`

    Example: `recollect data generate --preset taobao-scale --users 10000 --as taobao-csv --to UserBehavior.csv`
    """
    from recsys.data.shop import RecurringConfig, build_shop, demo_shop, taobao_scale, write_taobao_csv
    from recsys.errors import DataError

    presets: dict[Preset, Callable[[int], Any]] = {
        Preset.DEMO: demo_shop,
        Preset.TAOBAO_SCALE: taobao_scale,
        Preset.RECURRING: lambda seed: RecurringConfig(seed=seed),
    }
    config = presets[preset](seed)
    changes: dict[str, Any] = {
        "users": users,
        "items": items,
        "categories": categories,
        "mean_events": events,
        "days": days,
    }
    config = replace(config, **{name: value for name, value in changes.items() if value is not None})
    suffix = ".csv" if output is Output.TAOBAO_CSV else ""
    destination = to or Settings.load().var / "data" / f"{preset.value}{suffix}"
    if output is Output.STORE:
        with _staged_progress() as shown:
            report = build_shop(config, destination, overwrite=overwrite, progress=shown)
        _show_report(report, destination, as_json=json)
        return
    if destination.is_dir() or (destination.exists() and not overwrite):
        raise DataError(f"{destination} exists; replace a file with --overwrite, or choose another --to")
    with _staged_progress() as shown:
        lines = write_taobao_csv(config, destination, progress=shown)
    if json:
        show_json([{"file": str(destination), "events": lines}])
    else:
        out.print(f"{lines:,} events in {destination}", highlight=False)


data_app.command("pictures")(pictures)
data_app.command("upload")(upload)


@data_app.command("describe")
@explains_errors
def describe(
    store: Annotated[Path, typer.Argument(help="An event store directory.", show_default=False)],
    json: Annotated[bool, typer.Option("--json", help="Print everything as one line of JSON.")] = False,
) -> None:
    """Show what an event store holds: counts, time range, history lengths, top categories, and its import report.

    Example: `recollect data describe var/data/demo`
    """
    from recsys.data.event_store import EventStore

    opened = EventStore(store)
    manifest, lengths, top = opened.manifest, _history_lengths(opened), _top_categories(opened, 10)
    if json:
        row = asdict(manifest) | {"history_length": lengths, "top_categories": top}
        show_json([row])
        return
    rows: list[tuple[str, object]] = [
        ("events", f"{manifest.n_events:,}"),
        ("users", f"{manifest.n_users:,}"),
        ("items", f"{manifest.n_items:,}"),
        ("categories", f"{manifest.n_categories:,}"),
        ("from", _day(manifest.first_time_ms) if manifest.n_events else "–"),
        ("to", _day(manifest.last_time_ms) if manifest.n_events else "–"),
        ("made from", manifest.source.get("path") or manifest.source.get("format", "unknown")),
    ]
    show_table(str(store), ["what", "value"], rows)
    if lengths:
        show_table("Events a user", list(lengths), [[f"{value:,}" for value in lengths.values()]], right=list(lengths))
    if top:
        cells = [[entry["category"], f"{entry['events']:,}", f"{entry['share']:.1%}"] for entry in top]
        show_table("Top categories", ["category", "events", "share"], cells, right=["events", "share"])
    _show_rejections(manifest.report)


@data_app.command("sources")
@explains_errors
def sources(
    json: Annotated[bool, typer.Option("--json", help="Print one line of JSON a format.")] = False,
) -> None:
    """List the formats that can be imported, with the columns that are read.

    Example: `recollect data sources`
    """
    from recsys.data.sources import SOURCES

    if json:
        show_json(
            [
                {"format": s.name, "summary": s.summary, "columns": dict(s.columns), "example": s.example}
                for s in SOURCES.values()
            ]
        )
        return
    for source in SOURCES.values():
        show_table(f"{source.name}: {source.summary}", ["column", "meaning"], source.columns)
        out.print(f"  {source.example}\n", highlight=False, soft_wrap=True)


def _pairs(text: str) -> dict[str, str]:
    from recsys.errors import ConfigError

    pairs = [part.split("=") for part in text.split(",")]
    if any(len(pair) != 2 for pair in pairs):
        raise ConfigError(f"--type-values must look like 'seen=click,bought=purchase', got {text!r}")
    return {value.strip(): name.strip() for value, name in pairs}


@contextmanager
def _staged_progress() -> Iterator[Callable[[str, int, int | None], None]]:
    """A progress callback that shows one bar a stage."""
    with progress() as bar:
        tasks: dict[str, Any] = {}

        def shown(stage: str, done: int, total: int | None) -> None:
            for earlier, task in tasks.items():
                if earlier != stage and not bar.tasks[task].finished:
                    bar.update(task, total=bar.tasks[task].completed)
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done, total=total)

        yield shown


def _show_report(report: "ImportReport", destination: Path, *, as_json: bool) -> None:
    fields = asdict(report)
    if as_json:
        show_json([{"store": str(destination), **fields}])
        return
    rows = [
        ("rows read", f"{report.rows_read:,}"),
        ("events kept", f"{report.rows_kept:,}"),
        ("other event types", f"{report.rows_filtered:,}"),
        ("rows rejected", f"{report.rows_rejected:,}"),
        ("users", f"{report.n_users:,}"),
        ("items", f"{report.n_items:,}"),
        ("categories", f"{report.n_categories:,}"),
        ("items seen in several categories", f"{report.items_with_several_categories:,}"),
        ("items without a category", f"{report.items_without_category:,}"),
        ("first event", _day(report.first_time_ms) if report.rows_kept else "–"),
        ("last event", _day(report.last_time_ms) if report.rows_kept else "–"),
    ]
    show_table(str(destination), ["what", "value"], rows, right=["value"])
    _show_rejections(fields)


def _show_rejections(report: dict[str, Any]) -> None:
    rejections = report.get("rejections") or []
    if rejections:
        rows = [[r["reason"], f"{r['rows']:,}", ", ".join(map(str, r["examples"]))] for r in rejections]
        show_table("Rejected rows", ["reason", "rows", "for example"], rows, right=["rows"])


def _history_lengths(store: "EventStore") -> dict[str, int]:
    import numpy as np

    if store.n_users == 0:
        return {}
    quantiles = {"min": 0.0, "p10": 0.1, "p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    lengths = np.diff(store.offsets)
    return {name: int(np.quantile(lengths, q, method="nearest")) for name, q in quantiles.items()}


def _top_categories(store: "EventStore", count: int) -> list[dict[str, Any]]:
    """The categories with most events; counted in slices, so that the store need not fit in memory."""
    import numpy as np

    catalogue, step = store.catalogue, 4_000_000
    events = np.zeros(catalogue.n_categories + 1, dtype=np.int64)
    for begin in range(0, len(store), step):
        rows = catalogue.category_rows[store.items[begin : begin + step]]
        events += np.bincount(rows, minlength=len(events))
    top = [int(row) for row in np.argsort(-events, kind="stable")[:count] if events[row]]

    def name(row: int) -> str:
        if row == 0:
            return "unknown"
        return str(catalogue.category_ids[row] if catalogue.category_keys is None else catalogue.category_keys[row])

    return [{"category": name(row), "events": int(events[row]), "share": events[row] / len(store)} for row in top]


def _day(time_ms: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(time_ms / 1000, tz=UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
