"""`recollect encoder train`: pictures with captions in, a published encoder out."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recollect.cli.console import err, explains_errors, out, progress, show_json

if TYPE_CHECKING:
    from retrieval.encoders.training.captions import CaptionedImages


@explains_errors
def train(
    source: Annotated[
        Path,
        typer.Argument(
            help="CSV with columns `image` and `caption`, or a folder that holds one as captions.csv. With "
            "--descriptors: labelled pictures, as a folder a class, a CSV with columns `image` and `label`, or a "
            "Grocery Store list."
        ),
    ],
    descriptors: Annotated[
        str | None,
        typer.Option(metavar="SET", help="Descriptor set, by name or file, that captions labelled pictures."),
    ] = None,
    hold_out: Annotated[
        list[str] | None,
        typer.Option(metavar="CLASS", help="With --descriptors: leave this class out of training; may be repeated."),
    ] = None,
    preset: Annotated[str, typer.Option(help="Recipe: `photos` or `demo-shop`.")] = "photos",
    workers: Annotated[int, typer.Option(min=1, help="Processes that share each step.")] = 1,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of initialisation, order and augmentation.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the pictures.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Side of the square a picture is brought to, pixels.")] = None,
    dimension: Annotated[int | None, typer.Option(help="Size of an embedding.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Pictures a step, over all workers.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="AdamW's highest step size.")] = None,
    run: Annotated[
        str | None,
        typer.Option(help="Name of the run directory in var/runs; by default it follows from data and options."),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start over, though the run directory holds a checkpoint or a result.")
    ] = False,
    label: Annotated[
        str, typer.Option(help="Label to put on the new version: `encoder@stable`. Empty for none.")
    ] = "stable",
    ray_address: Annotated[str | None, typer.Option(help="Ray cluster to train on; a private node by default.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line instead of a table.")] = False,
) -> None:
    """Train the compact encoder, through Ray Train, and publish it. Killed? Run it again, it goes on.

    Examples:

    `recollect encoder train photos/captions.csv`

    `recollect encoder train grocery/train.txt --descriptors grocery --hold-out Kiwi --hold-out Lime`
    """
    from recollect.encoders import encoder_run_directory, train_and_publish_encoder
    from recollect.settings import Settings
    from retrieval.encoders.training import config as configs

    settings = Settings.load(ray_address=ray_address)
    config = configs.with_overrides(
        configs.preset(preset),
        seed=seed,
        epochs=epochs,
        image_size=image_size,
        dimension=dimension,
        batch_size=batch_size,
        learning_rate=learning_rate,
    )
    data = _captioned(source, descriptors, hold_out or [])
    err.print(f"{len(data.paths):,} pictures, {len(data.captions):,} captions", highlight=False)
    directory = encoder_run_directory(settings, data, config, name=run)
    with progress() as bar:
        task = bar.add_task("training", total=None)

        def on_step(step: int, total: int, line: Mapping[str, Any]) -> None:
            recall = line.get("validation", {}).get("recall_at_1")
            if recall is not None:
                bar.update(task, description=f"training, recall@1 {recall:.3f}")
            bar.update(task, completed=step, total=total)

        artifact = train_and_publish_encoder(
            settings, data, config, directory, workers=workers, label=label or None, fresh=fresh, on_step=on_step
        )
        bar.update(task, completed=1, total=1)
    _report(artifact.directory, f"{artifact.name}/{artifact.version}", label, as_json)


def _captioned(source: Path, descriptors: str | None, hold_out: list[str]) -> "CaptionedImages":
    from retrieval.descriptors.dataset import read_images
    from retrieval.descriptors.descriptor_set import load_descriptor_set
    from retrieval.encoders.training.captions import caption_labels, read_captions
    from retrieval.errors import DatasetError

    if descriptors is None:
        if hold_out:
            raise DatasetError("--hold-out names classes, which captions do not have; give --descriptors as well")
        return read_captions(source / "captions.csv" if source.is_dir() else source)
    images = read_images(source)
    for skipped in images.skipped:
        err.print(f"{skipped.path} {skipped.reason}", highlight=False, soft_wrap=True)
    return caption_labels(images, load_descriptor_set(descriptors), hold_out=hold_out)


def _report(directory: Path, reference: str, label: str, as_json: bool) -> None:
    import json

    from retrieval.encoders.compact.directory import METRICS_FILE, WEIGHTS_FILE

    metrics = json.loads((directory / METRICS_FILE).read_text())
    row = {
        "encoder": reference,
        "label": label or None,
        "directory": str(directory),
        "megabytes": round((directory / WEIGHTS_FILE).stat().st_size / 1e6, 2),
        **metrics,
    }
    if as_json:
        show_json([row])
        return
    recall = metrics["validation"].get("recall_at_1")
    measured = "" if recall is None else f", recall@1 {recall:.3f} on pictures held back"
    refused = f", {metrics['refused']} pictures could not be used" if metrics["refused"] else ""
    out.print(
        f"{reference}{f' (encoder@{label})' if label else ''}: {row['megabytes']} MB{measured}{refused}\n{directory}",
        highlight=False,
        soft_wrap=True,
    )
