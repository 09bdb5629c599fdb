"""Make, enlarge and reduce galleries: pictures in, a new published version out; what answers stays untouched.

var/indexes/.building/<name>/   what a command has made so far; a killed one goes on there
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from recollect.artifacts import GALLERIES, MANIFEST_FILE, Artifact, ArtifactStore, open_store
from recollect.artifacts.workplace import workplace
from recollect.composed.embedding import EmbeddedPictures, SkippedPicture, embed_pictures
from recollect.composed.galleries import (
    FEATURES_DIRECTORY,
    GALLERY_DIRECTORY,
    PICTURES_FILE,
    MadeWith,
    close_to,
)
from recollect.composed.sources import PictureSource
from retrieval.composed.encoder import ComposedEncoder
from retrieval.composed.features import DONE_FILE, INDEX_FILE, TOKENS_FILE, FrozenFeatures, vision_fingerprint
from retrieval.errors import DatasetError
from retrieval.files import link_or_copy
from retrieval.images import ImageLimits
from retrieval.index.gallery import Gallery
from retrieval.index.tables import write_table

FEATURES_BYTES = 2 << 30
"""Features of a gallery's pictures are kept with it up to this size, unless it is said otherwise."""
_WORK = "work"
_VERSION = "version"


@dataclass(frozen=True, kw_only=True, slots=True)
class GalleryOptions:
    """How a gallery is made."""

    storage: str = "auto"
    """How vectors are stored: auto, fp32, fp16, sq8 or pq."""
    keep_features: bool | None = None
    """Whether frozen features of its pictures are kept, so that a reference by id is not embedded anew; None: where
    they take at most 2 GiB."""
    keep_paths: bool = True
    """Whether it is kept where the pictures' files are, for references by id without features and for drawings."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedGallery:
    """A new version."""

    artifact: Artifact
    images: int
    storage: str
    skipped: tuple[SkippedPicture, ...] = ()
    """Pictures that could not be used."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GalleryBuilder:
    """Makes versions of galleries below `root`, and lets `label` point at them."""

    root: Path
    """Directory of all galleries' versions."""
    label: str | None
    """None: none is set."""
    limits: ImageLimits
    """What is decoded."""
    shared: str | None = None
    """URL where machines share galleries; None: they do not."""
    threads: int = 2
    """Threads that decode."""
    progress: Callable[[int, int], None] | None = None
    """Hears how many pictures of how many are done."""

    @property
    def store(self) -> ArtifactStore:
        """The versions."""
        return open_store(self.root, shared=self.shared, kind=GALLERIES)

    def make(
        self, name: str, source: PictureSource, encoder: ComposedEncoder, made: MadeWith, options: GalleryOptions
    ) -> PublishedGallery:
        """A gallery of the pictures of `source`, whatever version there was before.

        As for `add` and `delete`, LabelMoved where the label was moved since the command began: the version is kept
        without the label, and the same command again does not begin anew.
        """
        with workplace(self.root, name, GALLERIES.noun, label=self.label) as building:
            before = "" if self.label is None else self.store.labelled(name, self.label) or ""
            keep = self._keeps_features(options, encoder, len(source.ids))
            embedded = self._embedded(building, source, encoder, keep=keep)
            used = source.take(embedded.rows)
            version = _emptied(building / _VERSION)
            gallery = Gallery.create(
                version / GALLERY_DIRECTORY,
                used.ids,
                embedded.usable,
                metadata=used.metadata,
                storage=options.storage,
            )
            write_table(_pictures(used, embedded, keep_paths=options.keep_paths), version / PICTURES_FILE)
            if keep:
                _features(version / FEATURES_DIRECTORY, used.ids, building / _WORK / TOKENS_FILE, encoder)
            made.save(version)
            return self._published(name, building, gallery, embedded.skipped, before)

    def add(
        self, name: str, source: PictureSource, encoder: ComposedEncoder, made: MadeWith, *, replace: bool = False
    ) -> PublishedGallery:
        """The gallery as labelled, and the pictures of `source`; DatasetError where it has an id already, unless
        `replace`."""
        with workplace(self.root, name, GALLERIES.noun, label=self.label) as building:
            before = self._labelled(name)
            pictures = pl.read_parquet(before.directory / PICTURES_FILE, glob=False)
            there = sorted(set(source.ids) & set(pictures["image_id"]))
            if there and not replace:
                raise DatasetError(
                    f"gallery {name!r} has {len(there)} of these ids already, such as {there[0]!r}; leave them out, or "
                    "replace them with --replace"
                )
            keep = (before.directory / FEATURES_DIRECTORY).is_dir()
            embedded = self._embedded(building, source, encoder, keep=keep)
            used = source.take(embedded.rows)
            version = _copied(before, building / _VERSION)
            gallery = Gallery.open(version / GALLERY_DIRECTORY)
            replaced = [image_id for image_id in there if image_id in set(used.ids)]
            if replaced:
                gallery.delete(replaced)
            gallery.add(used.ids, embedded.usable, _like(gallery.metadata, used, name))
            keep_paths = pictures["path"].null_count() < len(pictures)
            kept = pictures.filter(~pl.col("image_id").is_in(replaced))
            new = _pictures(used, embedded, keep_paths=keep_paths)
            write_table(pl.concat([kept, new]), version / PICTURES_FILE)
            if keep:
                _more_features(version / FEATURES_DIRECTORY, kept["image_id"].to_list(), used.ids, building / _WORK)
            made.save(version)
            return self._published(name, building, gallery, embedded.skipped, before.version)

    def delete(self, name: str, ids: Sequence[str]) -> PublishedGallery:
        """The gallery as labelled without the pictures `ids`; DatasetError where it has one of them not."""
        with workplace(self.root, name, GALLERIES.noun, label=self.label) as building:
            before = self._labelled(name)
            pictures = pl.read_parquet(before.directory / PICTURES_FILE, glob=False)
            have = set(pictures["image_id"])
            missing = [image_id for image_id in ids if image_id not in have]
            if missing:
                close = close_to(missing[0], sorted(have)) if have else "none"
                raise DatasetError(f"gallery {name!r} has no picture {missing[0]!r}; there is {close}")
            version = _copied(before, building / _VERSION)
            gallery = Gallery.open(version / GALLERY_DIRECTORY)
            gallery.delete(ids)
            kept = pictures.filter(~pl.col("image_id").is_in(list(ids)))
            write_table(kept, version / PICTURES_FILE)
            if (version / FEATURES_DIRECTORY).is_dir():
                _more_features(version / FEATURES_DIRECTORY, kept["image_id"].to_list(), (), None)
            return self._published(name, building, gallery, (), before.version)

    def made_with(self, name: str) -> MadeWith:
        """How the gallery as labelled was made; ArtifactError where there is none."""
        return MadeWith.read(self._labelled(name).directory)

    def _labelled(self, name: str) -> Artifact:
        return self.store.resolve(f"{name}@{self.label}")

    def _keeps_features(self, options: GalleryOptions, encoder: ComposedEncoder, images: int) -> bool:
        if options.keep_features is not None:
            return options.keep_features
        size = images * encoder.geometry.tokens * encoder.model.config.vision.hidden_size * 2
        return size <= FEATURES_BYTES

    def _embedded(
        self, building: Path, source: PictureSource, encoder: ComposedEncoder, *, keep: bool
    ) -> EmbeddedPictures:
        """The pictures embedded, or what is left to embed of them where a killed command has begun."""
        files = [
            (image_id, str(path), path.stat().st_size if path.is_file() else None)
            for image_id, path in zip(source.ids, source.paths, strict=True)
        ]
        identity = hashlib.sha256(json.dumps([files, encoder.fingerprint, keep]).encode()).hexdigest()
        note = building / "identity"
        if not note.exists() or note.read_text() != identity:
            _emptied(building / _WORK)
            note.write_text(identity)
        embedded = embed_pictures(
            encoder,
            source.paths,
            building / _WORK,
            limits=self.limits,
            keep_features=keep,
            threads=self.threads,
            progress=self.progress,
        )
        if not embedded.rows:
            first = embedded.skipped[0]
            raise DatasetError(
                f"none of the {len(source.ids)} pictures can be used; the first, {first.path}: {first.reason}"
            )
        return embedded

    def _published(
        self, name: str, building: Path, gallery: Gallery, skipped: Sequence[SkippedPicture], before: str
    ) -> PublishedGallery:
        """What lies in `building` as a version, labelled unless the label points at something else than `before`."""
        images, storage = len(gallery), str(gallery.storage)
        artifact = self.store.publish(name, building / _VERSION, move=True)
        if self.label is not None:
            self.store.set_label(name, self.label, artifact.version, expected=before)
        shutil.rmtree(building)
        return PublishedGallery(artifact=artifact, images=images, storage=storage, skipped=tuple(skipped))


