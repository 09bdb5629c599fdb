"""`recollect composed evaluate`: a data set's own figures for a model, and the files that its server asks for."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recollect.cli.composed_train import AsJson, Kind
from recollect.cli.console import err, explains_errors, progress, show_json, show_table

if TYPE_CHECKING:
    from retrieval.composed.datasets import ComposedDataset
    from retrieval.composed.evaluation import Evaluation


@explains_errors
def evaluate(
    directory: Annotated[Path, typer.Argument(help="Data set.")],
    kind: Kind = "oacirr",
    model: Annotated[str, typer.Option(help="`adafocal@LABEL`, a directory, or a hub name.")] = "adafocal@stable",
    split: Annotated[str, typer.Option(help="Split to ask.")] = "test",
    reference: Annotated[str, typer.Option(help="What is shown of a reference: whole, rectangle or crop.")] = "whole",
    beta: Annotated[float | None, typer.Option(help="β for every query, instead of the model's own.")] = None,
    submission: Annotated[
        Path | None, typer.Option(help="Folder for the files that the servers of CIRR and CIRCO take.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ask a model every query of a split, and judge its rankings by the data set's protocol.

    Example: `recollect composed evaluate CIRR --kind cirr --split test1 --submission out`
    """
    from recollect.composed_training import composed_path, features_directory
    from recollect.settings import Settings
    from retrieval.composed.datasets import load_dataset
    from retrieval.composed.encoder import load_composed
    from retrieval.composed.references import dataset_features
    from retrieval.composed.training.config import reference_named
    from retrieval.composed.training.job import measured

    settings = Settings.load()
    shown = reference_named(reference)
    path = composed_path(settings, model)
    encoder = load_composed(path)
    dataset = load_dataset(kind, directory.resolve(), split)
    if dataset.left_out:
        err.print(f"{dataset.left_out} queries are left out: pictures of theirs are missing")
    with progress() as bar:
        task = bar.add_task("running the image encoder", total=None)
        features = dataset_features(
            dataset,
            encoder.model,
            features_directory(settings, directory, path) / split,
            reference=shown,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
        bar.update(task, completed=1, total=1)
    evaluation = measured(dataset, features, encoder, beta=beta)
    if evaluation.truncated:
        err.print(f"{evaluation.truncated} texts were longer than {encoder.text_tokens} tokens and were cut")
    if submission is not None:
        _submit(dataset, evaluation, submission)
    _report(dataset, evaluation, model, as_json)


def _submit(dataset: "ComposedDataset", evaluation: "Evaluation", folder: Path) -> None:
    from retrieval.composed.submission import write_circo, write_cirr
    from retrieval.errors import ComposedError

    if dataset.name == "cirr":
        files = list(write_cirr(dataset, evaluation, folder))
    elif dataset.name == "circo":
        files = [write_circo(dataset, evaluation, folder)]
    else:
        raise ComposedError(f"--submission is for cirr and circo, which have evaluation servers; got {dataset.name}")
    err.print(f"wrote {' and '.join(map(str, files))}", highlight=False, soft_wrap=True)


def _report(dataset: "ComposedDataset", evaluation: "Evaluation", model: str, as_json: bool) -> None:
    groups = {"all": evaluation.metrics, **evaluation.by_category, **evaluation.by_kind}
    if as_json:
        common = {"model": model, "dataset": dataset.name, "split": dataset.split}
        show_json([{**common, "group": group, **metrics} for group, metrics in groups.items()])
        return
    figures = list(evaluation.metrics)
    if not figures:
        err.print(f"{dataset.name}'s split {dataset.split} keeps its targets secret; there are no figures")
        return
    show_table(
        f"{model} on {dataset.name}, {dataset.split}: {len(dataset.queries):,} queries, "
        f"{len(dataset.images):,} pictures, mean β {evaluation.beta.mean():.2f}",
        ["queries", *figures],
        [(group, *(f"{100 * metrics[figure]:.1f}" for figure in figures)) for group, metrics in groups.items()],
        right=figures,
    )
