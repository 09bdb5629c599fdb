"""The one form that every data set of composed retrieval is read into."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from retrieval.composed.geometry import Box
from retrieval.errors import DatasetError
from retrieval.files import file_key

_SHOWN = 5
"""Problems that an error lists."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ComposedQuery:
    """A reference, what should change, and what should be found."""

    query_id: str
    """Names it within its data set."""
    reference: str
    """Name of the reference picture."""
    text: str
    """What should change."""
    box: Box | None = None
    """The object that is meant, in pixels of the reference."""
    target: str | None = None
    """Name of the picture that should be found; None where the split keeps it secret."""
    accepted: frozenset[str] = frozenset()
    """All pictures that are right, the target among them, where the data set judges more than one (CIRCO)."""
    subset: tuple[str, ...] = ()
    """Pictures that are ranked among themselves, the reference not among them (CIRR)."""
    category: str = ""
    """What figures are averaged over: OACIRR's domain, FashionIQ's garment."""
    kind: str = ""
    """What the text asks for, where the data set tells."""


@dataclass(frozen=True, kw_only=True)
class ComposedDataset:
    """One split of a data set. The gallery that queries are asked of is all of its pictures of their category."""

    name: str
    split: str
    images: dict[str, Path]
    """Picture name → file."""
    queries: tuple[ComposedQuery, ...]
    instances: dict[str, str] = field(default_factory=dict)
    """Picture name → which object it shows, unlike those of other domains; empty for sets without instances."""
    boxes: dict[str, Box] = field(default_factory=dict)
    """Picture name → its object, in pixels."""
    galleries: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Category → names of the pictures its queries are asked of; all pictures where it is missing."""
    remove_reference: bool = True
    """Whether the protocol takes the reference out of a ranking."""
    left_out: int = 0
    """Queries that could not be asked because a picture of theirs is nowhere to be had (FashionIQ)."""

    def keys(self) -> dict[str, str]:
        """Picture name → key of its file as it is now: another one where the picture was replaced."""
        return {name: file_key(path) for name, path in self.images.items()}

    def digest(self) -> str:
        """Names what the split asks and shows: other queries, boxes or pictures have another one."""
        content = (
            *(self.name, self.split, self.keys(), self.queries, self.instances, self.boxes, self.galleries),
            *(self.remove_reference, self.left_out),
        )
        return hashlib.sha256(json.dumps(content, default=_plain).encode()).hexdigest()

    def gallery_of(self, category: str) -> tuple[str, ...]:
        """Names of the pictures that queries of `category` are asked of."""
        return self.galleries[category] if category in self.galleries else tuple(self.images)


def _plain(value: Any) -> list[Any]:
    """A query, box or set as JSON has them."""
    return sorted(value) if isinstance(value, frozenset) else [getattr(value, each.name) for each in fields(value)]


def require_pictures(dataset: ComposedDataset) -> None:
    """DatasetError with the first listed pictures that are not there: the image encoder would meet them hours on."""
    missing = [f"{name} ({path})" for name, path in dataset.images.items() if not path.is_file()]
    if missing:
        more = f", and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise DatasetError(
            f"{len(missing)} of the {len(dataset.images)} pictures that split {dataset.split!r} lists are not there: "
            f"{', '.join(missing[:_SHOWN])}{more}; unpack the pictures to where the data set expects them"
        )


def refuse(source: Path, problems: Iterable[str]) -> None:
    """DatasetError with the first of `problems`, where there are any.

    A data set with rows left out would still give figures, and they would be of another data set.
    """
    found = list(problems)
    if found:
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise DatasetError(
            f"{source} has {len(found)} bad rows: {'; '.join(found[:_SHOWN])}{more}; mend or remove them"
        )


def read_box(value: object) -> Box:
    """[x1, y1, x2, y2] as a box; ValueError where it is something else or marks no area."""
    if not isinstance(value, list | tuple) or len(value) != 4:
        raise ValueError(f"a box must be four numbers x1, y1, x2, y2, got {value!r}")
    try:
        box = Box(*(float(side) for side in value))
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"a box must be four numbers x1, y1, x2, y2, got {value!r}") from None
    return box.checked_alone()


def read_text(value: object, what: str) -> str:
    """`value` as text; ValueError that calls it `what` where it is something else, which would read "None"."""
    if not isinstance(value, str):
        raise ValueError(f"{what} must be text, got {value!r}")
    return value


def read_id(value: object, what: str) -> str:
    """`value`, a whole number or text, as text; ValueError that calls it `what` where it is something else."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"{what} must be a whole number or text, got {value!r}")
    return str(value)
