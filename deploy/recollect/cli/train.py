"""`recollect train`: an event log or store in, a published model out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from recollect.cli.console import err, explains_errors, out, progress, show_json, show_metrics

STORE = "store"
"""The value of --data that means: this is an event store already."""


@explains_errors
def train(
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
    preset: Annotated[
        str,
        typer.Option(
            help="Recipe: `default`, `recommend`, `demo`, `online-retail`, `online-retail-recommend`, `taobao` or "
            "`tmall`."
        ),
    ] = "default",
    model: Annotated[
        str,
        typer.Option(
            help="`dare`, which is served, or a baseline to compare with: `twin`, `twin-4e`, `twin-projected`, "
            "`sim-hard`, `eta`, `sdim` or `din`."
        ),
    ] = "dare",
    workers: Annotated[int, typer.Option(min=1, help="Processes that share each step.")] = 1,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of initialisation and sample order.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training targets.")] = None,
    attention_dim: Annotated[
        int | None, typer.Option(help="Size of each attention embedding; the search costs in proportion.")
    ] = None,
    representation_dim: Annotated[int | None, typer.Option(help="Size of each representation embedding.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Samples a step, over all workers.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Adam's step size.")] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(
            help="`adam`, as published, or `rowwise-adam`, which takes the same steps, those of an item when a batch "
            "holds it: faster from some 100,000 items on."
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="`fp32`, or `bf16` for the heads' matrix products, for GPUs: a CPU is slower with it."),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(help="Name of the run directory in var/runs; by default it follows from data and options."),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start over, though the run directory holds a checkpoint or a result.")
    ] = False,
    label: Annotated[
        str, typer.Option(help="Label to put on the new version; serving follows `stable`. Empty for none.")
    ] = "stable",
    ray_address: Annotated[str | None, typer.Option(help="Ray cluster to train on; a private node by default.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as a JSON line.")] = False,
) -> None:
    """Train DARE, or a baseline, and publish the model under its own name: `dare@stable`, `twin@stable`.

    Killed? Run the same command again: it goes on from the last checkpoint and ends with the same figures.

    Examples:

    `recollect train var/data/shop`

    `recollect train --data online-retail online_retail.parquet --preset online-retail --seed 1`

    `recollect train s3://bucket/shop --optimizer rowwise-adam`
    """
    from recollect.pipeline import run_directory, train_and_publish
    from recollect.settings import Settings
    from recsys.models.directory import METRICS_FILE, read_json
    from recsys.training.config import preset as preset_named
    from recsys.training.config import with_overrides

    settings = Settings.load(ray_address=ray_address)
    config = with_overrides(
        preset_named(preset),
        model=model,
        seed=seed,
        epochs=epochs,
        attention_dim=attention_dim,
        representation_dim=representation_dim,
        batch_size=batch_size,
        learning_rate=learning_rate,
        optimizer=optimizer,
        precision=precision,
    )
    with progress() as bar:
        store = store_of(settings.var, source, data, preset, bar)
        task = bar.add_task("starting Ray", total=None)

        def on_step(step: int, total: int, line: Mapping[str, Any]) -> None:
            bar.update(task, completed=step, total=total, description="training")
            if "validation" in line:
                err.print(f"step {step}: validation AUC {line['validation']['auc']:.4f}")

        directory = run_directory(settings, store, config, name=run)
        artifact = train_and_publish(
            settings, store, config, directory, workers=workers, label=label or None, fresh=fresh, on_step=on_step
        )
    metrics = read_json(artifact.directory / METRICS_FILE)
    if as_json:
        show_json(
            [{"model": artifact.name, "version": artifact.version, "path": str(artifact.directory), **metrics["test"]}]
        )
        return
    show_metrics(f"{artifact.name}/{artifact.version}", "test", metrics["test"])
    out.print(f"Kept in {artifact.directory}" + (f", labelled {label}." if label else "."), highlight=False)


def store_of(var: Path, source: str, data_format: str, preset: str, bar: Any) -> Path:
    """The event store that `source` is, at a URL or on this machine, or that is made of a log."""
    from recollect.artifacts.event_stores import fetched_store, is_url
    from recollect.artifacts.transfers import heard
    from recsys.errors import ConfigError

    if data_format != STORE:
        if is_url(source):
            raise ConfigError(
                f"a log is imported from a file of this machine, got {source}; download it, or import it where it is "
                "and `recollect data upload` the store"
            )
        return imported(var, Path(source), data_format, preset, bar)
    if not is_url(source):
        return Path(source)
    task = bar.add_task("looking", total=None)
    with heard(lambda what, done, total: bar.update(task, description=what, completed=done, total=total)):
        store = fetched_store(source, var / "data")
    bar.update(task, description="fetched", completed=1, total=1)
    return store


def imported(var: Path, log: Path, data_format: str, preset: str, bar: Any) -> Path:
    """The event store of `log`, imported now unless it was before."""
    from recsys.data.ingest import store_for
    from recsys.errors import ConfigError
    from recsys.training.config import event_types_of

    if data_format == "columns":
        raise ConfigError(
            f"{log} has columns of its own: say which is which with `recollect data import {log} --format columns "
            "--user … --item … --time …`, then train on the store that this makes"
        )

    task = bar.add_task("importing", total=None)
    store = store_for(
        data_format,
        log,
        var / "data" / f"{log.stem}-{data_format}",
        event_types=event_types_of(preset),
        progress=lambda stage, done, total: bar.update(task, description=stage, completed=done, total=total),
    )
    bar.update(task, description="imported", completed=1, total=1)
    return store
