"""One version of a gallery as it answers: vectors, metadata, and what is kept of its pictures.

<version>/gallery/          vectors, ids and metadata, as `retrieval.index` keeps them
<version>/pictures.parquet  for each picture its file, where that is told, and its size
<version>/features/         frozen features of the pictures, where they are kept
<version>/made.json         with which model
"""

import difflib
import json
from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from recollect.artifacts import Artifact
from recollect.composed.calls import Filter, FoundPicture, GalleryStanding
from recollect.composed.references import PictureSize, Reference
from recollect.errors import ArtifactError
from recollect.gateway.errors import GalleryUnusable, InvalidCall, PictureNotFound, Violation
from recsys.metadata.items import some_of
from retrieval.composed.features import FrozenFeatures
from retrieval.composed.geometry import Floats
from retrieval.index.gallery import Gallery

GALLERY_DIRECTORY, FEATURES_DIRECTORY = "gallery", "features"
PICTURES_FILE, MADE_FILE = "pictures.parquet", "made.json"
SCHEMA_VERSION = 1
SHOWN_DIGITS = 12
_COMPARED = 20_000
"""Names that a mistyped one is compared with; of more, only those next to it in their order."""
_CLOSE = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class MadeWith:
    """How a gallery came to be."""

    model: str
    """As it was named: what an addition is embedded with."""
    model_name: str
    """What callers are told."""
    fingerprint: str
    """Of everything that decides an embedding."""
    schema_version: int = SCHEMA_VERSION

    def save(self, directory: Path) -> None:
        """Write it into a version's `directory`."""
        (directory / MADE_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, directory: Path) -> "MadeWith":
        """What `save` wrote; ArtifactError where it cannot be read."""
        path = directory / MADE_FILE
        try:
            values: dict[str, Any] = json.loads(path.read_text())
            made = cls(**values)
        except (OSError, ValueError, TypeError) as error:
            raise ArtifactError(f"{path} cannot be read: {error}; name a version of a gallery") from error
        if made.schema_version != SCHEMA_VERSION:
            raise ArtifactError(f"{path} has schema {made.schema_version}, this release reads {SCHEMA_VERSION}")
        return made


