"""`recollect composed pretrain | train`: pictures of boxed objects and modification texts in, a published model out."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recollect.cli.console import explains_errors, out, progress, show_json

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from recollect.artifacts import Artifact
    from recollect.training_runs import OnStep

Kind = Annotated[str, typer.Option(metavar="FORMAT", help="oacirr, cirr, fashioniq, circo or folders.")]
Run = Annotated[
    str | None, typer.Option(help="Name of the run directory in var/runs; by default it follows from data and options.")
]
Fresh = Annotated[
    bool, typer.Option("--fresh", help="Start over, though the run directory holds a checkpoint or a result.")
]
RayAddress = Annotated[str | None, typer.Option(help="Ray cluster to train on; a private node by default.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON line instead of a sentence.")]


@explains_errors
def pretrain(
    directory: Annotated[Path, typer.Argument(help="Data set with boxes and instances.")],
    kind: Kind = "oacirr",
    captions: Annotated[
        Path | None,
        typer.Option(help="CSV with columns `image` and `caption`; captions.csv of the data set by default."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the pictures.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of initialisation and order.")] = None,
    run: Run = None,
    fresh: Fresh = False,
    label: Annotated[
        str, typer.Option(help="Label to put on the new version: `adafocal-start@stable`. Empty for none.")
    ] = "stable",
    ray_address: RayAddress = None,
    as_json: AsJson = False,
) -> None:
    """Make a compact model to start from, where no BLIP-2 checkpoint is at hand. Killed? Run it again, it goes on.

    Example: `recollect composed world var/data/world`, then `recollect composed pretrain var/data/world`
    """
    from recollect.composed_training import START_NAME, pretrain_and_publish, run_directory
    from recollect.settings import Settings
    from retrieval.composed.training.config import PretrainConfig, with_overrides
    from retrieval.composed.training.pretraining_job import PretrainJob, pretraining_identity

    settings = Settings.load(ray_address=ray_address)
    config = with_overrides(PretrainConfig(), epochs=epochs, seed=seed)
    source = directory.resolve()
    job = PretrainJob(kind=kind, directory=str(source), captions=str((captions or source / "captions.csv").resolve()))
    place = run_directory(settings, START_NAME, pretraining_identity(job, config), name=run)
    with progress() as bar:
        follow, task = _followed(bar, "pre-training")
        artifact = pretrain_and_publish(settings, job, config, place, label=label or None, fresh=fresh, on_step=follow)
        bar.update(task, completed=1, total=1)
    _report(artifact, label, as_json)


@explains_errors
def train(
    directory: Annotated[Path, typer.Argument(help="Data set of references, boxes, texts and targets.")],
    kind: Kind = "oacirr",
    start: Annotated[
        str,
        typer.Option(
            metavar="MODEL",
            help="What to start from: `adafocal-start@LABEL`, a model directory, or a BLIP-2 checkpoint by directory "
            "or hub name, such as Salesforce/blip2-itm-vit-g.",
        ),
    ] = "adafocal-start@stable",
    preset: Annotated[str, typer.Option(help="Recipe: `published` or `world`.")] = "published",
    modulation: Annotated[str | None, typer.Option(help="Where β comes from: scalar, vector, fixed or none.")] = None,
    beta: Annotated[float | None, typer.Option(help="β of --modulation fixed.")] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            help="What is shown of a reference: whole, rectangle or crop; the latter two take --modulation none."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that share each step.")] = 1,
    gpu: Annotated[bool, typer.Option("--gpu", help="Give each worker a GPU.")] = False,
    epochs: Annotated[int | None, typer.Option(help="Passes over the queries.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Queries told apart in one step, on each worker.")] = None,
    accumulation: Annotated[int | None, typer.Option(help="Parts that a batch is computed in, to save memory.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="AdamW's highest step size.")] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="Numbers that large products are computed in: bfloat16, float32, or auto, which is bfloat16 where the "
            "processor computes with it."
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="Split to train on.")] = "train",
    validation_split: Annotated[str, typer.Option(help="Split measured after each epoch; empty for none.")] = "val",
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the modulator, the order and dropout.")] = None,
    run: Run = None,
    fresh: Fresh = False,
    label: Annotated[
        str, typer.Option(help="Label to put on the new version: `adafocal@stable`. Empty for none.")
    ] = "stable",
    ray_address: RayAddress = None,
    as_json: AsJson = False,
) -> None:
    """Train AdaFocal, through Ray Train, and publish it. Killed? Run it again, it goes on.

    The image encoder is frozen: it runs once over all pictures, and what it says is kept under var/cache.

    Examples:

    `recollect composed train OACIRR --start Salesforce/blip2-itm-vit-g --workers 4 --gpu`

    `recollect composed train var/data/world --preset world`
    """
    from recollect.composed_training import (
        MODEL_NAME,
        composed_path,
        features_directory,
        run_directory,
        train_and_publish_composed,
    )
    from recollect.settings import Settings
    from retrieval.composed.training import config as configs
    from retrieval.composed.training.job import TrainJob, identity

    settings = Settings.load(ray_address=ray_address)
    config = configs.with_overrides(
        configs.with_modulation(configs.preset(preset), modulation, fixed=beta),
        reference=reference and configs.reference_named(reference),
        epochs=epochs,
        batch_size=batch_size,
        accumulation=accumulation,
        learning_rate=learning_rate,
        precision=precision and configs.precision_named(precision),
        seed=seed,
    )
    path = composed_path(settings, start)
    job = TrainJob(
        start=path,
        kind=kind,
        directory=str(directory.resolve()),
        features=str(features_directory(settings, directory, path)),
        split=split,
        validation_split=validation_split or None,
    )
    place = run_directory(settings, MODEL_NAME, identity(job, config), name=run)
    with progress() as bar:
        follow, task = _followed(bar, "training")
        artifact = train_and_publish_composed(
            settings,
            job,
            config,
            place,
            workers=workers,
            gpu=gpu,
            label=label or None,
            fresh=fresh,
            on_step=follow,
        )
        bar.update(task, completed=1, total=1)
    _report(artifact, label, as_json)


def _followed(bar: "Progress", what: str) -> "tuple[OnStep, TaskID]":
    task = bar.add_task(what, total=None)

    def on_step(step: int, total: int, line: Mapping[str, Any]) -> None:
        recall = line.get("validation", {}).get("r_id@1")
        if recall is not None:
            bar.update(task, description=f"{what}, R_ID@1 {recall:.3f}")
        bar.update(task, completed=step, total=total)

    return on_step, task


def _report(artifact: "Artifact", label: str, as_json: bool) -> None:
    from retrieval.composed.directory import METRICS_FILE, WEIGHTS_FILE

    metrics = json.loads((artifact.directory / METRICS_FILE).read_text())
    reference = f"{artifact.name}/{artifact.version}"
    megabytes = round((artifact.directory / WEIGHTS_FILE).stat().st_size / 1e6, 2)
    if as_json:
        row = {"model": reference, "label": label or None, "directory": str(artifact.directory), "megabytes": megabytes}
        show_json([{**row, **metrics}])
        return
    figures = [f"{name} {value:.3f}" for each in metrics.values() for name, value in each.items()]
    out.print(
        f"{reference}{f' ({artifact.name}@{label})' if label else ''}: {', '.join([f'{megabytes} MB', *figures])}\n"
        f"{artifact.directory}",
        highlight=False,
        soft_wrap=True,
    )
