"""A gallery of pictures of V vectors each: which are most similar to a query, by the best of their vectors.

manifest.json       see `retrieval.index.files`
vectors-<n>.npy     [slots, V, d], to compare exactly
index-<n>.faiss     over all slots · V vectors, to find candidates; only in galleries too large to compare whole
rows-<n>.parquet    ids, their slots, and metadata
"""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from retrieval.errors import IndexingError
from retrieval.index.build import Progress, add_vectors, build_index
from retrieval.index.files import MANIFEST_FILE, Manifest, read_manifest, write_manifest
from retrieval.index.gallery_input import SLOT_COLUMN, check_vectors, checked_rows
from retrieval.index.gallery_state import EXACT_UP_TO, GalleryHit, GalleryState, read_index
from retrieval.index.search import Floats, Mask
from retrieval.index.spec import IndexSpec, Storage, choose_spec
from retrieval.index.stored_vectors import StoredVectors, write_rows, write_vectors
from retrieval.index.tables import write_table

__all__ = ["EXACT_UP_TO", "Gallery", "GalleryHit"]

_FREE_AT_MOST = 0.25
"""Share of free slots beyond which they are given up, and the index is built anew."""
_GROWN_AT_MOST = 2.0
"""How many times the pictures that it was trained on an index may hold; beyond it is built anew."""
_OURS = re.compile(r"(vectors|index|rows)-\d+(-compact)?\.(npy|faiss|parquet)|\.manifest\.json\.partial")
"""Files of a gallery, left perhaps by a process that was killed while it made one."""
_SQ8_FROM = 4_000_000
"""Vectors from which `auto` keeps a byte a dimension."""


