"""`recollect bench train`: how fast models train and score on this machine, and what memory that takes."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, cast

import typer

from recollect.cli.console import explains_errors, out, progress, show_json, show_table


@explains_errors
def train(
    model: Annotated[
        list[str] | None,
        typer.Option(help="As `recollect train --model` names them; may be repeated. `dare` and `twin` unless told."),
    ] = None,
    dim: Annotated[
        list[int] | None, typer.Option("--dim", "-d", min=1, help="Size of each embedding; may be repeated. 16.")
    ] = None,
    items: Annotated[
        list[int] | None, typer.Option("--items", min=10, help="Size of the catalogue; may be repeated. 4,000.")
    ] = None,
    history: Annotated[
        list[int] | None, typer.Option(min=1, help="Behaviours of each sample; may be repeated. 200.")
    ] = None,
    optimizer: Annotated[
        str, typer.Option(help="`adam`, `rowwise-adam`, or `auto`: by rows from 100,000 items on.")
    ] = "auto",
    rounds: Annotated[int, typer.Option(min=1, help="Steps that are timed; figures are medians.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines instead of a table.")] = False,
) -> None:
    """Train and score on made samples, full histories and 2,046 samples a step, on one thread.

    Samples are per CPU-second. Every row is measured in a process of its own, and `peak_rss_mb` is the most memory that
    it had, Python and torch among it.

    Example: `recollect bench train --items 4000 --items 4000000 --json`

    Example: `recollect bench train --model dare --history 200 --history 10000`
    """
    from itertools import product

    from recollect_kernels.benchmarks.machine import describe
    from recsys.models.kinds import model_kind
    from recsys.training.benchmarks.alone import measure_alone
    from recsys.training.step import OPTIMIZERS, OptimizerName

    if optimizer not in ("auto", *OPTIMIZERS):
        raise typer.BadParameter(f"--optimizer must be auto or one of {', '.join(OPTIMIZERS)}, got {optimizer}")
    for name in model or ():
        model_kind(name)
    shapes = list(product(items or [4_000], dim or [16], history or [200], model or ["dare", "twin"]))
    origin = f"{datetime.now(UTC):%Y-%m-%d}", describe("cpu")
    rows: list[dict[str, Any]] = []
    with progress() as bar:
        task = bar.add_task("measuring", total=len(shapes))
        for n_items, d, length, name in shapes:
            bar.update(task, description=f"{name}, {n_items:,} items, histories of {length:,}")
            chosen = optimizer if optimizer != "auto" else "adam" if n_items < _MANY_ITEMS else "rowwise-adam"
            row = measure_alone(
                name,
                d=d,
                n_items=n_items,
                history=length,
                rounds=rounds,
                optimizer=cast(OptimizerName, chosen),
            )
            rows.append(asdict(row))
            bar.advance(task)
    if as_json:
        show_json(rows)
        return
    date, machine = origin
    facts = [date, machine["machine"], f"{machine['cores']} cores", f"load {machine['load']} before", "1 thread"]
    out.print(", ".join(map(str, facts)), highlight=False, soft_wrap=True)
    columns = ["model", "d", "items", "history", "trained a CPU-s", "scored a CPU-s", "peak MB"]
    cells = [[str(row["model"]), *(f"{value:,}" for value in list(row.values())[1:])] for row in rows]
    show_table("Training and scoring", columns, cells, right=columns[1:])


_MANY_ITEMS = 100_000
