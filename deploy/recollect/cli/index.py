"""`recollect index`: rebuild an index of a whole catalogue, see what it is worth, let it answer, and go back."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recollect.cli.connecting import connects
from recollect.cli.console import explains_errors, out, progress, show_json
from recollect.cli.index_building import (
    RayOption,
    WorkersOption,
    index_builder,
    pictures_to_embed,
    show_built,
    show_checks,
)
from recollect.cli.index_changes import add, delete
from recollect.cli.index_remote import BuildThere, build_there, cancel, operations, version_row, watch
from recollect.cli.index_search import search
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
from recollect.settings import Settings

if TYPE_CHECKING:
    from recollect.artifacts import Artifact, ArtifactStore
    from recollect.indexes.plans import SpecWanted
    from retrieval.index.sources import VectorSource

index_app = typer.Typer(
    help="Rebuild an index of a whole catalogue, judge it, let it answer, go back.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


@index_app.command()
@explains_errors
@connects
def build(
    name: NameArgument,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Index the items of a model, `dare@stable` for instance.")
    ] = None,
    vectors: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Index Parquet files, or those of a folder, with columns id and vector."),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR_OR_TABLE",
            help="Embed and index pictures: a folder at any depth, a CSV of paths with a column image, or Parquet with "
            "columns id and image (paths or bytes).",
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="What embeds --images: a shipped encoder, `encoder@LABEL`, a directory, or one on the hub; setting "
            "`encoder` unless told."
        ),
    ] = None,
    workers: WorkersOption = None,
    gallery: Annotated[
        str | None,
        typer.Option(metavar="GALLERY", help="Index pictures of a gallery as a whole, `shop@stable` for instance."),
    ] = None,
    kind: Annotated[str, typer.Option(help="auto, flat, ivf or hnsw.")] = "auto",
    storage: Annotated[str, typer.Option(help="auto, fp32, fp16, sq8 or pq.")] = "auto",
    refine: Annotated[str, typer.Option(help="Compare candidates again as fp32, fp16 or sq8; none.")] = "none",
    memory_mb: Annotated[int, typer.Option(min=1, help="Memory that auto may choose to use.")] = 4096,
    dot: Annotated[bool, typer.Option("--dot", help="Compare by inner product as given, not by the cosine.")] = False,
    drop_added: Annotated[
        bool,
        typer.Option("--drop-added", help="Drop what `recollect index add` added and the source lacks."),
    ] = False,
    restore_deleted: Annotated[
        bool,
        typer.Option("--restore-deleted", help="Take back in what `recollect index delete` deleted, from the source."),
    ] = False,
    aim: Annotated[
        float, typer.Option(min=0, max=1, help="Recall@10 that probes are chosen for; 0: not chosen.")
    ] = 0.97,
    label: Annotated[str, typer.Option(help="Label for the new version if it may answer; empty for none.")] = "stable",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sample that is trained on.")] = 0,
    ray_address: RayOption = None,
    target: TargetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Build an index on Ray, judge it, publish it as a version, and let it answer if it may. Killed? Run it again, it
    goes on.

    A version that misses a threshold (settings `index_min_recall` and others) is kept without the label, the command
    says why and ends with 1, and what answered before does so still. Nothing is compared with one that is damaged.

    Pictures are embedded on Ray Data; those that cannot be used are named and left out, and so are rows of ids and
    vectors, up to a share (setting `index_max_bad_rows`). Of a gallery, each picture gets the mean of its vectors, so
    that pictures are found that are alike as a whole.

    What was added and deleted since is merged: the source's vectors win; ids that were deleted stay out of this build
    and later ones until they are added again; what was added stays in until the source has it, if the same model
    embedded both. Otherwise nothing is built until you say `--drop-added`.

    With `--target` a running service builds, slower than it serves, of --model, --gallery or --vectors, which are then
    paths below its directory of build sources. Ctrl-C leaves the build to the service (see `watch` and `cancel`).

    Examples:

    `recollect index build items --model dare@stable`

    `recollect index build items --vectors var/vectors/ --kind ivf --storage pq --refine fp16`

    `recollect index build photos --images photos/ --encoder openai/clip-vit-base-patch32`

    `recollect index build looks --gallery shop@stable`

    `recollect index build items --model dare@stable --target localhost:50052`
    """
    from recollect.indexes.embedding import PicturesToEmbed
    from recollect.indexes.facts import facts_of
    from recollect.indexes.merging import MergePolicy
    from recollect.indexes.sources import gallery_pictures, model_items, parquet_files, picture_encoder

    if sum(given is not None for given in (model, vectors, images, gallery)) != 1:
        raise typer.BadParameter("name one of --model, --vectors, --images and --gallery")
    if images is None and (encoder is not None or workers is not None):
        raise typer.BadParameter("--encoder and --workers say how --images are embedded; name these, or leave them out")
    wanted = _wanted(kind, storage, refine, memory_mb, normalized=not dot, seed=seed)
    merge = MergePolicy(drop_added=drop_added, restore_deleted=restore_deleted)
    if target is not None:
        if images is not None or ray_address is not None:
            raise typer.BadParameter("a service builds neither of --images nor with --ray-address; leave --target out")
        request = BuildThere(name, model, vectors, gallery, wanted, aim, label, merge)
        build_there(target, request, as_json=as_json)
        return
    settings = Settings.load(ray_address=ray_address)
    with index_builder(settings, label or None, aim) as builder:
        source: VectorSource | PicturesToEmbed
        if images is not None:
            source = pictures_to_embed(
                settings, images, picture_encoder(settings, encoder or settings.encoder), workers, builder.told
            )
        elif gallery is not None:
            source = gallery_pictures(settings, gallery)
        elif vectors is not None:
            source = parquet_files(settings, vectors, builder.told)
        else:
            source = model_items(settings, str(model))
        built = builder.rebuild(name, source, wanted.plan(), merge=merge)
    facts, merged = facts_of(built.artifact), built.merging
    counts = {"kept": len(merged.changes.kept), "left_out": merged.left_out, "dropped": len(merged.dropped)}
    row = {
        "index": name,
        "version": built.artifact.version,
        "label": label or None,
        "vectors": facts.index.count,
        "dim": facts.index.dimension,
        "spec": facts.spec,
        "merged": counts,
        "refused_count": len(built.refused),
        "refused": [{"id": each.id, "reason": each.reason} for each in built.refused],
    }
    show_built(row, built.verdict.checks, as_json=as_json)


index_app.command()(add)
index_app.command()(delete)
index_app.command()(search)
index_app.command()(operations)
index_app.command()(watch)
index_app.command()(cancel)


@index_app.command(name="list")
@explains_errors
@connects
def list_indexes(name: OptionalName = None, target: TargetOption = None, as_json: JsonOption = False) -> None:
    """List versions of indexes and galleries, and the labels that point at them; of a service its indexes.

    Example: `recollect index list`
    """
    if target is not None:
        with admin_at(target) as client:
            found = [version_row(version) for version in client.index_versions(name or "")]
        show_rows(found, _contents, as_json=as_json)
        return
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
    from recollect.indexes.building import judge_version

    store = _indexes()
    artifact = store.verify(reference)
    with progress() as bar:
        bar.add_task("judging", total=None)
        thresholds = Settings.load().index_thresholds
        verdict = judge_version(store, artifact, against=against, thresholds=thresholds).verdict
    if as_json:
        show_json([{"index": artifact.name, "version": artifact.version, **verdict.as_json()}])
    else:
        out.print(f"{artifact.reference} is whole", highlight=False)
        show_checks(verdict.checks)
    if not verdict.passed:
        raise typer.Exit(1)


@index_app.command()
@explains_errors
@connects
def activate(
    name: NameArgument,
    version: VersionArgument,
    label: LabelOption = "stable",
    expected: ExpectedOption = None,
    target: TargetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Judge a version beside the one that answers, and let a label point at it if it may answer.

    Example: `recollect index activate items 20261128T094952-541de118`
    """
    if target is not None:
        with admin_at(target) as client:
            moved = client.activate_index(name, version, label=label, expected_version=expected)
        show_moved(name, label, moved.version, moved.before or None, as_json=as_json)
        return
    with index_builder(Settings.load(), label, 0) as builder:
        before = builder.store.labelled(name, label)
        builder.activate(name, version, label=label, expected=expected)
    show_moved(name, label, version, before, as_json=as_json)


@index_app.command()
@explains_errors
@connects
def rollback(
    name: NameArgument,
    label: LabelOption = "stable",
    expected: ExpectedOption = None,
    target: TargetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a label point at the version before, its hashes checked; again, at the one before that.

    Example: `recollect index rollback items`
    """
    if target is not None:
        with admin_at(target) as client:
            moved = client.roll_back_index(name, label=label, expected_version=expected)
        show_moved(name, label, moved.version, moved.before or None, as_json=as_json)
        return
    show_rollback(_indexes(), name, label, expected, as_json=as_json)


@index_app.command()
@explains_errors
def gc(name: OptionalName = None, keep: KeepOption = 2, as_json: JsonOption = False) -> None:
    """Remove versions that no label needs and no process uses, and what killed commands left.

    Example: `recollect index gc`
    """
    show_removed(_indexes(), name, keep, as_json=as_json)


def _wanted(kind: str, storage: str, refine: str, memory_mb: int, *, normalized: bool, seed: int) -> "SpecWanted":
    from recollect.indexes.plans import SpecWanted
    from retrieval.index.spec import Kind, Storage

    return SpecWanted(
        kind=None if kind == "auto" else _one_of(Kind, "--kind", kind),
        storage=None if storage == "auto" else _one_of(Storage, "--storage", storage),
        refine=None if refine == "none" else _one_of(Storage, "--refine", refine),
        memory_bytes=memory_mb << 20,
        normalized=normalized,
        seed=seed,
    )


def _one_of(choices: Any, option: str, value: str) -> Any:
    try:
        return choices(value)
    except ValueError:
        raise typer.BadParameter(f"{option} must be one of {', '.join(choices)}, got {value!r}") from None


def _indexes() -> "ArtifactStore":
    """Galleries among them, which are listed and removed likewise."""
    from recollect.artifacts import INDEXES_AND_GALLERIES

    return store_of("indexes", INDEXES_AND_GALLERIES)


def _facts(artifact: "Artifact") -> dict[str, Any]:
    """What a row tells of an index, or what is wrong with it; of a gallery only that it is one."""
    from recollect.errors import VersionDamaged
    from recollect.indexes.facts import facts_of, holds_an_index

    if not holds_an_index(artifact):
        return {"kind": "gallery"}
    try:
        facts = facts_of(artifact)
    except VersionDamaged as error:
        return {"kind": "index", "problem": str(error)}
    base = facts.index.base
    return {
        "kind": "index",
        "vectors": facts.index.count,
        "dim": facts.index.dimension,
        "spec": facts.spec,
        "source": facts.index.source,
        "base": None if base is None else asdict(base),
        "may_answer": facts.verdict.passed,
        **{check.name: check.value for check in facts.verdict.checks},
    }


def _contents(row: dict[str, Any]) -> str:
    if row["kind"] == "gallery":
        return "gallery: see `recollect composed galleries`"
    if row.get("problem"):
        return f"DAMAGED: {row['problem']}"
    from recollect.indexes.sources import shown_source

    source = shown_source(row["source"])
    refused = "" if row["may_answer"] else ", MAY NOT ANSWER"
    changed = f", changed since {row['base']['version']}" if row["base"] else ""
    contents = f"{row['vectors']:,} × {row['dim']} of {source}, {row['spec']}, recall@10 {row['recall']:.3f}"
    return f"{contents}{changed}{refused}"
