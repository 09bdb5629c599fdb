"""`recollect evaluate`: measure a model on a split of its data and keep the result."""

import json
from pathlib import Path
from typing import Annotated

import typer

from recollect.cli.console import explains_errors, out, progress, show_json, show_metrics


@explains_errors
def evaluate(
    model: Annotated[str, typer.Argument(help="name@label, name/version or a model directory.")] = "dare@stable",
    split: Annotated[str, typer.Option(help="`train`, `validation` or `test`.")] = "test",
    store: Annotated[
        Path | None, typer.Option(help="Event store; by default the one that the model was trained on.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="File for the result; by default in var/evaluations.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as a JSON line.")] = False,
) -> None:
    """Score every sample of a split by the model's own protocol; print and save AUC, GAUC (by user) and log loss.

    Example: `recollect evaluate dare@stable --split test`
    """
    import numpy as np

    from recollect.pipeline import models
    from recollect.settings import Settings
    from recsys.data.event_store import EventStore
    from recsys.data.protocols import SPLITS
    from recsys.data.samples import make_samples
    from recsys.errors import ConfigError, StoreError
    from recsys.models.directory import load_model
    from recsys.training.config import TrainConfig
    from recsys.training.evaluation import evaluate as measure

    chosen = next((known for known in SPLITS if known == split), None)
    if chosen is None:
        raise ConfigError(f"--split must be one of {', '.join(SPLITS)}, got {split!r}")
    settings = Settings.load()
    artifact = models(settings).resolve(model)
    saved = load_model(artifact.directory)
    events = EventStore(store or saved.data["store"])
    if not np.array_equal(events.catalogue.item_ids, saved.catalogue.item_ids):
        raise StoreError(
            f"event store {events.directory} has another catalogue than {model} was trained on "
            f"({events.catalogue.n_items} and {saved.catalogue.n_items} items); name the model's own with --store"
        )
    config = TrainConfig.from_json(json.dumps(saved.training))
    with progress() as bar:
        task = bar.add_task("drawing samples", total=None)
        samples = make_samples(events, config.samples, chosen)
        bar.update(task, description="scoring", total=len(samples))
        metrics = measure(saved.model.serving(), events, samples, progress=lambda groups: bar.advance(task, groups))
    result = {"model": artifact.name, "version": artifact.version, "split": split, **metrics.as_dict()}
    path = output or settings.var / "evaluations" / f"{artifact.name}-{artifact.version}-{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    if as_json:
        show_json([result])
        return
    show_metrics(f"{artifact.name}/{artifact.version} on {events.directory}", split, metrics.as_dict())
    out.print(f"Saved to {path}.", highlight=False)
