"""One vector an id: which ids are nearest to a query, or to another id; what catalogues are recommended from.

manifest.json   see `retrieval.index.files`
index.faiss     over all vectors; FAISS's ids are their rows
ids.parquet     `id` of each row, ascending: whole numbers or strings
vectors.npy     [N, d] halves of unit length, or fp32 as given, to compare exactly and to ask by id
                what was changed since: see `retrieval.index.changes`
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from retrieval.errors import IndexingError
from retrieval.index.build import finite
from retrieval.index.changes import BaseFacts, Changes
from retrieval.index.files import Manifest, read_manifest
from retrieval.index.overlay import LaidOver, Overlay
from retrieval.index.search import Floats, Ids, Mask, allowed_bits, own_probes, search, set_own_probes
from retrieval.index.spec import IndexSpec, Kind, Storage
from retrieval.index.tables import ID_COLUMN

INDEX_FILE, IDS_FILE, VECTORS_FILE = "index.faiss", "ids.parquet", "vectors.npy"
_BLOCK = 65_536
"""Vectors that are compared with all queries at once."""
_TINY = np.finfo(np.float32).tiny
_LEAST_SQUARE = 1e-30
"""Squares of fp32 below it are no more than a few digits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexFacts:
    """What an index says of itself."""

    spec: IndexSpec
    count: int
    """N, vectors that can be found."""
    dimension: int
    """d, numbers of a vector."""
    normalized: bool
    """Whether vectors were brought to unit length before they were indexed, so that similarity is their cosine."""
    norm_mean: float
    """Mean length of the vectors as given; of an index that was changed since, of its base and what was added."""
    norm_std: float
    """Standard deviation of these lengths."""
    source: dict[str, Any]
    """Where the vectors came from, as who built the index tells it; the version of a model for instance."""
    seed: int
    """Of the sample that it was trained on."""
    base: BaseFacts | None = None
    """What was built; None: all of it was."""

    def as_json(self) -> dict[str, Any]:
        """For the manifest."""
        return {name: value for name, value in asdict(self).items() if name != "spec"} | {"spec": self.spec.as_json()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "IndexFacts":
        """What `as_json` made; IndexingError where something is missing."""
        try:
            base = BaseFacts.from_json(values.get("base"))
            return cls(**{**values, "spec": IndexSpec.from_json(values["spec"]), "base": base})
        except (KeyError, TypeError) as error:
            raise IndexingError(f"the facts of an index cannot be read: {error!r}; build it again") from error


@dataclass(frozen=True, slots=True)
class Neighbours:
    """What was found for Q queries."""

    rows: Ids
    """[Q, k] rows of the index, nearest first; −1 where there were fewer."""
    scores: Floats
    """[Q, k] similarity of each."""


class VectorIndex:
    """An open index. It is only read, so threads may share it."""

    def __init__(
        self,
        manifest: Manifest,
        index: Any,
        ids: pl.Series,
        vectors: npt.NDArray[np.floating[Any]],
        changes: Changes,
    ) -> None:
        self.manifest = manifest
        self.facts = IndexFacts.from_json(manifest.facts)
        self.changes = changes
        """What was added and deleted since it was built, and before."""
        self._index = index
        self._overlay: Overlay | None = None
        self.vectors: npt.NDArray[np.floating[Any]] | LaidOver = vectors
        """[N, d] as they are compared."""
        if self.facts.base is not None:
            added = as_compared(changes.added.vectors, normalized=self.facts.normalized)
            self._overlay = Overlay(ids, vectors, changes, added, exact=self._compares_exactly)
            ids, self.vectors = self._overlay.ids, self._overlay.vectors
        self.ids = ids
        """[N] id of each row, ascending."""
        self._numbers = ids.to_numpy() if ids.dtype == pl.Int64 else None
        self._rows = None if self._numbers is not None else {each: row for row, each in enumerate(ids)}

    @classmethod
    def open(cls, directory: Path, *, mapped: bool = False) -> "VectorIndex":
        """The index in `directory`, every hash checked before a byte is parsed.

        `mapped` leaves FAISS's part on the disk as well and reads of it what searches touch. IndexingError says what is
        missing, altered, or not what the manifest tells.
        """
        import faiss

        manifest = read_manifest(directory)
        facts = IndexFacts.from_json(manifest.facts)
        flags = faiss.IO_FLAG_MMAP_IFC if mapped else 0
        try:
            index = faiss.read_index(str(manifest.path("index")), flags)
            ids = read_ids(manifest)
            vectors = np.load(manifest.path("vectors"), mmap_mode="r")
        except (RuntimeError, OSError, ValueError, pl.exceptions.PolarsError) as error:
            raise IndexingError(f"{directory} cannot be opened: {error}; build it again") from error
        set_own_probes(index, facts.spec.probes)
        built = facts.count if facts.base is None else facts.base.count
        found = (index.ntotal, index.d, len(ids), vectors.shape)
        expected = (built, facts.dimension, built, (built, facts.dimension))
        if found != expected:
            raise IndexingError(f"{directory} should hold {expected} and holds {found}; build it again")
        opened = cls(manifest, index, ids, vectors, Changes.read(manifest, ids.dtype, facts.dimension))
        if len(opened.ids) != facts.count:
            raise IndexingError(
                f"{directory} should have {facts.count} ids that can be found and has {len(opened.ids)}; build it again"
            )
        return opened

    def __len__(self) -> int:
        return self.facts.count

    @property
    def probes(self) -> int:
        """What a search looks through unless told; 0 where everything is compared."""
        return own_probes(self._index)[0]

    @property
    def most_probes(self) -> int:
        """What a search could look through at most."""
        return own_probes(self._index)[1]

    def search(
        self, queries: npt.ArrayLike, k: int, *, probes: int | None = None, allowed: Mask | None = None
    ) -> Neighbours:
        """The k nearest of each query [Q, d], which is brought to unit length where the vectors were.

        `allowed` [N] says which rows may be found. IndexingError for queries of another shape, or not finite.
        """
        asked, k = self._checked(queries), min(k, len(self))
        if self._overlay is not None:
            scores, rows = self._overlay.search(self._index, asked, k, probes=probes, allowed=allowed)
            return Neighbours(rows, scores)
        bits = None if allowed is None else allowed_bits(allowed)
        scores, rows = search(self._index, asked, k, probes=probes, allowed=bits)
        return Neighbours(rows, scores)

    def exact(self, queries: npt.ArrayLike, k: int) -> Neighbours:
        """The same by comparing every vector; of equal ones the first."""
        asked, k = self._checked(queries), min(k, len(self))
        best = np.full((len(asked), k), -np.inf, dtype=np.float32)
        rows = np.full((len(asked), k), -1, dtype=np.int64)
        for begin in range(0, len(self), _BLOCK):
            scores = asked @ np.asarray(self.vectors[begin : begin + _BLOCK], dtype=np.float32).T
            both = np.concatenate([best, scores], axis=1)
            numbers = np.concatenate(
                [rows, np.broadcast_to(np.arange(begin, begin + scores.shape[1]), scores.shape)], 1
            )
            order = np.argsort(-both, axis=1, kind="stable")[:, :k] if both.shape[1] <= 4 * k else _best(both, k)
            best, rows = np.take_along_axis(both, order, 1), np.take_along_axis(numbers, order, 1)
        return Neighbours(rows, best)

    def rows_of(self, ids: Sequence[Any] | npt.NDArray[np.int64]) -> Ids:
        """The row of each id, −1 where there is none."""
        if self._numbers is None:
            assert self._rows is not None
            return np.array([self._rows.get(each, -1) for each in ids], dtype=np.int64)
        asked = np.asarray(ids)
        if not len(self._numbers) or asked.dtype.kind not in "iu":  # names, perhaps, of an index that had some
            return np.full(len(asked), -1, dtype=np.int64)
        at = np.minimum(np.searchsorted(self._numbers, asked), len(self._numbers) - 1)
        return np.where(self._numbers[at] == asked, at, -1)

    def vectors_at(self, rows: Ids) -> Floats:
        """Vectors [n, d] at some rows, as they are compared."""
        return np.asarray(self.vectors[rows], dtype=np.float32)

    @property
    def _compares_exactly(self) -> bool:
        """Whether scores of the base's index are those of the vectors that are kept."""
        spec = self.facts.spec
        storage = spec.refine or spec.storage
        # Lists keep what is left of a vector when their centre is taken away, which halves round.
        halves = self.facts.normalized and (spec.refine is not None or spec.kind is not Kind.IVF)
        return storage is Storage.FP32 or (storage is Storage.FP16 and halves)

    def _checked(self, queries: npt.ArrayLike) -> Floats:
        asked = np.asarray(queries, dtype=np.float32)
        if asked.ndim != 2 or asked.shape[1] != self.facts.dimension:
            raise IndexingError(
                f"queries must be [Q, {self.facts.dimension}], got {list(asked.shape)}; embed them with what the index "
                "was made with"
            )
        return unit(finite(asked)) if self.facts.normalized else finite(asked)


def read_ids(manifest: Manifest) -> pl.Series:
    """[N] ids of what was built, ascending."""
    return pl.read_parquet(manifest.path("ids"), glob=False)[ID_COLUMN]


def norms(vectors: Floats) -> npt.NDArray[np.float64]:
    """[n] length of each vector."""
    # In fp32, squares would end at vectors of 1e19.
    lengths: npt.NDArray[np.float64] = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))
    return lengths


