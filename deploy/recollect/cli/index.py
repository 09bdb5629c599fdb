"""`recollect index`: rebuild an index of a whole catalogue, see what it is worth, let it answer, and go back."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recollect.cli.console import explains_errors, out, progress, show_json, show_table
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
    show_versions,
    store_of,
)
from recollect.settings import Settings

if TYPE_CHECKING:
    from recollect.artifacts import Artifact, ArtifactStore
    from recollect.indexes.building import IndexBuilder
    from retrieval.index.building import BuildPlan
    from retrieval.index.quality import Verdict
    from retrieval.index.sources import VectorSource

index_app = typer.Typer(
    help="Rebuild an index of a whole catalogue, judge it, let it answer, go back.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


@index_app.command()
@explains_errors
def build(
    name: NameArgument,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Index the items of a model, `dare@stable` for instance.")
    ] = None,
    vectors: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Index Parquet files, or those of a folder, with columns id and vector."),
    ] = None,
    kind: Annotated[str, typer.Option(help="auto, flat, ivf or hnsw.")] = "auto",
    storage: Annotated[str, typer.Option(help="auto, fp32, fp16, sq8 or pq.")] = "auto",
    refine: Annotated[str, typer.Option(help="Compare candidates again as fp32, fp16 or sq8; none.")] = "none",
    memory_mb: Annotated[int, typer.Option(min=1, help="Memory that auto may choose to use.")] = 4096,
    dot: Annotated[bool, typer.Option("--dot", help="Compare by inner product as given, not by the cosine.")] = False,
    aim: Annotated[
        float, typer.Option(min=0, max=1, help="Recall@10 that probes are chosen for; 0: not chosen.")
    ] = 0.97,
    label: Annotated[str, typer.Option(help="Label for the new version if it may answer; empty for none.")] = "stable",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sample that is trained on.")] = 0,
    ray_address: Annotated[
        str | None, typer.Option("--ray-address", metavar="ADDRESS", help="Ray cluster to build on; a private node.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Build an index on Ray, judge it, publish it as a version, and let it answer if it may. Killed? Run it again, it
    goes on.

    A version that misses a threshold (settings `index_min_recall` and others) is kept without the label, the command
    says why and ends with 1, and what answered before does so still.

    Examples:

    `recollect index build items --model dare@stable`

    `recollect index build items --vectors var/vectors/ --kind ivf --storage pq --refine fp16`
    """
    from recollect.indexes.sources import model_items, parquet_files

    settings = Settings.load(ray_address=ray_address)
    if (model is None) == (vectors is None):
        raise typer.BadParameter("name one of --model and --vectors")
    plan = _plan(kind, storage, refine, memory_mb, normalized=not dot, seed=seed)
    source: VectorSource = parquet_files(vectors) if model is None else model_items(settings, model)  # type: ignore[arg-type]
    with _builder(settings, label or None, aim, on_ray=True) as builder:
        built = builder.rebuild(name, source, plan)
    facts = built.index.facts
    if as_json:
        show_json(
            [
                {
                    "index": name,
                    "version": built.artifact.version,
                    "label": label or None,
                    "vectors": facts.count,
                    "dim": facts.dimension,
                    "spec": _spec(built.artifact),
                    **{check.name: check.value for check in built.verdict.checks},
                }
            ]
        )
        return
    named = f" ({name}@{label})" if label else ""
    out.print(
        f"{built.artifact.reference}{named}: {facts.count:,} vectors of {facts.dimension}, {_spec(built.artifact)}",
        highlight=False,
        soft_wrap=True,
    )
    _show_verdict(built.verdict)


@index_app.command(name="list")
@explains_errors
def list_indexes(name: OptionalName = None, as_json: JsonOption = False) -> None:
    """List versions of indexes and galleries, and the labels that point at them.

    Example: `recollect index list`
    """
    show_versions(_indexes(), name, _facts, _contents, as_json=as_json)


@index_app.command()
@explains_errors
def verify(
    reference: Annotated[str, typer.Argument(metavar="INDEX", help="NAME@LABEL or NAME/VERSION.")],
    against: Annotated[str, typer.Option(help="Label of the version to compare with.", metavar="LABEL")] = "stable",
    as_json: JsonOption = False,
) -> None:
    """Compare every file of a version with its hash, and judge it anew beside the one that answers.

    Example: `recollect index verify items@stable`
    """
    from recollect.indexes.building import open_labelled, open_version
    from retrieval.index.quality import judge

    store = _indexes()
    artifact = store.resolve(reference)
    with progress() as bar:
        bar.add_task("judging", total=None)
        live = open_labelled(store, artifact.name, against)
        verdict = judge(open_version(artifact), Settings.load().index_thresholds, live=live)
    if as_json:
        show_json([{"index": artifact.name, "version": artifact.version, **verdict.as_json()}])
    else:
        out.print(f"{artifact.reference} is whole", highlight=False)
        _show_verdict(verdict)
    if not verdict.passed:
        raise typer.Exit(1)


