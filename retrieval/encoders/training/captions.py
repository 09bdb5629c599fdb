"""Which captions belong to which pictures: from a table of pairs, or from labels and descriptions of the classes."""

import csv
import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from retrieval.descriptors.composition import compose
from retrieval.descriptors.dataset import LabelledImages
from retrieval.descriptors.descriptor_set import DescriptorSet
from retrieval.errors import DatasetError
from retrieval.files import file_key

NAMELESS = "a product"
"""Stands for the class in captions that tell a descriptor without the name.

They make the descriptors mean something by themselves, which is what recognises a class that was never trained on.
"""
_COLUMNS = ("image", "caption")


@dataclass(frozen=True, kw_only=True)
class CaptionedImages:
    """Pictures and their captions; pictures that show the same share theirs."""

    paths: tuple[Path, ...]
    """N files."""
    captions: tuple[str, ...]
    """Every caption once."""
    own: tuple[tuple[int, ...], ...]
    """Positions in `captions` of what is true of each picture, at least one, ascending."""

    @cached_property
    def digest(self) -> str:
        """Names this data: other files or captions have another one, and a picture that was replaced, too."""
        content = [[file_key(path) for path in self.paths], self.captions, self.own]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def to_json(self) -> str:
        """For a worker of another process."""
        return json.dumps({"paths": [str(path) for path in self.paths], "captions": self.captions, "own": self.own})

    @classmethod
    def from_json(cls, text: str) -> "CaptionedImages":
        """What `to_json` wrote."""
        read = json.loads(text)
        paths = tuple(Path(path) for path in read["paths"])
        return cls(paths=paths, captions=tuple(read["captions"]), own=tuple(tuple(each) for each in read["own"]))


def read_captions(table: Path) -> CaptionedImages:
    """The pairs of a CSV with columns image and caption; a picture may have several rows, paths are relative to it.

    Raises DatasetError that names the line.
    """
    captions: dict[Path, dict[str, None]] = {}
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            missing = [column for column in _COLUMNS if column not in (rows.fieldnames or ())]
            if missing:
                raise DatasetError(
                    f"{table} must have the columns image and caption, {' and '.join(missing)} missing; "
                    f"it has {', '.join(rows.fieldnames or ()) or 'no header'}"
                )
            for row in rows:
                image, caption = (row[column] or "" for column in _COLUMNS)
                if not image.strip() or not caption.strip():
                    raise DatasetError(f"{table} line {rows.line_num}: image and caption must not be empty")
                captions.setdefault(table.parent / image.strip(), {})[caption.strip()] = None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{table} cannot be read as a table of captions: {error}") from error
    return _gathered({path: tuple(each) for path, each in captions.items()}, table)


def caption_labels(
    images: LabelledImages, descriptors: DescriptorSet, *, hold_out: Collection[str] = ()
) -> CaptionedImages:
    """Captions of labelled pictures: the name of the class, and each of its descriptors with and without the name.

    Pictures of the classes in `hold_out` are left out, and so is every text about them: what an encoder says of them
    afterwards it has from descriptors alone. Raises DatasetError for a label that `descriptors` lacks.
    """
    matching = descriptors.match(images.labels)
    if matching.missing:
        raise DatasetError(
            f"the descriptor set {descriptors.name!r} has no class for {', '.join(matching.missing)}; "
            "add them, or leave their pictures out"
        )
    held = {descriptors.index_of(name) for name in hold_out}
    unseen = held - set(matching.classes)
    if unseen:
        names = ", ".join(descriptors.classes[at].name for at in sorted(unseen))
        raise DatasetError(f"held out {names}, which no picture of {images.source} shows")
    texts = {
        label: captions_of(descriptors, at)
        for label, at in zip(images.labels, matching.classes, strict=True)
        if at is not None and at not in held
    }
    return _gathered({image.path: texts[image.label] for image in images.images if image.label in texts}, images.source)


def captions_of(descriptors: DescriptorSet, at: int) -> tuple[str, ...]:
    """What is true of a picture of the class at position `at`."""
    described = descriptors.classes[at]
    name = f"{descriptors.prefix}{described.name}{descriptors.suffix}"
    return (
        name,
        f"a photo of a {described.name}.",
        *descriptors.texts_by_class()[at],
        *(compose(NAMELESS, descriptor) for descriptor in described.scored),
    )


def _gathered(captions: dict[Path, tuple[str, ...]], source: Path) -> CaptionedImages:
    if len(captions) < 2:
        raise DatasetError(f"{source} has {len(captions)} pictures to train on; there must be at least two")
    texts = sorted({text for each in captions.values() for text in each})
    places = {text: at for at, text in enumerate(texts)}
    if len(texts) < 2:
        raise DatasetError(f"all pictures of {source} have the same caption, which teaches nothing; describe them")
    own = tuple(_ascending([places[text] for text in each]) for each in captions.values())
    return CaptionedImages(paths=tuple(captions), captions=tuple(texts), own=own)


def _ascending(places: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(set(places)))