def _like(before: pl.DataFrame, source: PictureSource, name: str) -> pl.DataFrame | None:
    """The metadata of `source` with the columns of `before`; what is not told is null."""
    if not before.width:
        before = pl.DataFrame()
    told = source.metadata if source.metadata is not None else pl.DataFrame()
    strange = [column for column in told.columns if column not in before.columns]
    if strange:
        raise DatasetError(
            f"gallery {name!r} has the columns {', '.join(map(repr, before.columns)) or 'of none'}, got "
            f"{', '.join(map(repr, strange))} besides; leave them out, or make the gallery anew"
        )
    if not before.width:
        return None
    missing = pl.Series([None] * len(source.ids), dtype=pl.String)
    return pl.DataFrame({column: told[column] if column in told.columns else missing for column in before.columns})


def _pictures(source: PictureSource, embedded: EmbeddedPictures, *, keep_paths: bool) -> pl.DataFrame:
    sizes = embedded.sizes
    return pl.DataFrame(
        {
            "image_id": list(source.ids),
            "path": [str(path) if keep_paths else None for path in source.paths],
            "width": [size.width for size in sizes],
            "height": [size.height for size in sizes],
            "decoded_width": [size.decoded[0] for size in sizes],
            "decoded_height": [size.decoded[1] for size in sizes],
        },
        schema={
            "image_id": pl.String,
            "path": pl.String,
            **dict.fromkeys(("width", "height", "decoded_width", "decoded_height"), pl.Int64),
        },
    )


