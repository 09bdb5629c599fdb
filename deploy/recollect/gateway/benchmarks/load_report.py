"""Tell what was measured under load as a page: figures, the machine, and two plots."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recollect.gateway.benchmarks.load import LoadResult
from recollect.gateway.benchmarks.saturation import Overloaded

REPORT_FILE, ROWS_FILE, RAMP_PLOT, OVERLOAD_PLOT = "report.md", "rows.parquet", "ramp.png", "overload.png"


def write_report(directory: Path, result: LoadResult, origin: Mapping[str, Any]) -> None:
    """Write the page, its plots and its rows below `directory`, over what was there."""
    directory.mkdir(parents=True, exist_ok=True)
    rows = result.rows()
    pl.DataFrame([{**row, "codes": str(row["codes"]), **origin} for row in rows]).write_parquet(directory / ROWS_FILE)
    _plot_ramp(directory / RAMP_PLOT, result)
    if result.overloaded:
        _plot_overload(directory / OVERLOAD_PLOT, result.overloaded)
    (directory / REPORT_FILE).write_text(_page(result, rows, origin), encoding="utf-8")


def _page(result: LoadResult, rows: list[dict[str, Any]], origin: Mapping[str, Any]) -> str:
    sizes, quiet = result.sizes, result.overhead
    lines = ["# The service under load", "", ", ".join(f"{name} {value}" for name, value in origin.items()), ""]
    if sizes is not None:
        lines += [
            f"{sizes.replicas} gateway replicas, {sizes.users} users of {sizes.history:,} behaviours, "
            f"{sizes.candidates} candidates a call, a model of {sizes.items:,} items with random weights.",
            "",
        ]
    lines += [f"- takes {result.saturation:,.0f} calls a second"]
    well = result.well_below
    lines += [f"- at {well.rate:,.0f} a second: p50 {well.taken_ms(50):.2f} ms, p99 {well.taken_ms(99):.2f} ms"]
    if quiet is not None:
        lines += [
            f"- one call after the other: {quiet.call_ms:.2f} ms, the model call alone {quiet.model_ms:.2f} ms, "
            f"{quiet.beyond_ms:.2f} ms beyond it"
        ]
    if (proxied := result.through_proxy) is not None:
        lines += [
            f"- the same through Ray Serve's own gRPC proxy: {proxied.proxied_ms:.2f} ms, beside {proxied.call_ms:.2f} "
            "ms in turns with it"
        ]
    for over in result.overloaded:
        lines += [
            f"- {over.callers}: {over.factor:g} times what it takes, for {over.offered.seconds:.0f} s: "
            f"{over.goodput_share:.0%} answered of the {over.peak:,.0f} a second before and after, refusals within "
            f"{over.refused_p99_ms:.1f} ms (p99), well again after {over.recovery_s:.1f} s"
        ]
    lines += ["", "| | offered/s | answered/s | p50 ms | p99 ms | errors |", "|---|---:|---:|---:|---:|---:|"]
    for row in rows:
        told = (row["kind"], row["offered_rps"], row["goodput_rps"], row["p50_ms"], row["p99_ms"], row["errors"])
        lines.append("| " + " | ".join("" if each is None else str(each) for each in told) + " |")
    lines += ["", f"![latency by what is offered]({RAMP_PLOT})"]
    lines += [f"![answers under overload]({OVERLOAD_PLOT})"] if result.overloaded else []
    return "\n".join(lines) + "\n"


def _plot_ramp(path: Path, result: LoadResult) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    time, rate = figure.subplots(1, 2)
    offered = [step.rate for step in result.steps]
    for percentile in (50, 99):
        time.plot(offered, [step.taken_ms(percentile) for step in result.steps], marker="o", label=f"p{percentile}")
    time.set(xlabel="offered, calls/s", ylabel="answers take, ms", yscale="log")
    time.legend()
    rate.plot(offered, [step.goodput for step in result.steps], marker="o", label="answered")
    rate.plot(offered, offered, linestyle=":", color="grey", label="offered")
    rate.set(xlabel="offered, calls/s", ylabel="calls/s")
    rate.legend()
    figure.savefig(path, dpi=120)


def _plot_overload(path: Path, overloads: Sequence[Overloaded]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3 * len(overloads)), layout="constrained")
    for axes, over in zip(np.atleast_1d(figure.subplots(len(overloads), 1)), overloads, strict=True):
        offered = over.offered
        # When a call ended, not when it began: what is counted is what the service did in that second.
        ended = (offered.due_s + offered.taken_s).astype(int)
        for name, of_these in (("answered", offered.answered), ("refused", ~offered.answered)):
            axes.plot(np.bincount(ended[of_these], minlength=ended.max() + 1), label=name)
        axes.set(title=over.callers, xlabel="seconds", ylabel="calls/s")
        axes.legend()
    figure.savefig(path, dpi=120)