def unit(vectors: Floats) -> Floats:
    """Each vector at length 1, however short or long it is; one that is zero stays zero."""
    squares = np.einsum("nd,nd->n", vectors, vectors)
    scaled: Floats = vectors / np.maximum(np.sqrt(squares), _TINY)[:, None]
    beyond = ~((squares > _LEAST_SQUARE) & (squares < np.inf))
    if beyond.any():
        wide = vectors[beyond].astype(np.float64)
        scaled[beyond] = wide / np.maximum(norms(vectors[beyond]), np.finfo(np.float64).tiny)[:, None]
    return scaled


def as_compared(vectors: Floats, *, normalized: bool) -> Floats:
    """Vectors as an index compares them: as given, or brought to unit length and rounded to halves.

    Rounded before they are indexed, so that the index and the exact comparison have the same neighbours.
    """
    return unit(vectors).astype(np.float16).astype(np.float32) if normalized else vectors


def _best(scores: Floats, k: int) -> npt.NDArray[np.intp]:
    """Columns [Q, k] of the k highest of each row, highest first; of equal ones the first."""
    # The highest k by value, then all that equal the last of them compete by their place.
    floor = -np.partition(-scores, k - 1, axis=1)[:, k - 1 : k]
    found = np.empty((len(scores), k), dtype=np.intp)
    for at, row in enumerate(scores):
        columns = np.flatnonzero(row >= floor[at])
        found[at] = columns[np.argsort(-row[columns], kind="stable")][:k]
    return found
