"""`recollect index add | delete`: change the index that answers in seconds; the next build merges what was changed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recollect.cli.console import explains_errors, out, show_json
from recollect.cli.index_building import (
    RayOption,
    WorkersOption,
    index_builder,
    pictures_to_embed,
    show_checks,
    show_refused,
)
from recollect.cli.versions import JsonOption, NameArgument
from recollect.settings import Settings

if TYPE_CHECKING:
    from recollect.indexes.increments import Increment

_Label = Annotated[str, typer.Option(help="Label that is taken and put on the new version.", metavar="LABEL")]


@explains_errors
def add(
    name: NameArgument,
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE",
            help="Parquet files, or those of a folder, with columns id and vector; embedded with what the index was.",
            show_default=False,
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR_OR_TABLE",
            help="Pictures instead, as `recollect index build` takes them, of an index that it made of pictures.",
        ),
    ] = None,
    workers: WorkersOption = None,
    ray_address: RayOption = None,
    label: _Label = "stable",
    as_json: JsonOption = False,
) -> None:
    """Add vectors to the index that answers, as a new version that answers from then on; the one before stays for a way
    back. An id that is there gets the new vector.

    What was added is compared exactly in every search, beside the base, and is part of the base after the next
    `recollect index build`. Vectors that do not fit are told one by one and left out; the exit status is then 1.

    Examples:

    `recollect index add items new-items.parquet`

    `recollect index add photos --images new-photos/`
    """
    from recollect.indexes.increments import add_pictures, add_vectors
    from recollect.indexes.sources import encoder_of_index, files_of

    if (images is None) == (not files):
        raise typer.BadParameter("say what to add: Parquet files, or --images")
    settings = Settings.load(ray_address=ray_address)
    with index_builder(settings, label, 0) as builder:
        if images is None:
            done = add_vectors(builder, name, files_of(files or []))
        else:
            folder = images
            done = add_pictures(
                builder,
                name,
                lambda source: pictures_to_embed(
                    settings, folder, encoder_of_index(settings, source), workers, builder.told
                ),
            )
    _report(done, label, as_json=as_json)


@explains_errors
def delete(
    name: NameArgument,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]", help="Parquet file with a column id, or text with an id a line.", show_default=False
        ),
    ] = None,
    ids: Annotated[list[str] | None, typer.Option("--id", metavar="ID", help="Id to delete; repeatable.")] = None,
    label: _Label = "stable",
    as_json: JsonOption = False,
) -> None:
    """Delete ids from the index that answers, as a new version that answers from then on; the one before stays for a
    way back. Later builds leave them out until they are added again.

    Ids that are not there are told and the others deleted; the exit status is then 1.

    Examples:

    `recollect index delete items --id 17 --id 19`

    `recollect index delete items withdrawn.parquet`
    """
    from recollect.indexes.increments import delete_ids
    from retrieval.index.increment_input import read_ids_to_delete

    if file is None and not ids:
        raise typer.BadParameter("say what to delete: --id, or a file of ids")
    given = [*(ids or []), *([] if file is None else read_ids_to_delete(file))]
    with index_builder(Settings.load(), label, 0) as builder:
        done = delete_ids(builder, name, given)
    _report(done, label, as_json=as_json)


def _report(done: "Increment", label: str, *, as_json: bool) -> None:
    artifact, facts = done.artifact, done.index.facts
    if as_json:
        row = {
            "index": artifact.name,
            "version": artifact.version,
            "label": label,
            "vectors": facts.count,
            "added": done.added,
            "replaced": done.replaced,
            "deleted": done.deleted,
            "refused": [{"id": each.id, "reason": each.reason} for each in done.refused],
            "advice": done.advice,
            **{check.name: check.value for check in done.verdict.checks},
        }
        show_json([row])
    else:
        what = f"{done.deleted:,} deleted" if done.deleted else f"{done.added:,} added, {done.replaced:,} of them anew"
        out.print(
            f"{artifact.reference} ({artifact.name}@{label}): {what}; {facts.count:,} vectors of {facts.dimension}",
            highlight=False,
            soft_wrap=True,
        )
        show_checks(done.verdict.checks)
        if done.advice is not None:
            out.print(done.advice, style="yellow", highlight=False, soft_wrap=True)
    show_refused([each.reason for each in done.refused])
    if done.refused:
        raise typer.Exit(1)
