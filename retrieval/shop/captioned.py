"""Give pictures of items the texts that belong to them, so that an encoder can be trained on the demo shop."""

import csv
import os
import re
import shutil
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import numpy as np

from retrieval.descriptors.descriptor_set import DescriptorSet, load_descriptor_set
from retrieval.encoders.training.captions import captions_of
from retrieval.errors import DatasetError
from retrieval.shop.names import parse
from retrieval.shop.picture import render

CAPTIONS_FILE = "captions.csv"
COLUMNS = ("image", "caption")
"""Of `CAPTIONS_FILE`: the picture's path relative to the file, and one text that belongs to it."""
DESCRIPTORS = "demo-shop"
"""The shipped descriptor set that describes the pictures."""
_QUALITY = 90


def captions(name: str) -> list[str]:
    """Texts that belong to a picture of the item: its name, and what is true of its product."""
    descriptors = _descriptors()
    at = descriptors.index_of(parse(name).product)
    return list(dict.fromkeys((name, f"a photo of a {name}.", *captions_of(descriptors, at))))


def write_pictures(
    names: Iterable[str],
    directory: Path,
    per_item: int,
    seed: int,
    *,
    size: int = 128,
    progress: Callable[[str, int, int | None], None] | None = None,
) -> Path:
    """Write `per_item` JPEGs of each item into a folder per product, and `CAPTIONS_FILE`, whose path is returned.

    `directory` must be new or empty; it appears whole or not at all. Pictures of another `seed` are others, and of a
    larger `per_item` the first ones are the same. `progress(stage, done, total)` is told of each item.
    """
    if per_item < 1:
        raise ValueError(f"per_item must be at least 1, got {per_item}")
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise DatasetError(f"{directory} must be a new or empty folder, but something is there; choose another")
    products = {name: parse(name).product for name in names}
    partial = directory.with_name(f".{directory.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    with (partial / CAPTIONS_FILE).open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for number, (name, product) in enumerate(products.items()):
            folder = partial / product
            folder.mkdir(exist_ok=True)
            texts = captions(name)
            for copy in range(per_item):
                path = folder / f"{_file_name(name)}-{number}-{copy}.jpg"
                picture_seed = int(np.random.default_rng([seed, copy]).integers(2**62))
                render(name, seed=picture_seed, size=size).save(path, quality=_QUALITY)
                rows.writerows((path.relative_to(partial).as_posix(), text) for text in texts)
            if progress is not None:
                progress("drawing pictures", number + 1, len(products))
        file.flush()
        os.fsync(file.fileno())
    if directory.exists():
        directory.rmdir()
    partial.rename(directory)
    return directory / CAPTIONS_FILE


def first_pictures(table: Path) -> dict[str, str]:
    """Item's name → path, relative to the folder, of its first picture, by what `write_pictures` returned."""
    with table.open(encoding="utf-8", newline="") as file:
        first: dict[str, str] = {}
        for row in csv.DictReader(file):
            # A name is a caption of its own pictures alone.
            first.setdefault(row["caption"], row["image"])
    return first


def _file_name(name: str) -> str:
    """The name with hyphens for all but letters and digits."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:80]


@cache
def _descriptors() -> DescriptorSet:
    return load_descriptor_set(DESCRIPTORS)
