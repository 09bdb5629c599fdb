"""`recollect bench serve`: the service under load, from one call at a time to far more than it can take."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recollect.cli.connecting import connects, made
from recollect.cli.console import err, explains_errors, out, show_json, show_table

if TYPE_CHECKING:
    from recollect.gateway.benchmarks.load import LoadResult
    from recollect.gateway.benchmarks.open_loop import Offered


@explains_errors
@connects
def serve(
    history: Annotated[int, typer.Option(min=1, max=50_000, help="Behaviours of each user.")] = 10_000,
    candidates: Annotated[int, typer.Option(min=1, max=1_000, help="Candidates of each call.")] = 100,
    items: Annotated[int, typer.Option(min=1_000, help="Items of the model, whose weights are random.")] = 100_000,
    users: Annotated[int, typer.Option(min=1, help="Users, in turn.")] = 50,
    replicas: Annotated[int, typer.Option(min=1, help="Gateway replicas.")] = 2,
    connections: Annotated[int, typer.Option(min=1, help="Connections of the generator.")] = 64,
    seconds: Annotated[float, typer.Option(min=1, help="Length of each step of the ramp.")] = 6.0,
    overload: Annotated[
        float, typer.Option(min=0, help="What is offered in the end, by the saturation; 0 leaves that out.")
    ] = 3.0,
    overload_seconds: Annotated[float, typer.Option(min=1, help="For how long.")] = 60.0,
    proxy: Annotated[bool, typer.Option("--proxy", help="Measure Ray Serve's own gRPC proxy beside.")] = False,
    target: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="A service that runs, to be loaded instead; with --requests.")
    ] = None,
    requests: Annotated[
        Path | None,
        typer.Option(metavar="PARQUET", help="What to ask it: a row a call, as `recollect score --input` takes it."),
    ] = None,
    rate: Annotated[float, typer.Option(min=0.1, help="Calls a second of its first step.")] = 20.0,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write report.md, its plots and rows.parquet there.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines instead of a table.")] = False,
) -> None:
    """Start a service with a model of random weights, and load it: calls come when they come (a Poisson process),
    whether or not those before are answered, and are timed from when they should have been sent.

    First one call after the other, in turns with the model call alone; then more and more until the service takes no
    more; then 0.3 of that, whose latencies are the ones to go by; then a multiple of it, by callers who send every call
    and by such as heed refusals, as our clients do. What is answered then is told by what is answered near the
    saturation right before and after. The generator takes processors of the same machine. A service that
    runs elsewhere is loaded with --target and --requests: warn whoever owns it.

    Examples:

    `recollect bench serve`

    `recollect bench serve --history 1000 --candidates 500 --replicas 1 --overload 0 --json`

    `recollect bench serve --proxy --report reports/serve`

    `recollect bench serve --target recommender.internal:50051 --requests calls.parquet --rate 100 --overload 0`
    """
    from recollect.gateway.benchmarks.load import LoadConfig, measure_own, measure_target
    from recollect.gateway.benchmarks.requests import read_requests
    from recollect.gateway.benchmarks.service import ServiceSizes
    from recollect_api.channel import ChannelConfig
    from recollect_kernels.benchmarks.machine import describe

    config = LoadConfig(
        sizes=ServiceSizes(history=history, candidates=candidates, items=items, users=users, replicas=replicas),
        connections=connections,
        step_seconds=seconds,
        overload_factor=overload,
        overload_seconds=overload_seconds,
        proxy=proxy,
    )
    origin = {"date": f"{datetime.now(UTC):%Y-%m-%d}", **describe("cpu")}
    if (target is None) != (requests is None):
        raise typer.BadParameter("--target and --requests belong together; give both", param_hint="--requests")
    with err.status("starting") as status:
        if target is None or requests is None:
            result = measure_own(config, on_stage=status.update, on_step=_tell)
        else:
            result = measure_target(
                made(ChannelConfig, target),
                read_requests(requests),
                config,
                first_rate=rate,
                on_stage=status.update,
                on_step=_tell,
            )
    if report is not None:
        from recollect.gateway.benchmarks.load_report import write_report

        write_report(report, result, origin)
        err.print(f"report  {report / 'report.md'}", highlight=False, soft_wrap=True)
    if as_json:
        show_json([row | origin for row in result.rows()])
    else:
        _show(result, origin)


def _tell(kind: str, step: "Offered") -> None:
    """One line a step, while it goes on."""
    refused = ", ".join(f"{count:,} {code}" for code, count in step.refused().most_common()) or "none refused"
    err.print(
        f"{kind:<16} {step.rate:8,.0f} calls/s offered, {step.goodput:8,.0f} answered, "
        f"p50 {step.taken_ms(50):7.1f} ms, p99 {step.taken_ms(99):7.1f} ms, {refused}",
        highlight=False,
        soft_wrap=True,
    )


def _show(result: "LoadResult", origin: dict[str, Any]) -> None:
    facts = [origin["date"], origin["machine"], f"{origin['cores']} cores", f"load {origin['load']} before"]
    out.print(", ".join(facts), highlight=False)
    columns = ["offered/s", "answered/s", "p50 ms", "p99 ms", "errors", "late p99 ms"]
    keys = ("offered_rps", "goodput_rps", "p50_ms", "p99_ms", "errors", "late_p99_ms")
    rows = result.rows()
    table = [(row["kind"], *("" if row[key] is None else f"{row[key]:,}" for key in keys)) for row in rows]
    show_table(f"takes {result.saturation:,.0f} calls a second", ["", *columns], table, right=columns)
    if result.overhead is not None:
        quiet = result.overhead
        out.print(
            f"one call after the other: {quiet.call_ms:.2f} ms, of which {quiet.beyond_ms:.2f} beyond the model's "
            f"{quiet.model_ms:.2f}",
            highlight=False,
        )
    if result.through_proxy is not None:
        proxied = result.through_proxy
        out.print(
            f"through Ray Serve's proxy {proxied.proxied_ms:.2f} ms, beside {proxied.call_ms:.2f} in turns with it",
            highlight=False,
        )
    for over in result.overloaded:
        out.print(
            f"{over.callers}: {over.factor:g} times that, {over.goodput_share:.0%} answered of the {over.peak:,.0f} a "
            f"second before and after, the others refused within {over.refused_p99_ms:.1f} ms (p99), well again after "
            f"{over.recovery_s:.1f} s",
            highlight=False,
        )
