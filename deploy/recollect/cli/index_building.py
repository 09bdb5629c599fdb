"""What the commands of `recollect index` share: who builds, and how an index and what it is worth are shown."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recollect.cli.console import err, out, show_json, show_table, step_progress
from recollect.settings import Settings

if TYPE_CHECKING:
    from recollect.indexes.building import IndexBuilder
    from recollect.indexes.embedding import PictureEncoder, PicturesToEmbed
    from recollect_api.admin import QualityCheck
    from retrieval.index.quality import Check

WorkersOption = Annotated[
    int | None, typer.Option(min=1, help="Processes that embed pictures, an encoder each; one a processor unless told.")
]
RayOption = Annotated[
    str | None, typer.Option("--ray-address", metavar="ADDRESS", help="Ray cluster to build on; a private node.")
]
_LISTED = 10
"""What cannot be used is listed one by one up to here."""


@contextmanager
def index_builder(settings: Settings, label: str | None, aim: float) -> "Iterator[IndexBuilder]":
    """A builder that tells how far it is."""
    from recollect.artifacts import shared_at
    from recollect.indexes.building import IndexBuilder
    from recollect.indexes.on_ray import shards_on_ray

    with step_progress() as told:
        yield IndexBuilder(
            root=settings.var.resolve() / "indexes",
            shared=shared_at(settings, "indexes"),
            thresholds=settings.index_thresholds,
            label=label,
            aim=aim,
            apply=shards_on_ray(settings),
            threads=os.cpu_count() or 1,
            told=told,
            left_out=lambda refused: show_refused([each.reason for each in refused]),
        )


def pictures_to_embed(
    settings: Settings,
    images: Path,
    encoder: "PictureEncoder",
    workers: int | None,
    told: "Callable[[str, int, int], None]",
) -> "PicturesToEmbed":
    """The pictures of a folder or table, to be embedded on the cluster that the settings name."""
    from recollect.embedded.ray import ray_cluster
    from recollect.indexes.embedding import PicturesToEmbed
    from recollect.indexes.pictures import read_pictures
    from retrieval.images import ImageLimits

    return PicturesToEmbed(
        pictures=read_pictures(images),
        encoder=encoder,
        limits=ImageLimits(max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels),
        connected=lambda: ray_cluster(settings),
        told=partial(told, "embedding"),
        workers=workers,
    )


def show_refused(reasons: Sequence[str], count: int | None = None) -> None:
    """Tell on stderr what could not be used, the first ones one by one; `count` is how many in all."""
    count = len(reasons) if count is None else count
    for reason in reasons[:_LISTED]:
        err.print(reason, highlight=False, soft_wrap=True)
    if count > _LISTED:
        err.print(f"… and {count - _LISTED:,} more that are left out", highlight=False)


def show_built(row: Mapping[str, Any], checks: "Sequence[Check] | Sequence[QualityCheck]", *, as_json: bool) -> None:
    """Say what was built, as a line and a table, or as JSON."""
    if as_json:
        show_json([{**row, **{check.name: check.value for check in checks}}])
        return
    named = f" ({row['index']}@{row['label']})" if row["label"] else ""
    what = f"{row['vectors']:,} vectors of {row['dim']}, {row['spec']}"
    out.print(f"{row['index']}/{row['version']}{named}: {what}", highlight=False, soft_wrap=True)
    merged = row["merged"]
    if any(merged.values()):
        out.print(
            f"of what was added since, {merged['kept']:,} that the source lacks are kept and {merged['dropped']:,} "
            f"dropped; {merged['left_out']:,} of the source stay out because they were deleted",
            highlight=False,
            soft_wrap=True,
        )
    show_checks(checks)


def show_checks(checks: "Sequence[Check] | Sequence[QualityCheck]") -> None:
    """A row a check."""
    rows = [(check.name, "yes" if check.passed else "NO", check.reason) for check in checks]
    show_table("", ["check", "passed", "why"], rows)
