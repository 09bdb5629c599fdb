"""Publish an imported catalogue as a version, and let it answer unless it is likely to be half a file."""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from recollect.artifacts import CATALOGUES, Artifact, ArtifactStore, open_store
from recollect.artifacts.workplace import workplace
from recollect.errors import CatalogueRefused, LabelMoved, VersionDamaged
from recsys.errors import StoreError
from recsys.metadata import ItemMetadata
from recsys.metadata.importing import ImportedCatalogue

log = logging.getLogger(__name__)

CATALOGUE_DIRECTORY = "catalogue"


@dataclass(frozen=True, kw_only=True, slots=True)
class CatalogueGuard:
    """What a catalogue must be to answer."""

    max_bad_rows: float = 0.01
    """Share of a file's rows that may be unusable; beyond it the whole file is refused."""
    min_coverage: float = 0.8
    """Share of the items of the catalogue that answers now that it must have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedCatalogue:
    """A new version."""

    artifact: Artifact
    coverage: float | None
    """Share of the items of the catalogue that answered before; None where none did, or it is damaged."""
    damaged: str | None = None
    """What answered before and could not be compared with, `name/version`."""


def publish_catalogue(
    root: Path,
    name: str,
    imported: ImportedCatalogue,
    guard: CatalogueGuard,
    *,
    label: str | None,
    shared: str | None = None,
) -> PublishedCatalogue:
    """Make what was imported a version of `name` below `root` and point `label` at it, where one is given; `shared` is
    the URL where machines share catalogues.

    CatalogueRefused where too many rows are bad: nothing is published then. And where it lacks too much of what answers
    now: then the version is kept without the label. LabelMoved where the label was moved since it was judged. What
    answered before does so still in all these cases. Where that is damaged, what is new is not compared with it.
    """
    bad = imported.bad.height
    if bad > guard.max_bad_rows * imported.rows:
        raise CatalogueRefused(
            f"{bad:,} of {imported.rows:,} rows cannot be used, more than {guard.max_bad_rows:.2%} "
            "(catalogue_max_bad_rows); the whole file is refused and nothing has changed: mend it or raise that setting"
        )
    store = open_store(root, shared=shared, kind=CATALOGUES)
    with workplace(root, name, CATALOGUES.noun, label=label) as place:
        version = place / "version"
        shutil.rmtree(version, ignore_errors=True)
        imported.metadata.save(version / CATALOGUE_DIRECTORY)
        artifact = store.publish(name, version, parents=imported.metadata.facts.source, move=True)
        shutil.rmtree(place)
    coverage = damaged = None
    if label is not None:
        before = store.labelled(name, label)
        if before is not None and before != artifact.version:
            coverage = _coverage_of(imported.metadata, store, f"{name}/{before}")
            damaged = f"{name}/{before}" if coverage is None else None
            if coverage is not None and coverage < guard.min_coverage:
                raise CatalogueRefused(
                    f"{artifact.reference} has {coverage:.1%} of the items of {name}@{label}, fewer than "
                    f"{guard.min_coverage:.0%} (catalogue_min_coverage), and may be half a file; what answered before "
                    f"does so still. If it is right: recollect catalogue activate {name} {artifact.version}"
                )
        try:
            store.set_label(name, label, artifact.version, expected=before or "")
        except LabelMoved as error:
            raise LabelMoved(
                f"{artifact.reference} is published, but {error}", current=error.current, reference=artifact.reference
            ) from error
    return PublishedCatalogue(artifact=artifact, coverage=coverage, damaged=damaged)


def open_catalogue(artifact: Artifact) -> ItemMetadata:
    """The catalogue of a version whose bytes are checked; StoreError where it holds none."""
    return ItemMetadata.load(artifact.directory / CATALOGUE_DIRECTORY)


def _coverage_of(catalogue: ItemMetadata, store: ArtifactStore, reference: str) -> float | None:
    """Share of what a version has that `catalogue` has too; None where it is damaged."""
    try:
        if not store.has(reference):
            raise VersionDamaged(f"{reference} is not in {store.place} any more")
        return _coverage(catalogue, open_catalogue(store.resolve(reference)))
    except (StoreError, VersionDamaged) as error:
        log.warning("nothing is compared with %s: %s", reference, error)
        return None


def _coverage(catalogue: ItemMetadata, before: ItemMetadata) -> float:
    return float((catalogue.rows_of(before.item_ids) >= 0).mean()) if len(before) else 1.0
