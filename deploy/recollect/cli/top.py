"""`recollect top`: what a running service does now, in the terminal."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from recollect.cli.connecting import connection, connects
from recollect.cli.console import err, explains_errors, out, show_json
from recollect.cli.history_store import JsonOption

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from recollect.telemetry.figures import Figures
    from recollect.telemetry.reading import MetricsTarget

MetricsOption = Annotated[
    str | None,
    typer.Option(
        "--metrics", metavar="URL", help="Where the service tells its metrics, HOST:PORT or a URL; by the settings."
    ),
]


@explains_errors
@connects
def top(
    metrics: MetricsOption = None,
    interval: Annotated[float, typer.Option(min=0.2, help="Seconds between two readings.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print one interval and end.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what a service does now: calls, times, queues, what was missing from answers, which versions answer.

    Reads the port of `recollect serve --metrics-port`, twice an interval apart. Ctrl-C ends it. With --json, a line an
    interval.

    Examples:

    `recollect top --metrics localhost:9464`

    `recollect top --once --json`
    """
    from recollect.telemetry.figures import figures
    from recollect.telemetry.reading import MetricsUnread, read_snapshot

    target = metrics_target(metrics)
    before = read_snapshot(target)
    try:
        if once or as_json:
            while True:
                time.sleep(interval)
                now = read_snapshot(target)
                _print(figures(before, now), target.url, as_json=as_json)
                if once:
                    return
                before = now
        from rich.live import Live

        with Live(_waiting(target.url), console=out, screen=out.is_terminal, auto_refresh=False) as live:
            while True:
                time.sleep(interval)
                try:
                    now = read_snapshot(target)
                except MetricsUnread as error:
                    # It may be started again; what was counted before is then of no use.
                    live.update(_waiting(str(error)), refresh=True)
                    continue
                live.update(view(figures(before, now), target.url), refresh=True)
                before = now
    except KeyboardInterrupt:
        err.print("ended", highlight=False)


def metrics_target(given: str | None, *, timeout_s: float = 5.0) -> "MetricsTarget":
    """Where metrics are by the command's options, or else by the settings."""
    from recollect.gateway.address import client_address
    from recollect.settings import Settings
    from recollect.telemetry.reading import DEFAULT_PORT, MetricsTarget, url_of

    at, settings = connection(), Settings.load()
    where = given or client_address(settings.metrics_host, settings.metrics_port or DEFAULT_PORT)
    return MetricsTarget(
        url=url_of(where, tls=at["tls"]),
        root_certificates=at["root_certificates"],
        client_certificate=at["client_certificate"],
        client_key=at["client_key"],
        token=at["token"],
        timeout_s=timeout_s,
    )


def view(told: "Figures", url: str) -> "RenderableType":
    """All tables, one below the other."""
    from rich.console import Group
    from rich.text import Text

    head = Text.assemble(("recollect top", "bold"), f"  {url}  over {told.seconds:.1f} s")
    return Group(head, _calls(told), _stages(told), _state(told), _versions(told))


def _print(told: "Figures", url: str, *, as_json: bool) -> None:
    if as_json:
        show_json([asdict(told)])
    else:
        out.print(view(told, url))


def _waiting(what: str) -> "RenderableType":
    from rich.text import Text

    return Text(f"recollect top: {what}")


def _table(title: str, *columns: str) -> "Table":
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold")
    for at, column in enumerate(columns):
        table.add_column(column, justify="left" if at == 0 else "right", overflow="fold")
    return table


def _calls(told: "Figures") -> "Table":
    from rich.text import Text

    table = _table("Calls", "method", "calls/s", "failing", "in flight", "p50 ms", "p99 ms")
    for each in told.methods:
        failing = Text(f"{each.failing:.1%}", style="red") if each.failing > 0 else "0"
        table.add_row(
            each.method, f"{each.per_s:,.1f}", failing, str(each.in_flight), _shown(each.p50_ms), _shown(each.p99_ms)
        )
    return table


def _stages(told: "Figures") -> "Table":
    table = _table("Stages", "stage", "times/s", "mean ms", "p99 ms")
    for each in told.stages:
        table.add_row(each.stage, f"{each.per_s:,.1f}", _shown(each.mean_ms), _shown(each.p99_ms))
    return table


def _state(told: "Figures") -> "Table":
    table = _table("State", "what", "is")
    table.add_row("waiting", _pairs(told.queues, "{:.0f}"))
    table.add_row("computed together, mean", _pairs(told.batches, "{:.1f}"))
    table.add_row("refused a second", _pairs(told.refused_per_s, "{:.1f}"))
    table.add_row("degraded a second", _pairs(told.degraded_per_s, "{:.1f}"))
    table.add_row("calls that Redis failed, a second", f"{told.redis_errors_per_s:.1f}")
    histories = "none" if told.history_p50 is None else f"{told.history_p50:,.0f} and {told.history_p99:,.0f}"
    table.add_row("length of histories, p50 and p99", histories)
    for each in told.canaries:
        table.add_row(
            f"canary {each.version}, compared {each.compared_per_s:,.1f} times a second",
            f"scores apart by {each.score_change:.4f}, first ten shared {each.top_shared:.0%}",
        )
    return table


def _versions(told: "Figures") -> "Table":
    table = _table("Answering", "what", "is", "processes")
    for each in told.serving:
        table.add_row(each.kind, f"{each.name}/{each.version}", str(each.processes))
    for role in dict.fromkeys(each.role for each in told.processes):
        ages = [time.time() - each.started for each in told.processes if each.role == role]
        youngest = timedelta(seconds=int(min(ages)))
        table.add_row("process", f"{role}, the youngest for {youngest}", str(len(ages)))
    return table


def _pairs(values: Mapping[str, float], form: str) -> str:
    return ", ".join(f"{name} {form.format(value)}" for name, value in values.items()) or "none"


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"