class OpenGallery:
    """A version that can be searched, by several threads at once."""

    def __init__(
        self,
        artifact: Artifact,
        made: MadeWith,
        gallery: Gallery,
        pictures: pl.DataFrame,
        features: FrozenFeatures | None,
    ) -> None:
        self.name = artifact.name
        self.version = artifact.version
        self.made = made
        self.gallery = gallery
        self._pictures = pictures
        # As texts: that is how metadata crosses the wire, both ways.
        self._metadata = gallery.metadata.with_columns(pl.all().cast(pl.String))
        self._rows = {image_id: row for row, image_id in enumerate(pictures["image_id"])}
        self._features = features
        self._ids = sorted(self._rows)

    @classmethod
    def open(cls, artifact: Artifact, *, fingerprint: str) -> "OpenGallery":
        """The version in `artifact`, whose hashes were checked; GalleryUnusable where another model made it."""
        made = MadeWith.read(artifact.directory)
        if made.fingerprint != fingerprint:
            raise GalleryUnusable(
                f"version {artifact.version} of gallery {artifact.name!r} was made with the model {made.model_name} "
                f"({made.fingerprint[:SHOWN_DIGITS]}), queries are embedded with another "
                f"({fingerprint[:SHOWN_DIGITS]}): make it anew with `recollect composed index`, or serve that model"
            )
        gallery = Gallery.open(artifact.directory / GALLERY_DIRECTORY)
        pictures = pl.read_parquet(artifact.directory / PICTURES_FILE, glob=False)
        if pictures["image_id"].to_list() != gallery.ids:
            raise ArtifactError(f"{artifact.directory / PICTURES_FILE} tells of other pictures than the gallery's")
        features = artifact.directory / FEATURES_DIRECTORY
        return cls(artifact, made, gallery, pictures, FrozenFeatures.open(features) if features.is_dir() else None)

    def warm(self) -> None:
        """Search once, so that the first caller does not wait for pages from the disk."""
        query = np.zeros(self.gallery.dimension, dtype=np.float32)
        query[0] = 1
        self.gallery.search(query, 1)

    def standing(self, *, problem: str) -> GalleryStanding:
        """What is told of this version."""
        return GalleryStanding(
            name=self.name,
            version=self.version,
            images=len(self._ids),
            vectors=self.gallery.vectors,
            dimension=self.gallery.dimension,
            storage=str(self.gallery.storage),
            columns=tuple(self._metadata.columns),
            model_name=self.made.model_name,
            model_fingerprint=self.made.fingerprint[:SHOWN_DIGITS],
            problem=problem,
        )

    def allowed(self, filters: Sequence[Filter]) -> npt.NDArray[np.bool_]:
        """[N] which pictures fit all of `filters`; InvalidCall names every column that there is not."""
        violations, kept = [], pl.lit(True)
        for at, each in enumerate(filters):
            if each.column not in self._metadata.columns:
                have = some_of(self._metadata.columns)
                violations.append(
                    Violation(
                        field=f"filters[{at}].column",
                        description=f"must be a column of gallery {self.name!r}, got {each.column!r}; there is {have}",
                    )
                )
            else:
                kept &= pl.col(each.column).is_in(each.values)
        if violations:
            raise InvalidCall(violations)
        mask: npt.NDArray[np.bool_] = self._metadata.select(kept.fill_null(False).alias("kept"))["kept"].to_numpy()
        return mask

    def search(
        self, query: Floats, k: int, *, exclude: Collection[str], allowed: npt.NDArray[np.bool_] | None
    ) -> list[FoundPicture]:
        """The `k` pictures that fit `query` [d] best, best first."""
        return [
            FoundPicture(image_id=hit.image_id, score=hit.score, vector=hit.vector, metadata=self._told(hit.image_id))
            for hit in self.gallery.search(query, k, exclude=exclude, allowed=allowed)
        ]

    def vectors_of(self, image_id: str) -> Floats:
        """[V, d] of a picture."""
        return self.gallery.vectors_of(image_id)

    def kept_reference(self, image_id: str) -> Reference | None:
        """What is kept of a picture's features, or None; PictureNotFound names the ids that come close. Blocking."""
        row = self._row(image_id)
        if self._features is None:
            return None
        (tokens,) = self._features.take([image_id])
        size = self._pictures.row(row, named=True)
        decoded = size["decoded_width"], size["decoded_height"]
        return Reference(tokens=tokens, size=PictureSize(width=size["width"], height=size["height"], decoded=decoded))

    def picture_bytes(self, image_id: str, most: int) -> bytes:
        """The file of a picture, at most one byte more than `most`; GalleryUnusable where there is none. Blocking."""
        path = self._pictures["path"][self._row(image_id)]
        try:
            if path is None:
                raise FileNotFoundError
            with Path(path).open("rb") as file:
                return file.read(most + 1)
        except OSError as error:
            raise GalleryUnusable(
                f"gallery {self.name!r} keeps neither features nor a file of picture {image_id!r}; send it as image"
            ) from error

    def _row(self, image_id: str) -> int:
        row = self._rows.get(image_id)
        if row is None:
            raise PictureNotFound(
                f"no picture {image_id!r} in gallery {self.name!r}; there is {close_to(image_id, self._ids)}"
            )
        return row

    def _told(self, image_id: str) -> dict[str, str]:
        if not self._metadata.width:
            return {}
        values = self._metadata.row(self._rows[image_id], named=True)
        return {column: value for column, value in values.items() if value is not None}


def close_to(name: str, names: Sequence[str]) -> str:
    """Those of `names`, at least one and in their order, that a mistyped `name` may mean, as a caller is told them."""
    candidates = names
    if len(names) > _COMPARED:
        at = bisect_left(names, name)
        candidates = names[max(0, at - _COMPARED // 2) : at + _COMPARED // 2]
    close = difflib.get_close_matches(name, candidates, n=_CLOSE) or candidates[:_CLOSE]
    more = f" and {len(names) - len(close):,} more" if len(names) > len(close) else ""
    return ", ".join(map(repr, close)) + more
