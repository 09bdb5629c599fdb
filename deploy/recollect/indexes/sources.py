"""Open what an index is built of: the items of a model, or Parquet files of id and vector."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from recollect.artifacts import MODELS, ArtifactStore
from recollect.settings import Settings
from retrieval.index.sources import ArrayVectors, ParquetVectors, VectorSource

MODEL, PARQUET = "model", "parquet"


def model_items(settings: Settings, reference: str) -> ArrayVectors:
    """The item rows of a model, `dare@stable` for instance. ArtifactError where there is no such model."""
    from recsys.models.item_vectors import item_vectors

    artifact = ArtifactStore(settings.var.resolve() / "models", kind=MODELS).resolve(reference)
    ids, vectors = item_vectors(artifact.directory)
    # A directory outside the store has no version that could name it.
    named = artifact.reference if artifact.version != "unversioned" else str(artifact.directory.resolve())
    return ArrayVectors(pl.Series("id", ids), vectors, {"kind": MODEL, "model": named})


def parquet_files(paths: Sequence[Path]) -> VectorSource:
    """Files, or the `*.parquet` of folders, with columns id and vector."""
    return ParquetVectors(files_of(paths))


def files_of(paths: Sequence[Path]) -> list[Path]:
    """Files, and instead of a folder its `*.parquet`."""
    return [file for path in paths for file in (sorted(path.glob("*.parquet")) if path.is_dir() else [path])]
