"""`recollect composed index | add | delete | galleries`: the pictures that are searched, in versions."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recollect.artifacts import STABLE, shared_at
from recollect.cli.connecting import COMPOSED_SERVICE, asking, connects
from recollect.cli.console import cell, err, explains_errors, out, progress, show_json, show_table
from recollect.errors import RecollectError
from recollect.settings import Settings

if TYPE_CHECKING:
    from recollect.composed.building import GalleryBuilder, PublishedGallery
    from recollect.composed.galleries import MadeWith
    from retrieval.composed.encoder import ComposedEncoder

_LISTED = 10
"""Unusable pictures that are listed one by one."""
DEFAULT_MODEL = "adafocal@stable"

SourceArgument = Annotated[
    Path,
    typer.Argument(
        metavar="DIR_OR_CSV",
        help="Folder of pictures at any depth, or a CSV with a column `image` and, where it is not the id, `id`.",
        show_default=False,
    ),
]
MetadataOption = Annotated[
    Path | None, typer.Option(help="CSV with a column `id` or `image` and what is known of each picture.")
]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The gallery.", show_default=False)]
LabelOption = Annotated[str, typer.Option(help="Label that is taken and put on the new version.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON lines instead of text.")]


@explains_errors
def index(
    source: SourceArgument,
    name: Annotated[str, typer.Option(help="Name of the gallery.", metavar="NAME")],
    model: Annotated[
        str,
        typer.Option(
            metavar="MODEL",
            help="Model that embeds the pictures and, later, the queries: `adafocal@LABEL`, a directory, or a BLIP-2 "
            "on the hub.",
        ),
    ] = DEFAULT_MODEL,
    metadata: MetadataOption = None,
    storage: Annotated[
        str, typer.Option(help="How vectors are stored: `auto`, `fp32`, `fp16`, `sq8` or `pq`.")
    ] = "auto",
    features: Annotated[
        bool | None,
        typer.Option(
            "--features/--no-features",
            help="Keep what the image encoder made of each picture, so that a search by id need not run it; by default "
            "where that takes at most 2 GiB.",
        ),
    ] = None,
    paths: Annotated[
        bool, typer.Option("--paths/--no-paths", help="Keep where the files are, for searches by id and drawings.")
    ] = True,
    label: Annotated[str, typer.Option(help="Label to put on the new version; empty for none.")] = STABLE,
    as_json: JsonOption = False,
) -> None:
    """Make a gallery of pictures. A running service answers with it within seconds. Killed? Run it again, it goes on.

    Pictures that cannot be used are listed and left out.

    Examples:

    `recollect composed index photos/ --name shop`

    `recollect composed index photos.csv --name shop --model Salesforce/blip2-itm-vit-g --storage sq8`
    """
    from recollect.composed.building import GalleryOptions
    from recollect.composed.sources import read_source

    settings = Settings.load()
    pictures = read_source(source, metadata=metadata)
    with err.status("loading the model"):
        encoder, made = encoder_of(settings, model)
    with _builder(settings, label) as builder:
        options = GalleryOptions(storage=storage, keep_features=features, keep_paths=paths)
        published = builder.make(name, pictures, encoder, made, options)
    _report(published, label, as_json=as_json)


@explains_errors
def add(
    name: NameArgument,
    source: SourceArgument,
    metadata: MetadataOption = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace pictures whose ids are there already.")] = False,
    label: LabelOption = STABLE,
    as_json: JsonOption = False,
) -> None:
    """Add pictures to a gallery, as a new version that answers from then on; the one before stays for a way back.

    Example: `recollect composed add shop new-photos/`
    """
    from recollect.composed.sources import read_source

    settings = Settings.load()
    pictures = read_source(source, metadata=metadata)
    with _builder(settings, label) as builder:
        before = builder.made_with(name)
        encoder, made = encoder_of(settings, before.model)
        if made.fingerprint != before.fingerprint:
            raise RecollectError(
                f"gallery {name!r} was made with {before.model_name} as it was then, and {before.model} is another "
                "model now: make the gallery anew with `recollect composed index`"
            )
        published = builder.add(name, pictures, encoder, before, replace=replace)
    _report(published, label, as_json=as_json)


@explains_errors
def delete(
    name: NameArgument,
    ids: Annotated[list[str], typer.Argument(metavar="ID…", help="Ids of pictures.", show_default=False)],
    label: LabelOption = STABLE,
    as_json: JsonOption = False,
) -> None:
    """Take pictures out of a gallery, as a new version that answers from then on; the one before stays for a way back.

    Example: `recollect composed delete shop shoes/17.jpg`
    """
    with _builder(Settings.load(), label) as builder:
        published = builder.delete(name, ids)
    _report(published, label, as_json=as_json)


@explains_errors
@connects
def galleries(
    target: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Ask the service there; otherwise what this machine's `var` holds."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """The galleries, their versions, and the models that made them."""
    rows = _local() if target is None else _remote(target)
    if as_json:
        show_json(rows)
        return
    columns = ["name", "version", "labels", "images", "storage", "columns", "model", "problem"]
    used = [column for column in columns if any(row.get(column) for row in rows)] or columns
    show_table("", used, [[cell(row.get(column)) for column in used] for row in rows], right=["images"])


def encoder_of(settings: Settings, reference: str) -> "tuple[ComposedEncoder, MadeWith]":
    """The model of `reference`, and what a gallery that it makes says of it."""
    from recollect.composed.galleries import MadeWith
    from recollect.composed.models import shown_model
    from recollect.composed_training import composed_path
    from retrieval.composed.encoder import load_composed

    path = composed_path(settings, reference)
    encoder = load_composed(path)
    shown = shown_model(settings, path)
    # A label may come to mean another model; what it means now does not.
    published = Path(path).is_relative_to(settings.var.resolve() / "models")
    return encoder, MadeWith(model=shown if published else path, model_name=shown, fingerprint=encoder.fingerprint)


@contextmanager
def _builder(settings: Settings, label: str) -> "Iterator[GalleryBuilder]":
    from recollect.composed.building import GalleryBuilder
    from retrieval.images import ImageLimits

    with progress() as bar:
        task = bar.add_task("embedding pictures", total=None, visible=False)
        yield GalleryBuilder(
            root=settings.var.resolve() / "indexes",
            shared=shared_at(settings, "indexes"),
            label=label or None,
            limits=ImageLimits(max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels),
            threads=os.cpu_count() or 1,
            progress=lambda done, total: bar.update(task, completed=done, total=total, visible=True),
        )


def _report(published: "PublishedGallery", label: str, *, as_json: bool) -> None:
    artifact = published.artifact
    row = {
        "gallery": artifact.name,
        "version": artifact.version,
        "label": label or None,
        "images": published.images,
        "storage": published.storage,
        "skipped": [{"image": str(each.path), "reason": each.reason} for each in published.skipped],
    }
    if as_json:
        show_json([row])
    else:
        named = f" ({artifact.name}@{label})" if label else ""
        text = f"{artifact.name}/{artifact.version}{named}: {published.images:,} pictures, {published.storage}"
        out.print(text, highlight=False, soft_wrap=True)
    for each in published.skipped[:_LISTED]:
        err.print(f"{each.path}: {each.reason}", highlight=False, soft_wrap=True)
    if len(published.skipped) > _LISTED:
        err.print(f"… and {len(published.skipped) - _LISTED} more pictures that cannot be used", highlight=False)


def _local() -> list[dict[str, Any]]:
    from recollect.composed.galleries import GALLERY_DIRECTORY, MadeWith
    from recollect.composed.local import gallery_store
    from retrieval.index.gallery import Gallery

    store = gallery_store(Settings.load())
    rows = []
    for name in store.names():
        labels = store.labels(name)
        for version in store.versions_here(name):
            directory = store.root / name / version
            gallery = Gallery.open(directory / GALLERY_DIRECTORY)
            rows.append(
                {
                    "name": name,
                    "version": version,
                    "labels": [label for label, pointed in labels.items() if pointed == version],
                    "images": len(gallery),
                    "storage": str(gallery.storage),
                    "columns": list(gallery.metadata.columns),
                    "model": MadeWith.read(directory).model_name,
                }
            )
    return rows


def _remote(target: str) -> list[dict[str, Any]]:
    with asking(target, serves=COMPOSED_SERVICE) as client:
        found = client.list_galleries().galleries
    return [
        {
            "name": each.name,
            "version": each.version,
            "images": each.images,
            "storage": each.storage,
            "columns": list(each.columns),
            "model": each.model_name,
            "problem": each.problem,
        }
        for each in found
    ]