class Gallery:
    """An open gallery; searches may come from several threads at once, changes from one.

    A search sees the state before a change or the one after it. A process that is killed leaves the state before, or
    the one after.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._state = GalleryState(manifest)

    @classmethod
    def create(
        cls,
        directory: Path,
        ids: Sequence[str],
        vectors: Any,
        *,
        metadata: pl.DataFrame | None = None,
        storage: str = "auto",
        spec: IndexSpec | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> "Gallery":
        """Write a new gallery of `vectors` [N, V, d], of unit length, into `directory` and open it.

        `storage` says what the vectors are kept as that scores come from: auto, fp32, fp16, sq8 or pq; auto takes fp16,
        and sq8 from 4 million vectors on. The index that finds candidates holds a byte a dimension; with pq it holds
        codes, while scores come from a byte a dimension. `spec` overrules that index, until it is built anew.
        `progress` is told how many vectors are in it. IndexingError where ids repeat, or a vector is not finite or not
        of unit length, or the directory holds a gallery or anything else.
        """
        kept = _storage(storage, len(ids) * vectors.shape[1])
        rows = checked_rows(ids, metadata).insert_column(1, pl.Series(SLOT_COLUMN, np.arange(len(ids)), pl.Int64))
        check_vectors(ids, vectors)
        if (directory / MANIFEST_FILE).exists():
            # Written over, files that an open gallery reads would change under it.
            raise IndexingError(f"{directory} holds a gallery already; name another directory, or remove this one")
        foreign = next((path for path in sorted(directory.glob("*")) if not _OURS.fullmatch(path.name)), None)
        if foreign is not None:
            # Every state removes what is not its own.
            raise IndexingError(f"directory must be empty, got {directory} with {foreign.name}; name another")
        directory.mkdir(parents=True, exist_ok=True)
        roles = {"vectors": "vectors-1.npy", "rows": "rows-1.parquet"}
        write_vectors(directory / roles["vectors"], vectors, kept)
        write_table(rows, directory / roles["rows"])
        stored = StoredVectors(directory / roles["vectors"], kept)
        facts = _facts(kept, 1, seed) | _build(directory, roles, stored, kept, spec, seed, 1, progress)
        write_manifest(directory, roles, facts)
        return cls.open(directory)

    @classmethod
    def open(cls, directory: Path) -> "Gallery":
        """The gallery in `directory`, hashes checked before anything is parsed; IndexingError where one is wrong."""
        return cls(read_manifest(directory))

    def __len__(self) -> int:
        return len(self._state)

    @property
    def directory(self) -> Path:
        """Where it is kept."""
        return self._state.manifest.directory

    @property
    def ids(self) -> list[str]:
        """Of its pictures, in the order that they were added."""
        return self._state.ids

    @property
    def metadata(self) -> pl.DataFrame:
        """A row for each picture."""
        return self._state.metadata

    @property
    def storage(self) -> Storage:
        """What vectors are kept as."""
        return self._state.storage

    @property
    def vectors(self) -> int:
        """V, the vectors of a picture."""
        return self._state.vectors

    @property
    def dimension(self) -> int:
        """d, the numbers of a vector."""
        return self._state.dimension

    @property
    def spec(self) -> IndexSpec | None:
        """Of the index that finds candidates; None where all pictures are compared."""
        return self._state.spec

    def search(
        self,
        query: Floats,
        k: int,
        *,
        exact: bool = False,
        exclude: Collection[str] = (),
        allowed: Mask | None = None,
        probes: int | None = None,
    ) -> list[GalleryHit]:
        """The k pictures most similar to `query` [d], best first; of equal ones the first in the gallery.

        Without `exact`, a gallery that has an index finds candidates with it and compares those exactly. `exclude`
        names pictures that are left out; `allowed` [N] says which may be found. As many hits as asked for are returned
        whenever so many pictures may be found. IndexingError for a query or a mask of another shape.
        """
        return self._state.search(query, k, exact, exclude, allowed, probes)

    def vectors_of(self, image_id: str) -> Floats:
        """The vectors [V, d] of a picture; IndexingError where there is none of that id."""
        return self._state.vectors_of(image_id)

    def vectors_at(self, rows: slice) -> Floats:
        """The vectors [n, V, d] of some pictures, by their places among `ids`."""
        return self._state.stored.take(self._state.slots[rows])

    def filtered(self, columns: Mapping[str, Collection[Any]]) -> Mask:
        """[N] which pictures have one of the values in every column; IndexingError names the columns that exist."""
        return self._state.filtered(columns)

    def add(self, ids: Sequence[str], vectors: Any, metadata: pl.DataFrame | None = None) -> None:
        """Add pictures behind those that are there; the change is on disk whole, or not at all.

        The index takes them in as it is, until it holds twice what it was trained on. IndexingError where an id is
        there already, the metadata has other columns, or vectors do not fit.
        """
        before = self._state
        there = [image_id for image_id in ids if image_id in before.rows]
        if there:
            raise IndexingError(f"{len(there)} ids are in the gallery already, such as {there[0]!r}; delete them first")
        check_vectors(ids, vectors)
        if tuple(vectors.shape[1:]) != (before.vectors, before.dimension):
            raise IndexingError(
                f"vectors must be [n, {before.vectors}, {before.dimension}], got {list(vectors.shape)}; embed them "
                "with the model that the gallery was made with"
            )
        if not len(ids):
            return
        slots = np.arange(before.stored.shape[0], before.stored.shape[0] + len(ids))
        new = checked_rows(ids, metadata).insert_column(1, pl.Series(SLOT_COLUMN, slots, pl.Int64))
        rows = before.frame()
        if sorted(new.columns) != sorted(rows.columns):
            raise IndexingError(
                f"metadata must have the columns {', '.join(before.metadata.columns) or 'of none'}, got "
                f"{', '.join(new.columns[2:]) or 'none'}"
            )
        try:
            rows = pl.concat([rows, new.select(rows.columns).cast(rows.schema)])
        except pl.exceptions.PolarsError as error:
            raise IndexingError(f"metadata must be of the types that the gallery has: {error}") from error
        number = before.number + 1
        roles = {"vectors": f"vectors-{number}.npy", "rows": f"rows-{number}.parquet"}
        path = self.directory / roles["vectors"]
        write_vectors(path, vectors, before.storage, before=before.stored)
        self._go_over(rows, roles, StoredVectors(path, before.storage))

    def delete(self, ids: Collection[str]) -> None:
        """Take pictures out; the change is on disk whole, or not at all. IndexingError for an id that is not there.

        Their slots stay, unused, until a quarter of all is.
        """
        before = self._state
        unknown = [image_id for image_id in ids if image_id not in before.rows]
        if unknown:
            raise IndexingError(
                f"no picture {unknown[0]!r} in {self.directory}; {len(unknown)} of these {len(ids)} ids are unknown"
            )
        if not len(ids):
            return
        stays = np.ones(len(before), dtype=np.bool_)
        stays[[before.rows[image_id] for image_id in ids]] = False
        rows = before.frame().filter(pl.Series(stays))
        roles = dict(before.manifest.roles) | {"rows": f"rows-{before.number + 1}.parquet"}
        self._go_over(rows, roles, before.stored)

    def _go_over(self, rows: pl.DataFrame, roles: dict[str, str], stored: StoredVectors) -> None:
        """Make a state of `rows` whose vectors are `stored`, with an index that suits it, and go over to it."""
        before, directory, number = self._state, self.directory, self._state.number + 1
        kept, seed = before.storage, before.seed
        facts = _facts(kept, number, seed)
        slots = stored.shape[0]
        if len(rows) < (1 - _FREE_AT_MOST) * slots:
            full, compact = stored, f"vectors-{number}-compact.npy"
            write_rows(directory / compact, full, rows[SLOT_COLUMN].to_numpy())
            roles["vectors"] = compact
            stored = StoredVectors(directory / compact, kept)
            rows = rows.with_columns(pl.Series(SLOT_COLUMN, np.arange(len(rows)), pl.Int64))
        elif before.spec is not None and slots <= _GROWN_AT_MOST * before.trained_on:
            facts |= {"spec": before.spec.as_json(), "trained_on": before.trained_on}
            if slots > before.stored.shape[0]:
                roles["index"] = _grown(directory, before, stored, number)
        if facts["spec"] is None:
            roles.pop("index", None)
            facts |= _build(directory, roles, stored, kept, None, seed, number, None)
        write_table(rows, directory / roles["rows"])
        self._state = GalleryState(write_manifest(directory, roles, facts, before=before.manifest))


def _facts(storage: Storage, number: int, seed: int) -> dict[str, Any]:
    return {"storage": storage.value, "state": number, "seed": seed, "spec": None, "trained_on": 0}


def _grown(directory: Path, before: GalleryState, stored: StoredVectors, number: int) -> str:
    """The file of the index of `before` with the vectors that are new in `stored`."""
    import faiss

    # Read anew: searches go on in the index that is open.
    old = before.stored.shape[0] * before.vectors
    index = read_index(before.manifest.path("index"), old, before.dimension)
    add_vectors(index, stored.flat(), begin=old)
    name = f"index-{number}.faiss"
    faiss.write_index(index, str(directory / name))
    return name


def _build(
    directory: Path,
    roles: dict[str, str],
    stored: StoredVectors,
    storage: Storage,
    spec: IndexSpec | None,
    seed: int,
    number: int,
    progress: Progress | None,
) -> dict[str, Any]:
    """Build the index of a gallery large enough for one, name its file in `roles`, and return what to note of it."""
    images, each, dimension = stored.shape
    if spec is None:
        if images <= EXACT_UP_TO:
            return {}
        # Candidates are compared again as they are stored, so that a byte a dimension is enough to find them.
        found_by = Storage.PQ if storage is Storage.PQ else Storage.SQ8
        spec = choose_spec(images * each, dimension, storage=found_by, memory_bytes=images * each * 5 * dimension * 8)
    import faiss

    index = build_index(spec, stored.flat(), seed=seed, progress=progress)
    roles["index"] = f"index-{number}.faiss"
    faiss.write_index(index, str(directory / roles["index"]))
    return {"spec": spec.as_json(), "trained_on": images}


def _storage(name: str, vectors: int) -> Storage:
    if name == "auto":
        return Storage.FP16 if vectors < _SQ8_FROM else Storage.SQ8
    try:
        return Storage(name)
    except ValueError:
        raise IndexingError(f"storage must be auto, {', '.join(Storage)}, got {name!r}") from None
