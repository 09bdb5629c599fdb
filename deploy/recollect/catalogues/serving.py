"""The catalogue that answers: what a label points at, swapped in as one reference."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from recollect.artifacts import CATALOGUES, Artifact, Hold, open_store
from recollect.artifacts.following import Followed, LabelledSource
from recollect.catalogues.publishing import open_catalogue
from recsys.metadata import ItemMetadata


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedCatalogue:
    """An open catalogue and the label of replies."""

    name: str
    version: str
    metadata: ItemMetadata
    hold: Hold
    """Keeps the version from being removed."""


class CatalogueSlot(Protocol):
    """What holds the catalogue that answers now; a call takes it once and keeps it."""

    @property
    def current(self) -> ServedCatalogue:
        """The catalogue that answers."""
        ...


class CatalogueSource(LabelledSource):
    """Where a catalogue comes from."""

    kind = CATALOGUES

    def open(self) -> "FollowedCatalogue":
        """The version that the label points at now, opened."""
        return FollowedCatalogue(self.root, self.reference, shared=self.shared)


class FollowedCatalogue(Followed[ServedCatalogue]):
    """The catalogue that a label points at."""

    def __init__(self, root: Path, reference: str, *, shared: str | None = None) -> None:
        """Opens the version now; ArtifactError or StoreError where there is none that can be."""
        super().__init__(open_store(root, shared=shared, kind=CATALOGUES), reference)

    def _open(self, artifact: Artifact, hold: Hold) -> ServedCatalogue:
        metadata = open_catalogue(artifact)
        return ServedCatalogue(name=artifact.name, version=artifact.version, metadata=metadata, hold=hold)
