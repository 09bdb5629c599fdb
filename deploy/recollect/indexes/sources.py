"""Open what an index is built of: items of a model, Parquet files of id and vector, pictures, those of a gallery."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recollect.artifacts import GALLERIES, indexes_of, models_of
from recollect.encoders import encoder_path
from recollect.errors import RecollectError
from recollect.indexes.embedding import IMAGES, PictureEncoder
from recollect.indexes.merging import MAKER, maker_of
from recollect.settings import Settings
from retrieval.index.search import Floats
from retrieval.index.sources import ArrayVectors, ParquetVectors, VectorSource

MODEL, GALLERY = "model", "gallery"
_PICTURES = 4_096
"""Pictures that are read at once."""


def model_items(settings: Settings, reference: str) -> ArrayVectors:
    """The item rows of a model, `dare@stable` for instance, or a directory. ArtifactError where there is none."""
    from recsys.models.item_vectors import item_vectors

    artifact = models_of(settings).resolve(reference)
    ids, vectors = item_vectors(artifact.directory)
    facts = {"kind": MODEL, "model": artifact.reference}
    if artifact.version == "unversioned":
        # A directory outside the store has no version that could name it, and may hold another model next time.
        path = str(artifact.directory.resolve())
        content = hashlib.sha256(ids.tobytes() + vectors.tobytes()).hexdigest()
        facts |= {"model": path, MAKER: f"{path} of {content[:12]}", "digest": content}
    return ArrayVectors(pl.Series("id", ids), vectors, facts)


def parquet_files(settings: Settings, paths: Sequence[Path], told: Callable[[str, int, int], None]) -> VectorSource:
    """Files, or the `*.parquet` of folders, with columns id and vector; `told` hears of the step "checking"."""
    return ParquetVectors(
        files_of(paths), max_bad_rows=settings.index_max_bad_rows, told=lambda done, of: told("checking", done, of)
    )


def files_of(paths: Sequence[Path]) -> list[Path]:
    """Files, and instead of a folder its `*.parquet`."""
    return [file for path in paths for file in (sorted(path.glob("*.parquet")) if path.is_dir() else [path])]


def picture_encoder(settings: Settings, reference: str) -> PictureEncoder:
    """What embeds pictures for an index: a shipped encoder, `encoder@LABEL`, a directory, or a name on the hub.

    EncoderError or ArtifactError where there is none.
    """
    from retrieval.encoders.load import load_encoder

    path = encoder_path(settings, reference)
    encoder = load_encoder(path)
    models = settings.var.resolve() / "models"
    # A label may come to mean another encoder; what it means now does not.
    told = Path(path).relative_to(models).as_posix() if Path(path).is_relative_to(models) else path
    return PictureEncoder(path=path, reference=told, fingerprint=encoder.fingerprint, dimension=encoder.dimension)


def encoder_of_index(settings: Settings, source: Mapping[str, Any]) -> PictureEncoder:
    """What embedded the pictures of an index, by its source; RecollectError where nothing did, or it is another now."""
    if source.get("kind") != IMAGES:
        raise RecollectError(
            f"the index was made of {shown_source(source)}, not of pictures by an encoder; add Parquet files with "
            "columns id and vector"
        )
    encoder = picture_encoder(settings, str(source["encoder"]))
    require_maker(source, encoder.fingerprint)
    return encoder


def require_maker(source: Mapping[str, Any], fingerprint: str) -> None:
    """RecollectError where what embedded a source is not what its name means now."""
    if maker_of(source) != fingerprint:
        raise RecollectError(
            f"the index was made with {source.get('encoder')} as it was then, and that is another one now; restore it, "
            "or build the index anew"
        )


def shown_source(source: Mapping[str, Any]) -> str:
    """What an index was made of, in a word."""
    known = (source.get(key) for key in ("model", "gallery", "images", "kind"))
    return str(next(filter(None, known), "vectors"))


def gallery_pictures(settings: Settings, reference: str) -> ArrayVectors:
    """The pictures of a gallery's version, `shop@stable` for instance, by one vector each: see `one_vector`.

    Ids are those of the gallery. ArtifactError where there is no such gallery.
    """
    # What is behind galleries takes longer to import than most indexes to build.
    from recollect.composed.galleries import GALLERY_DIRECTORY, MadeWith
    from retrieval.index.gallery import Gallery

    artifact = indexes_of(settings, GALLERIES).resolve(reference)
    gallery, made = Gallery.open(artifact.directory / GALLERY_DIRECTORY), MadeWith.read(artifact.directory)
    vectors = np.empty((len(gallery), gallery.dimension), dtype=np.float32)
    for begin in range(0, len(gallery), _PICTURES):
        vectors[begin : begin + _PICTURES] = one_vector(gallery.vectors_at(slice(begin, begin + _PICTURES)))
    facts = {"kind": GALLERY, "gallery": artifact.reference, "encoder": made.model, MAKER: made.fingerprint}
    return ArrayVectors(pl.Series("id", gallery.ids, pl.String), vectors, facts)


def one_vector(vectors: Floats) -> Floats:
    """One vector [n, d] for the V of each picture [n, V, d]: their mean.

    The inner product of two of them is the mean similarity of all pairs of the two pictures' vectors: how much alike
    two pictures are as a whole. What shows one and the same object is for the gallery's own search, which compares a
    query with each of the V.
    """
    mean: Floats = vectors.mean(axis=1)
    return mean
