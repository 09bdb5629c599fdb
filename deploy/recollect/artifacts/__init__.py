"""Versions of models, indexes, galleries, catalogues: published whole, checked before use, labelled, rolled back."""

from recollect.artifacts.holds import Hold
from recollect.artifacts.kinds import (
    CATALOGUES,
    COMPOSED_MODELS,
    ENCODERS,
    GALLERIES,
    INDEXES,
    INDEXES_AND_GALLERIES,
    MODELS,
    Artifact,
    ArtifactKind,
)
from recollect.artifacts.labels import STABLE, LabelChange
from recollect.artifacts.manifests import MANIFEST_FILE
from recollect.artifacts.opening import indexes_of, models_of, open_store, shared_at, store_in
from recollect.artifacts.store import ArtifactStore

__all__ = [
    "CATALOGUES",
    "COMPOSED_MODELS",
    "ENCODERS",
    "GALLERIES",
    "INDEXES",
    "INDEXES_AND_GALLERIES",
    "MANIFEST_FILE",
    "MODELS",
    "STABLE",
    "Artifact",
    "ArtifactKind",
    "ArtifactStore",
    "Hold",
    "LabelChange",
    "indexes_of",
    "models_of",
    "open_store",
    "shared_at",
    "store_in",
]
