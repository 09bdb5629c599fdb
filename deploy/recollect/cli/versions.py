"""`recollect model` and the part of `recollect index` that is the same: list, verify, activate, roll back, remove."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recollect.cli.console import explains_errors, out, show_json, show_table
from recollect.settings import Settings

if TYPE_CHECKING:
    from recollect.artifacts import Artifact, ArtifactKind, ArtifactStore

Describe = Callable[["Artifact"], dict[str, Any]]
"""What a row of a list tells of a version besides its name, labels, time and size."""

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Which one.", show_default=False)]
OptionalName = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="Which one; all unless told.", show_default=False)
]
VersionArgument = Annotated[str, typer.Argument(metavar="VERSION", help="Which version, as `list` shows it.")]
LabelOption = Annotated[str, typer.Option(help="Label to move.", metavar="LABEL")]
ExpectedOption = Annotated[
    str | None,
    typer.Option(metavar="VERSION", help="Refuse unless the label points at this version now: nobody was faster."),
]
KeepOption = Annotated[
    int, typer.Option(min=0, help="Versions to keep for each label besides the one that it points at.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON lines.")]


def model_store() -> "ArtifactStore":
    """Models of this deployment."""
    from recollect.artifacts import MODELS

    return _store("models", MODELS)


def index_store() -> "ArtifactStore":
    """Indexes and galleries of this deployment."""
    from recollect.artifacts import INDEXES_AND_GALLERIES

    return _store("indexes", INDEXES_AND_GALLERIES)


def show_versions(
    store: "ArtifactStore",
    name: str | None,
    describe: Describe,
    contents: Callable[[dict[str, Any]], str],
    *,
    as_json: bool,
) -> None:
    """List every version, of `name` or of all, oldest first; `contents` says for people what `describe` found."""
    from recollect.artifacts import Artifact

    rows = []
    for each in [name] if name else store.names():
        labels = store.labels(each)
        for version in _require_versions(store, each):
            artifact = Artifact(name=each, version=version, directory=store.root / each / version)
            rows.append(
                {
                    "name": each,
                    "version": version,
                    "labels": [label for label, pointed in labels.items() if pointed == version],
                    **describe(artifact),
                    "mb": round(_bytes(artifact.directory) / 1e6, 1),
                }
            )
    if as_json:
        show_json(rows)
        return
    cells = [
        [f"{row['name']}/{row['version']}", ", ".join(row["labels"]), contents(row), f"{row['mb']:,}"] for row in rows
    ]
    show_table("", ["version", "labels", "contents", "MB"], cells, right=["MB"])


def show_rollback(store: "ArtifactStore", name: str, label: str, expected: str | None, *, as_json: bool) -> None:
    """Roll a label back and say to what."""
    before = store.labelled(name, label)
    version = store.roll_back(name, label, expected=expected)
    show_moved(name, label, version, before, as_json=as_json)


def show_moved(name: str, label: str, version: str, before: str | None, *, as_json: bool) -> None:
    """Say where a label points now."""
    if as_json:
        show_json([{"name": name, "label": label, "version": version, "before": before}])
    else:
        out.print(f"{name}@{label} is {version} now, before {before or 'nothing'}", highlight=False, soft_wrap=True)


def show_removed(store: "ArtifactStore", name: str | None, keep: int, *, as_json: bool) -> None:
    """Remove what is not needed, of `name` or of all, and say what."""
    from recollect.artifacts.workplace import remove_unfinished

    rows = []
    for each in [name] if name else store.names():
        _require_versions(store, each)
        removed = store.remove_unneeded(each, keep=keep)
        unfinished = remove_unfinished(store.root, each, store.kind.noun)
        rows.append(
            {
                "name": each,
                "removed": list(removed.versions),
                "in use": list(removed.held),
                "leftovers": removed.leftovers + bool(unfinished),
                "mb": round((removed.bytes + unfinished) / 1e6, 1),
            }
        )
    if as_json:
        show_json(rows)
        return
    columns = ["name", "removed", "in use", "leftovers", "mb"]
    cells = [[_cell(row[column]) for column in columns] for row in rows]
    show_table("", columns, cells, right=["leftovers", "mb"])


def _store(folder: str, kind: "ArtifactKind") -> "ArtifactStore":
    from recollect.artifacts import ArtifactStore

    return ArtifactStore(Settings.load().var.resolve() / folder, kind=kind)


def _require_versions(store: "ArtifactStore", name: str) -> list[str]:
    from recollect.errors import ArtifactError

    versions = store.versions(name)
    if not versions:
        have = ", ".join(store.names()) or "none"
        raise ArtifactError(f"there is no {name!r} in {store.root}; there is {have}")
    return versions


def _bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def _cell(value: object) -> object:
    return ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else value


model_app = typer.Typer(
    help="Versions of models: which there are, which answers, and the way back.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


@model_app.command(name="list")
@explains_errors
def list_models(name: OptionalName = None, as_json: JsonOption = False) -> None:
    """List versions of models and the labels that point at them.

    Example: `recollect model list dare`
    """
    show_versions(model_store(), name, _model_facts, _model_contents, as_json=as_json)


@model_app.command(name="verify")
@explains_errors
def verify_model(
    reference: Annotated[str, typer.Argument(metavar="MODEL", help="NAME@LABEL or NAME/VERSION.")],
    as_json: JsonOption = False,
) -> None:
    """Compare every file of a version with its hash.

    Example: `recollect model verify dare@stable`
    """
    artifact = model_store().resolve(reference)
    if as_json:
        show_json([{"name": artifact.name, "version": artifact.version, "whole": True}])
    else:
        out.print(f"{artifact.reference} is whole", highlight=False)


@model_app.command(name="activate")
@explains_errors
def activate_model(
    name: NameArgument,
    version: VersionArgument,
    label: LabelOption = "stable",
    expected: ExpectedOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a label point at a version, its hashes checked first.

    Example: `recollect model activate dare 20261128T094952-541de118`
    """
    store = model_store()
    store.resolve(f"{name}/{version}")
    before = store.labelled(name, label)
    store.set_label(name, label, version, expected=expected)
    show_moved(name, label, version, before, as_json=as_json)


@model_app.command(name="rollback")
@explains_errors
def roll_model_back(
    name: NameArgument, label: LabelOption = "stable", expected: ExpectedOption = None, as_json: JsonOption = False
) -> None:
    """Let a label point at the version before; again, at the one before that.

    Example: `recollect model rollback dare`
    """
    show_rollback(model_store(), name, label, expected, as_json=as_json)


@model_app.command(name="gc")
@explains_errors
def remove_models(name: OptionalName = None, keep: KeepOption = 2, as_json: JsonOption = False) -> None:
    """Remove versions that no label needs and no process uses, and what killed commands left.

    Example: `recollect model gc --keep 1`
    """
    show_removed(model_store(), name, keep, as_json=as_json)


def _model_facts(artifact: "Artifact") -> dict[str, Any]:
    import json

    try:
        found = json.loads((artifact.directory / "metrics.json").read_text()).get("test", {})
    except (OSError, ValueError, AttributeError):
        found = {}
    return {"test": {key: value for key, value in found.items() if isinstance(value, float)}}


def _model_contents(row: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value:.4f}" for key, value in row["test"].items())