def _features(directory: Path, ids: Sequence[str], tokens: Path, encoder: ComposedEncoder) -> None:
    """Lay out `tokens` as `retrieval.composed.features` reads them."""
    directory.mkdir()
    # Not taken away: until the label is set, the command may have to go on with it.
    link_or_copy(tokens, directory / TOKENS_FILE)
    _describe(directory, ids, vision_fingerprint(encoder.model))


def _more_features(directory: Path, kept: Sequence[str], added: Sequence[str], work: Path | None) -> None:
    """Features of pictures that were there and of those in `work`, instead of what `directory` has."""
    before = FrozenFeatures.open(directory)
    parts = [before.take(kept)]
    if work is not None:
        parts.append(np.load(work / TOKENS_FILE, mmap_mode="r")[: len(added)])
    partial = directory / f".{TOKENS_FILE}.partial"
    with partial.open("wb") as file:
        np.save(file, np.concatenate(parts))
    partial.replace(directory / TOKENS_FILE)
    _describe(directory, [*kept, *added], before.fingerprint)


def _describe(directory: Path, ids: Sequence[str], fingerprint: str) -> None:
    (directory / INDEX_FILE).write_text(json.dumps({"fingerprint": fingerprint, "names": list(ids)}))
    (directory / DONE_FILE).write_text(str(len(ids)))


def _copied(version: Artifact, to: Path) -> Path:
    """A version's files, to be changed; its manifest is not among them."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(version.directory, to)
    (to / MANIFEST_FILE).unlink()
    return to


def _emptied(directory: Path) -> Path:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory
