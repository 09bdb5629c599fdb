"""`recollect model`: versions of models, which of them answers, and the way back."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from recollect.cli.connecting import connects
from recollect.cli.console import explains_errors, out, show_json
from recollect.cli.remote import TargetOption, admin_at
from recollect.cli.versions import (
    ExpectedOption,
    JsonOption,
    KeepOption,
    LabelOption,
    NameArgument,
    OptionalName,
    VersionArgument,
    show_moved,
    show_removed,
    show_rollback,
    show_rows,
    show_versions,
    store_of,
)

if TYPE_CHECKING:
    from recollect.artifacts import Artifact, ArtifactStore
    from recollect_api.admin import LabelMove, ModelVersion

model_app = typer.Typer(
    help="Versions of models: which there are, which answers, and the way back.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


@model_app.command(name="list")
@explains_errors
@connects
def list_models(name: OptionalName = None, target: TargetOption = None, as_json: JsonOption = False) -> None:
    """List versions of models and the labels that point at them.

    Example: `recollect model list dare`
    """
    if target is not None:
        with admin_at(target) as client:
            rows = [_version_row(version) for version in client.model_versions(name or "")]
        show_rows(rows, _model_contents, as_json=as_json)
        return
    show_versions(_models(), name, _model_facts, _model_contents, as_json=as_json)


@model_app.command(name="verify")
@explains_errors
def verify_model(
    reference: Annotated[str, typer.Argument(metavar="MODEL", help="NAME@LABEL or NAME/VERSION.")],
    as_json: JsonOption = False,
) -> None:
    """Compare every file of a version with its hash, and what it answers with what it answered when it was saved.

    Example: `recollect model verify dare@stable`
    """
    from recollect.model_fitness import require_fit

    artifact = _models().verify(reference)
    asked = require_fit(artifact)
    if as_json:
        show_json([{"name": artifact.name, "version": artifact.version, "whole": True}])
    else:
        out.print(f"{artifact.reference} is whole{', and answers as it did' if asked else ''}", highlight=False)


@model_app.command(name="activate")
@explains_errors
@connects
def activate_model(
    name: NameArgument,
    version: VersionArgument,
    label: LabelOption = "stable",
    expected: ExpectedOption = None,
    target: TargetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a label point at a version, its hashes and its answers checked first. A service that is named by `--target`
    answers with it at once where its recommender follows that label; without, it does when it starts again.

    Example: `recollect model activate dare 20261128T094952-541de118`
    """
    if target is not None:
        with admin_at(target) as client:
            moved = client.activate_model(name, version, label=label, expected_version=expected)
        _show_moved_there(name, label, moved, as_json=as_json)
        return
    from recollect.model_fitness import require_fit

    store = _models()
    require_fit(store.resolve(f"{name}/{version}"))
    before = store.labelled(name, label)
    store.set_label(name, label, version, expected=expected)
    show_moved(name, label, version, before, as_json=as_json)


@model_app.command(name="rollback")
@explains_errors
@connects
def roll_model_back(
    name: NameArgument,
    label: LabelOption = "stable",
    expected: ExpectedOption = None,
    target: TargetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a label point at the version before; again, at the one before that. A service goes with it as for `activate`.

    Example: `recollect model rollback dare`
    """
    if target is not None:
        with admin_at(target) as client:
            moved = client.roll_back_model(name, label=label, expected_version=expected)
        _show_moved_there(name, label, moved, as_json=as_json)
        return
    show_rollback(_models(), name, label, expected, as_json=as_json)


@model_app.command(name="gc")
@explains_errors
def remove_models(name: OptionalName = None, keep: KeepOption = 2, as_json: JsonOption = False) -> None:
    """Remove versions that no label needs and no process uses, and what killed commands left.

    Example: `recollect model gc --keep 1`
    """
    show_removed(_models(), name, keep, as_json=as_json)


def _version_row(version: "ModelVersion") -> dict[str, Any]:
    """What a row tells of a service's version, as of one in this directory."""
    return {
        "name": version.name,
        "version": version.version,
        "labels": list(version.labels),
        "test": dict(version.metrics),
        "mb": round(version.size_bytes / 1e6, 1),
    }


def _show_moved_there(name: str, label: str, moved: "LabelMove", *, as_json: bool) -> None:
    if as_json:
        row = {"name": name, "label": label, "version": moved.version, "before": moved.before or None}
        show_json([{**row, "answers": moved.answers}])
        return
    show_moved(name, label, moved.version, moved.before or None, as_json=False)
    if moved.answers:
        out.print("the service answers with it", highlight=False)


def _model_facts(artifact: "Artifact") -> dict[str, Any]:
    from recollect.artifacts.metrics import measured

    return {"test": measured(artifact)}


def _model_contents(row: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value:.4f}" for key, value in row["test"].items())


def _models() -> "ArtifactStore":
    from recollect.artifacts import MODELS

    return store_of("models", MODELS)
