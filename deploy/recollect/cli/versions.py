"""What `recollect model` and `recollect index` have in common: their arguments, and how versions are shown."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recollect.cli.console import cell, out, show_json, show_table
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


def show_versions(
    store: "ArtifactStore",
    name: str | None,
    describe: Describe,
    contents: Callable[[dict[str, Any]], str],
    *,
    as_json: bool,
) -> None:
    """List every version, of `name` or of all, oldest first; `contents` says for people what `describe` found."""
    rows: list[dict[str, Any]] = []
    for each in [name] if name else store.names():
        labels = store.labels(each)
        for version in _require_versions(store, each) if name else store.versions(each):
            try:
                artifact = store.version(each, version)
                row = {
                    "name": each,
                    "version": version,
                    "labels": [label for label, pointed in labels.items() if pointed == version],
                    **describe(artifact),
                    "mb": round(store.bytes_of(artifact) / 1e6, 1),
                    **_where(store, each, version),
                }
            except Exception:
                if version in store.versions(each):
                    raise
                continue
            if artifact.directory.is_dir():  # it may have been removed while it was looked at
                rows.append(row)
    show_rows(rows, contents, as_json=as_json)


def show_rows(rows: list[dict[str, Any]], contents: Callable[[dict[str, Any]], str], *, as_json: bool) -> None:
    """Show versions, each with its name, version, labels and mb; `contents` says for people what else is there."""
    if as_json:
        show_json(rows)
        return
    shared = any("where" in row for row in rows)
    cells = [
        [
            f"{row['name']}/{row['version']}",
            ", ".join(row["labels"]),
            contents(row),
            f"{row['mb']:,}",
            *([", ".join(row["where"])] if shared else []),
        ]
        for row in rows
    ]
    show_table("", ["version", "labels", "contents", "MB", *(["where"] if shared else [])], cells, right=["MB"])


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
    from recollect.artifacts.workplace import remove_unfinished, unfinished_names
    from recollect.errors import AlreadyRunning

    rows, begun = [], unfinished_names(store.root)
    for each in [name] if name else sorted({*store.names(), *begun}):
        if each not in begun:
            _require_versions(store, each)
        removed = store.remove_unneeded(each, keep=keep)
        try:
            unfinished, being_built = remove_unfinished(store.root, each, store.kind.noun), False
        except AlreadyRunning:
            unfinished, being_built = 0, True
        rows.append(
            {
                "name": each,
                "removed": list(removed.versions),
                **({"evicted": list(removed.evicted)} if store.is_shared else {}),
                "in use": list(removed.held),
                "being built": being_built,
                "leftovers": removed.leftovers + bool(unfinished),
                "mb": round((removed.bytes + unfinished) / 1e6, 1),
            }
        )
    if as_json:
        show_json(rows)
        return
    columns = ["name", "removed", *(["evicted"] if store.is_shared else []), "in use", "being built", "leftovers", "mb"]
    for row in rows:
        row["being built"] = "yes" if row["being built"] else ""
    cells = [[cell(row[column]) for column in columns] for row in rows]
    show_table("", columns, cells, right=["leftovers", "mb"])


def store_of(folder: str, kind: "ArtifactKind") -> "ArtifactStore":
    """Versions below a folder of `var`."""
    from recollect.artifacts import store_in

    return store_in(Settings.load(), folder, kind)


def _where(store: "ArtifactStore", name: str, version: str) -> dict[str, list[str]]:
    """Whether a version is here, shared or both, where machines share versions."""
    return {"where": store.where(name, version)} if store.is_shared else {}


def _require_versions(store: "ArtifactStore", name: str) -> list[str]:
    from recollect.errors import ArtifactError

    versions = store.versions(name)
    if not versions:
        have = ", ".join(store.names()) or "none"
        raise ArtifactError(f"there is no {name!r} in {store.place}; there is {have}")
    return versions
