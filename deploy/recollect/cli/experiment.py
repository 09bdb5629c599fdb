"""`recollect experiment`: DARE beside the baselines, seed by seed, in one table."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recollect.cli.console import err, explains_errors, out, progress, show_json
from recollect.cli.train import STORE, store_of

if TYPE_CHECKING:
    import polars as pl


@explains_errors
def experiment(
    source: Annotated[
        str,
        typer.Argument(
            help="Event store, a directory or the URL of one that `recollect data upload` has put there; or an event "
            "log in the format that --data names."
        ),
    ],
    data: Annotated[
        str, typer.Option(help="What SOURCE is: `store`, or a format that `recollect data sources` lists.")
    ] = STORE,
    models: Annotated[
        str,
        typer.Option(
            help="As `recollect train --model` names them, separated by commas, or `all`; the first is what the others "
            "are compared with."
        ),
    ] = "dare,twin,din",
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each model, with the seeds 0, 1, 2, …")] = 5,
    preset: Annotated[str, typer.Option(help="Recipe, as `recollect train` takes it.")] = "default",
    attention_dims: Annotated[
        str,
        typer.Option(
            help="Attention sizes, separated by commas; models whose attention has a size of its own run with each."
        ),
    ] = "",
    representation_dim: Annotated[int | None, typer.Option(help="Size of each representation embedding.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training targets.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Samples a step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Adam's step size.")] = None,
    validate_every: Annotated[int | None, typer.Option(help="Steps from one validation to the next.")] = None,
    at_once: Annotated[
        int | None, typer.Option(min=1, help="Runs at a time, each on one thread; one a processor unless told.")
    ] = None,
    tracker: Annotated[
        str | None, typer.Option(help="`tensorboard` writes every run's log to FOLDER/tensorboard as well.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the report and the runs; VAR/experiments/… unless told.")
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="Ray cluster to run on, which sees store and folder; a private node by default.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON line a run instead of the table.")] = False,
) -> None:
    """Train models side by side with the same samples, and compare AUC, GAUC, log loss and speed on the test samples.

    Writes report.md, runs.parquet, curves.png and, with --attention-dims, attention.png. Killed? Run it again, it goes
    on; more seeds or models only add runs. On a shop of `recollect data generate --preset recurring`, with --preset
    recommend, the table also has the optimum, which no model can be expected to beat, and how far each is from it.

    Examples:

    `recollect experiment var/data/shop --models all --seeds 3`

    `recollect experiment var/data/shop --models dare,twin --attention-dims 4,8,16`
    """
    from recollect.embedded.ray import ray_cluster
    from recollect.model_experiment import claim_all, run_all
    from recollect.settings import Settings
    from recsys.data.event_store import EventStore
    from recsys.models.kinds import MODELS
    from recsys.training import experiment_report as report
    from recsys.training.config import preset as preset_named
    from recsys.training.config import with_overrides
    from recsys.training.experiment import optimum_of, variants
    from recsys.training.tracking import require_tracker, track

    settings = Settings.load(ray_address=ray_address)
    config = with_overrides(
        preset_named(preset),
        representation_dim=representation_dim,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        validate_every=validate_every,
    )
    chosen = list(MODELS) if models == "all" else _words(models)
    if tracker is not None:
        require_tracker(tracker)
    rows = variants(chosen, _sizes(attention_dims), config)
    with progress() as bar:
        store = store_of(settings.var, source, data, preset, bar)
        identity = hashlib.sha256(f"{store.resolve()}\n{config.to_json()}".encode()).hexdigest()
        folder = (output or settings.var / "experiments" / f"{store.name}-{identity[:8]}").resolve()
        claim_all(store, config, rows, range(seeds), folder / "runs")
        task = bar.add_task("starting Ray", total=len(rows) * seeds)

        def on_done(done: int, _total: int, run: Path) -> None:
            bar.update(task, completed=done)
            if tracker is not None:
                track(run, folder / tracker / run.name)

        with ray_cluster(settings):
            bar.update(task, description="runs")
            results = run_all(
                store,
                config,
                rows,
                range(seeds),
                folder / "runs",
                at_once=at_once,
                on_done=on_done,
            )
    runs = report.table_of(results)
    optimum = optimum_of(EventStore(store), config)
    table = report.markdown(runs, optimum)
    _write(folder, runs, table)
    if as_json:
        best = [] if optimum is None else [{"variant": "optimum", **optimum.as_dict()}]
        show_json([*runs.to_dicts(), *best])
        return
    out.print(table, highlight=False, soft_wrap=True)
    err.print(f"report, runs and plots are in {folder}", highlight=False, soft_wrap=True)


def _words(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _sizes(text: str) -> list[int]:
    from recsys.errors import ConfigError

    try:
        return [int(part) for part in _words(text)]
    except ValueError:
        raise ConfigError(f"--attention-dims must be whole numbers separated by commas, got {text!r}") from None


def _write(folder: Path, runs: "pl.DataFrame", table: str) -> None:
    from recsys.training import experiment_report as report

    runs.write_parquet(folder / "runs.parquet")
    sections = ["# Models side by side\n", table, "\n![Learning curves](curves.png)\n"]
    report.draw_learning_curves(runs, folder / "curves.png")
    if report.draw_attention_sizes(runs, folder / "attention.png"):
        sections.append("\n![AUC by attention size](attention.png)\n")
    (folder / "report.md").write_text("\n".join(sections))
