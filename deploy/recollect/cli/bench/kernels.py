"""`recollect bench kernels`: search and attention on this machine, beside torch, numpy and FAISS."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from recollect.cli.console import err, explains_errors, out, progress, show_json
from recollect.errors import SetupError

if TYPE_CHECKING:
    from rich.table import Table

    from recollect_kernels.benchmarks.runner import BenchConfig, Row, Task
    from recollect_kernels.benchmarks.shapes import Shape


class Device(StrEnum):
    """Where it is measured."""

    CPU = "cpu"
    CUDA = "cuda"


class Implementation(StrEnum):
    """Backends of `recollect_kernels`, spelled here so that help needs no heavy import."""

    AUTO = "auto"
    TRITON = "triton"
    CPU = "cpu"
    REFERENCE = "reference"


@explains_errors
def kernels(
    device: Annotated[
        Device | None, typer.Option(help="Where to measure; the GPU where there is one, unless told.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of torch, FAISS and the ops; torch's own number unless told.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=5, help="Rounds in which all take a turn; figures are medians.")] = 9,
    only: Annotated[str | None, typer.Option(metavar="TEXT", help="Only rows whose op or use has this in it.")] = None,
    backend: Annotated[Implementation, typer.Option(help="Implementation to measure.")] = Implementation.AUTO,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines instead of a table.")] = False,
) -> None:
    """Time search and attention beside torch, numpy and FAISS, and beside what the machine can do at best.

    A row is printed only if its result is the reference's; otherwise a line on stderr says how it differs, and the exit
    status is 1. `ratio` is torch's time by ours: above 1, ours is faster.

    Examples:

    `recollect bench kernels --device cpu --threads 1`

    `recollect bench kernels --only search --json`
    """
    import torch

    from recollect_kernels.benchmarks.machine import describe
    from recollect_kernels.benchmarks.machine import threads as limited_to
    from recollect_kernels.benchmarks.runner import BenchConfig, plan
    from recsys.errors import ConfigError

    if device is Device.CUDA and not torch.cuda.is_available():
        raise SetupError("--device cuda needs a GPU that torch can use, and torch sees none; use --device cpu")
    where = device or (Device.CUDA if torch.cuda.is_available() else Device.CPU)
    tasks = plan(_shapes(where), only)
    if not tasks:
        known = ", ".join(sorted({text for task in plan(_shapes(where)) for text in (task.op, task.shape.use)}))
        raise ConfigError(f"--only must be part of an op or a use, got {only!r}; there are: {known}")
    config = BenchConfig(device=where.value, backend=backend.value, rounds=rounds)
    with limited_to(threads):
        origin: dict[str, Any] = {"date": f"{datetime.now(UTC):%Y-%m-%d}", **describe(where.value)}
        rows = []
        for row in _measured(tasks, config):
            rows.append(row | origin)
            if as_json:
                show_json(rows[-1:])
    if rows and not as_json:
        _show(rows)
    if len(rows) < len(tasks):
        err.print(f"{len(tasks) - len(rows)} of {len(tasks)} without a row", highlight=False)
        raise typer.Exit(1)


def _measured(tasks: "Sequence[Task]", config: "BenchConfig") -> "Iterator[Row]":
    """The row of each task that has one; stderr is told why another has none, and once why a peer takes no part."""
    from recollect_kernels.benchmarks.agreement import NotMeasuredError
    from recollect_kernels.benchmarks.floors import Floors
    from recollect_kernels.benchmarks.runner import measure

    floors = Floors(config.device)
    told: set[str] = set()
    with progress() as bar:
        shown = bar.add_task("measuring", total=len(tasks) * config.rounds)
        for number, task in enumerate(tasks, start=1):
            bar.update(shown, description=f"{task.op}: {task.shape.use}")
            try:
                row, left_out = measure(task, config, floors, on_round=lambda: bar.advance(shown))
            except NotMeasuredError as error:
                err.print(Text.assemble(("no row", "bold red"), f" for {task}: {error}"), soft_wrap=True)
            else:
                for peer, reason in left_out.items():
                    if (line := f"without {peer}: {reason}") not in told:
                        told.add(line)
                        err.print(line, highlight=False, soft_wrap=True)
                yield row
            bar.update(shown, completed=number * config.rounds)


def _shapes(device: Device) -> "list[Shape]":
    from recollect_kernels.benchmarks.shapes import cpu_shapes, gpu_shapes

    return gpu_shapes() if device is Device.CUDA else cpu_shapes()


def _show(rows: "Sequence[Row]") -> None:
    origin = rows[0]
    named = ("python", "torch", "triton", "numba", "numpy", "faiss")
    facts = [
        origin["date"],
        origin["machine"],
        *(f"{origin[name]} {name}" for name in ("cores", "threads")),
        f"load {origin['load']} before",
        *(f"{name} {origin[name]}" for name in named if origin[name]),
        f"{origin['rounds']} rounds",
    ]
    line = f"{', '.join(facts)}; ratio = torch by ours, times in µs a call"
    out.print(line, highlight=False, soft_wrap=True)
    for op in dict.fromkeys(row["op"] for row in rows):
        out.print(_table(op, [row for row in rows if row["op"] == op]))


def _table(op: str, rows: "Sequence[Row]") -> "Table":
    """The rows of one op, three lines each; where space is short, the description gives way and no figure does."""
    from rich.table import Table

    from recollect_kernels.benchmarks.runner import OTHER_PEERS

    others = [peer for peer in OTHER_PEERS if any(row[f"{peer}_us"] is not None for row in rows)]
    table = Table(title=op, title_justify="left", title_style="bold", show_lines=True)
    table.add_column("ratio", justify="right", no_wrap=True)
    table.add_column("use\nB×T×L\nd, k, e, tables")
    for heading in ("ours\np99\nCPU", "torch\np99\nCPU", "floor", *(peer.replace("_", "\n") for peer in others)):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        call = f"{row['use']}\n{row['B']}×{row['T']}×{row['L']:,}\n{row['d']}, {row['k']}, {row['e']}, {row['table']}"
        timed = ("\n".join(_us(row[f"{who}{what}_us"]) for what in ("", "_p99", "_cpu")) for who in ("ours", "torch"))
        table.add_row(f"{row['ratio']:.2f}", call, *timed, *(_us(row[f"{name}_us"]) for name in ("floor", *others)))
    return table


def _us(time: float | None) -> str:
    if time is None:
        return "–"
    return f"{time:,.0f}" if time >= 100 else f"{time:.1f}"
