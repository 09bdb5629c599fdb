"""The part of `recollect demo` that finds: an object in a box is looked for elsewhere, changed as a text says."""

from pathlib import Path
from typing import TYPE_CHECKING

from recollect.cli.console import err, out, progress, show_table

if TYPE_CHECKING:
    from recollect.settings import Settings
    from recollect_api.client import RecollectClient
    from recollect_api.composed_records import ComposedResults
    from retrieval.composed.datasets import ComposedDataset, ComposedQuery

MODEL = "world"
"""The shipped model, trained on a drawn world; the demo's objects are others."""
GALLERY = "demo-world"
SHOWN = 5
"""Hits shown and drawn."""


def make_gallery(settings: "Settings", seed: int) -> Path:
    """Draw a small world that no model was trained on, and make a gallery of its pictures; returns the world."""
    from recollect.artifacts import STABLE, shared_at
    from recollect.cli.composed_gallery import encoder_of
    from recollect.composed.building import GalleryBuilder, GalleryOptions
    from recollect.composed.local import gallery_store
    from recollect.composed.sources import read_source
    from retrieval.composed.world import WorldConfig, write_world
    from retrieval.images import ImageLimits

    directory = settings.var.resolve() / "data" / f"world-{seed}"
    # Seeds of training worlds are small. Without doubles in each scene, among which so small a model mostly guesses;
    # here 7 in 10 of the texts that keep a scene find their target first, the one that is shown among them.
    config = WorldConfig(train_families=2, val_families=2, test_families=12, double_share=0.0, seed=4_000 + seed)
    with progress() as bar:
        task = bar.add_task("drawing pictures of marked objects", total=None)
        write_world(directory, config, progress=lambda done, total: bar.update(task, completed=done, total=total))
        store = gallery_store(settings)
        if GALLERY not in store.names():
            task = bar.add_task("making a gallery of them", total=None)
            encoder, made = encoder_of(settings, MODEL)
            builder = GalleryBuilder(
                root=store.root,
                shared=shared_at(settings, "indexes"),
                label=STABLE,
                limits=ImageLimits(),
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
            builder.make(GALLERY, read_source(directory / "test"), encoder, made, GalleryOptions())
    return directory


def show_search(settings: "Settings", client: "RecollectClient", world: Path) -> None:
    """Ask for one object in another light, show what was found, and write reference and hits as one picture."""
    from recollect.cli.composed_picture import draw_search
    from retrieval.composed.datasets import load_dataset

    dataset = load_dataset("oacirr", world, "test")
    query = next(each for each in dataset.queries if each.kind == "keep" and each.box is not None)
    box = query.box
    assert box is not None
    sides = (box.x1, box.y1, box.x2, box.y2)
    reference = _image_id(dataset, world, query.reference)
    found = client.search_composed(
        query.text, gallery=GALLERY, image_id=reference, box=sides, k=SHOWN, explain=True, timeout_s=30.0
    )
    _show(dataset, world, query, found)
    picture = settings.var / "composed-search.png"
    draw_search(settings, found, reference, sides, query.text, picture)
    out.print(f"Reference, attention and hits are drawn in {picture}", highlight=False, soft_wrap=True)


def _show(dataset: "ComposedDataset", world: Path, query: "ComposedQuery", found: "ComposedResults") -> None:
    instances = {_image_id(dataset, world, name): instance for name, instance in dataset.instances.items()}
    wanted = instances[_image_id(dataset, world, query.reference)]
    target = _image_id(dataset, world, str(query.target))
    explanation = found.explanation
    assert explanation is not None
    show_table(
        f"\nThe object in a box of {_image_id(dataset, world, query.reference)}, “{query.text}”, among "
        f"{len(instances):,} pictures by {found.model_name}, β = {sum(found.beta) / len(found.beta):.2f}",
        ["", "score", "picture", "that very object", "as asked"],
        [
            (
                place,
                f"{hit.score:.3f}",
                hit.image_id,
                "yes" if instances[hit.image_id] == wanted else "",
                "◀ target" if hit.image_id == target else "",
            )
            for place, hit in enumerate(found.hits, start=1)
        ],
        right=["", "score"],
    )
    words = ", ".join(f"{each.word} {each.importance:+.3f}" for each in explanation.words)
    err.print(
        f"attention on the box: {explanation.base_box_share:.0%} without it, {explanation.modulated_box_share:.0%} "
        f"with it; what each word is worth: {words}",
        highlight=False,
        soft_wrap=True,
    )


def _image_id(dataset: "ComposedDataset", world: Path, name: str) -> str:
    """What the gallery calls a picture: its path below the folder that the gallery was made of."""
    return dataset.images[name].relative_to(world / "test").as_posix()