@index_app.command()
@explains_errors
def activate(
    name: NameArgument,
    version: VersionArgument,
    label: LabelOption = "stable",
    expected: ExpectedOption = None,
    as_json: JsonOption = False,
) -> None:
    """Judge a version beside the one that answers, and let a label point at it if it may answer.

    Example: `recollect index activate items 20261128T094952-541de118`
    """
    with _builder(Settings.load(), label, 0, on_ray=False) as builder:
        before = builder.store.labelled(name, label)
        builder.activate(name, version, label=label, expected=expected)
    show_moved(name, label, version, before, as_json=as_json)


@index_app.command()
@explains_errors
def rollback(
    name: NameArgument, label: LabelOption = "stable", expected: ExpectedOption = None, as_json: JsonOption = False
) -> None:
    """Let a label point at the version before, its hashes checked; again, at the one before that.

    Example: `recollect index rollback items`
    """
    show_rollback(_indexes(), name, label, expected, as_json=as_json)


@index_app.command()
@explains_errors
def gc(name: OptionalName = None, keep: KeepOption = 2, as_json: JsonOption = False) -> None:
    """Remove versions that no label needs and no process uses, and what killed commands left.

    Example: `recollect index gc`
    """
    show_removed(_indexes(), name, keep, as_json=as_json)


def _plan(kind: str, storage: str, refine: str, memory_mb: int, *, normalized: bool, seed: int) -> "BuildPlan":
    from retrieval.index.building import BuildPlan
    from retrieval.index.spec import Kind, Storage, choose_spec

    wanted_kind = None if kind == "auto" else _one_of(Kind, "--kind", kind)
    wanted_storage = None if storage == "auto" else _one_of(Storage, "--storage", storage)
    wanted_refine = None if refine == "none" else _one_of(Storage, "--refine", refine)
    return BuildPlan(
        choose=lambda count, dimension: choose_spec(
            count,
            dimension,
            kind=wanted_kind,
            storage=wanted_storage,
            refine=wanted_refine,
            memory_bytes=memory_mb << 20,
        ),
        normalized=normalized,
        seed=seed,
    )


def _one_of(choices: Any, option: str, value: str) -> Any:
    try:
        return choices(value)
    except ValueError:
        raise typer.BadParameter(f"{option} must be one of {', '.join(choices)}, got {value!r}") from None


@contextmanager
def _builder(settings: Settings, label: str | None, aim: float, *, on_ray: bool) -> "Iterator[IndexBuilder]":
    """A builder that tells how far it is; with `on_ray` shards are made on the cluster."""
    from recollect.embedded.ray import ray_cluster
    from recollect.indexes.building import IndexBuilder
    from recollect.indexes.on_ray import apply_on_ray

    with progress() as bar:
        tasks: dict[str, Any] = {}

        def told(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bar.add_task(step, total=None)
            bar.update(tasks[step], completed=done, total=total)

        def shards(function: Any, given: Any, /) -> Iterator[None]:
            given = list(given)
            if given and on_ray:
                with ray_cluster(settings):
                    yield from apply_on_ray(function, given)

        yield IndexBuilder(
            root=settings.var.resolve() / "indexes",
            thresholds=settings.index_thresholds,
            label=label,
            aim=aim,
            apply=shards,
            threads=os.cpu_count() or 1,
            told=told,
        )


def _indexes() -> "ArtifactStore":
    """Galleries among them, which are listed and removed likewise."""
    from recollect.artifacts import INDEXES_AND_GALLERIES

    return store_of("indexes", INDEXES_AND_GALLERIES)


def _facts(artifact: "Artifact") -> dict[str, Any]:
    """What a row tells of an index; of a gallery only that it is one."""
    import json

    from recollect.indexes.building import INDEX_DIRECTORY, VERDICT_FILE

    manifest = artifact.directory / INDEX_DIRECTORY / "manifest.json"
    if not manifest.is_file():
        return {"kind": "gallery"}
    facts = json.loads(manifest.read_text())["facts"]
    verdict = json.loads((artifact.directory / VERDICT_FILE).read_text())
    return {
        "kind": "index",
        "vectors": facts["count"],
        "dim": facts["dimension"],
        "spec": _spec(artifact),
        "source": facts["source"],
        "may_answer": verdict["passed"],
        **{check["name"]: check["value"] for check in verdict["checks"]},
    }


def _contents(row: dict[str, Any]) -> str:
    if row["kind"] == "gallery":
        return "gallery: see `recollect composed galleries`"
    source = row["source"].get("model") or row["source"].get("kind", "")
    refused = "" if row["may_answer"] else ", MAY NOT ANSWER"
    return f"{row['vectors']:,} × {row['dim']} of {source}, {row['spec']}, recall@10 {row['recall']:.3f}{refused}"


def _spec(artifact: "Artifact") -> str:
    """The index as FAISS names it, and what a search looks through."""
    import json

    from recollect.indexes.building import INDEX_DIRECTORY
    from retrieval.index.vector_index import IndexFacts

    manifest = json.loads((artifact.directory / INDEX_DIRECTORY / "manifest.json").read_text())
    facts = IndexFacts.from_json(manifest["facts"])
    return facts.spec.factory(facts.dimension) + (f" · {facts.spec.probes}" if facts.spec.probes else "")


def _show_verdict(verdict: "Verdict") -> None:
    rows = [(check.name, "yes" if check.passed else "NO", check.reason) for check in verdict.checks]
    show_table("", ["check", "passed", "why"], rows)
