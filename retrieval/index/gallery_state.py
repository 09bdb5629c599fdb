"""One state of a gallery, open to be searched: an answer never mixes two states, whatever becomes of the gallery."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from retrieval.errors import IndexingError
from retrieval.index.build import finite
from retrieval.index.files import Manifest
from retrieval.index.gallery_input import ID_COLUMN, SLOT_COLUMN
from retrieval.index.search import Floats, Ids, Mask, allowed_bits, own_probes, search
from retrieval.index.spec import IndexSpec, Storage
from retrieval.index.stored_vectors import StoredVectors

EXACT_UP_TO = 2_000
"""Images that are compared whole unless it is said otherwise."""
_FEW = 500
"""Images that a filter leaves of a gallery with an index, up to which they are compared whole."""
_BLOCK = 1024
"""Images that are compared at once."""
_CANDIDATES, _LEAST_CANDIDATES = 5, 64
"""Images that are compared exactly: so many for each one asked for, and at least so many."""
_BEHIND_CODES = 4
"""How many times as many are compared where codes found them, which tell neighbours apart less well."""
_FETCHED = 8
"""Vectors that are fetched at first, by candidates: an image is often found by several of its own."""
_WIDER = 4
"""How much more is fetched, or looked through, where there were too few candidates."""
_KEPT_IN_MEMORY = 512 << 20
"""Bytes of fp32 up to which a gallery without an index is kept in memory."""


@dataclass(frozen=True, slots=True)
class GalleryHit:
    """One picture."""

    image_id: str
    score: float
    """Inner product of the query and the picture's best vector: their cosine, for a query of unit length."""
    vector: int
    """Which of its V vectors that is."""


class GalleryState:
    """Pictures have rows, in the order that they were added, and their vectors slots, some of which are free."""

    def __init__(self, manifest: Manifest) -> None:
        directory, facts = manifest.directory, manifest.facts
        try:
            self.storage = Storage(facts["storage"])
            self.number, self.seed, self.trained_on = (int(facts[name]) for name in ("state", "seed", "trained_on"))
            self.spec = None if facts["spec"] is None else IndexSpec.from_json(facts["spec"])
        except (KeyError, TypeError, ValueError) as error:
            raise IndexingError(f"the manifest of {directory} lacks a fact: {error!r}; build it again") from error
        self.manifest = manifest
        self.stored = StoredVectors(manifest.path("vectors"), self.storage)
        slots, self.vectors, self.dimension = self.stored.shape
        rows = pl.read_parquet(manifest.path("rows"), glob=False)
        self.slots: Ids = rows[SLOT_COLUMN].to_numpy().astype(np.int64)
        if len(self.slots) and not (self.slots[0] >= 0 and self.slots[-1] < slots and (np.diff(self.slots) > 0).all()):
            raise IndexingError(f"{directory} has ids for other pictures than the {slots} kept; build it again")
        self.ids: list[str] = rows[ID_COLUMN].to_list()
        self.rows = {image_id: row for row, image_id in enumerate(self.ids)}
        self.metadata = rows.drop(ID_COLUMN, SLOT_COLUMN)
        self._row_of = np.full(slots, -1, dtype=np.int64)
        self._row_of[self.slots] = np.arange(len(self.slots))
        self.index = None
        if self.spec is not None:
            self.index = read_index(manifest.path("index"), slots * self.vectors, self.dimension)
        self._memory = None
        if self.index is None and len(self) * self.vectors * self.dimension * 4 <= _KEPT_IN_MEMORY:
            self._memory = torch.from_numpy(self.stored.take(self.slots))

    def __len__(self) -> int:
        return len(self.ids)

    def search(
        self, query: Floats, k: int, exact: bool, exclude: Collection[str], allowed: Mask | None, probes: int | None
    ) -> list[GalleryHit]:
        """See `Gallery.search`."""
        asked = self._checked(query, k, probes)
        may = self._may(exclude, allowed)
        count = len(self) if may is None else int(may.sum())
        wanted = min(k, count)
        if wanted == 0:
            return []
        rows = None
        if not exact and self.index is not None and count > max(min(_FEW, EXACT_UP_TO), 2 * wanted):
            rows = self._candidates(asked, wanted, count, may, probes)
        if rows is None:
            rows = np.arange(len(self)) if may is None else np.flatnonzero(may)
        return self._best(asked, rows, wanted)

    def vectors_of(self, image_id: str) -> Floats:
        """See `Gallery.vectors_of`."""
        if image_id not in self.rows:
            raise IndexingError(f"no picture {image_id!r} in {self.manifest.directory}; ask for one of `ids`")
        vectors: Floats = self.stored.take(self.slots[[self.rows[image_id]]])[0]
        return vectors

    def filtered(self, columns: Mapping[str, Collection[Any]]) -> Mask:
        """See `Gallery.filtered`."""
        unknown = [name for name in columns if name not in self.metadata.columns]
        if unknown:
            have = ", ".join(self.metadata.columns) or "none"
            raise IndexingError(f"no column {unknown[0]!r} to filter by; there is {have}")
        fits = np.ones(len(self), dtype=np.bool_)
        for name, values in columns.items():
            column = self.metadata[name]
            try:
                asked = pl.Series(list(values), dtype=column.dtype).implode()
                fits &= column.is_in(asked).fill_null(value=False).to_numpy()
            except (pl.exceptions.PolarsError, TypeError) as error:
                raise IndexingError(
                    f"values of {name!r} must be {column.dtype}, got {list(values)[:5]!r}; ask for what the column has"
                ) from error
        return fits

    def frame(self) -> pl.DataFrame:
        """Ids, slots and metadata, as they are kept."""
        ids, slots = pl.Series(ID_COLUMN, self.ids, pl.String), pl.Series(SLOT_COLUMN, self.slots, pl.Int64)
        return pl.DataFrame([ids, slots]).hstack(self.metadata.get_columns())

    def _checked(self, query: Floats, k: int, probes: int | None) -> Floats:
        if query.shape != (self.dimension,):
            raise IndexingError(
                f"query must be [{self.dimension}], got {list(query.shape)}; embed it with the model of the gallery"
            )
        if k < 1:
            raise IndexingError(f"k must be at least 1, got {k}")
        if probes is not None and probes < 1:
            raise IndexingError(f"probes must be at least 1, got {probes}; leave it out for the gallery's own")
        if not np.isfinite(query).all():
            raise IndexingError("query must be finite, it is not; embed it again")
        return finite(query[None])

    def _may(self, exclude: Collection[str], allowed: Mask | None) -> Mask | None:
        if allowed is not None and (allowed.shape != (len(self),) or allowed.dtype != np.bool_):
            raise IndexingError(
                f"allowed must be [{len(self)}] bool, one for each picture, got {list(allowed.shape)} {allowed.dtype}; "
                "make it anew after a change"
            )
        left_out = [self.rows[image_id] for image_id in exclude if image_id in self.rows]
        if allowed is None and not left_out:
            return None
        may = np.ones(len(self), dtype=np.bool_) if allowed is None else allowed.copy()
        may[left_out] = False
        return may

    def _candidates(self, query: Floats, wanted: int, count: int, may: Mask | None, probes: int | None) -> Ids | None:
        """Rows of the pictures of the nearest vectors, `wanted` at least; None where the index does not find so many.

        Vectors are fetched, and lists looked through, until enough pictures are found.
        """
        more = _BEHIND_CODES if self.spec is not None and self.spec.storage is Storage.PQ else 1
        enough = min(more * max(_CANDIDATES * wanted, _LEAST_CANDIDATES), count)
        bits, vectors_kept = self._bits(count, may), len(self._row_of) * self.vectors
        fetched = min(_FETCHED * enough, vectors_kept)
        own, most = own_probes(self.index)
        if probes is not None:
            looked = min(probes, most)
        else:
            # Of the vectors in a list a filter leaves its share: in as many more lists are as many to choose from.
            looked = own if bits is None else min(own * len(self._row_of) // count, most)
        while True:
            _, found = search(self.index, query, fetched, probes=looked or None, allowed=bits)
            vectors = found[0][found[0] >= 0]
            rows = self._row_of[vectors // self.vectors]
            rows = rows[rows >= 0]
            rows = rows if may is None else rows[may[rows]]
            _, first = np.unique(rows, return_index=True)
            rows = rows[np.sort(first)]
            if len(rows) >= enough:
                return np.sort(rows[:enough])
            if len(vectors) == fetched < vectors_kept:
                fetched = min(_WIDER * fetched, vectors_kept)
            elif looked < most:
                looked = min(_WIDER * looked, most)
            else:
                return np.sort(rows) if len(rows) >= wanted else None

    def _bits(self, count: int, may: Mask | None) -> npt.NDArray[np.uint8] | None:
        """Which vectors may be found; None where most may, as it costs less to drop the rest than to look up bits."""
        slots = len(self._row_of)
        if 10 * count >= 9 * slots:
            return None
        there = np.zeros(slots, dtype=np.bool_)
        there[self.slots if may is None else self.slots[may]] = True
        return allowed_bits(there, each=self.vectors)

    def _best(self, query: Floats, rows: Ids, wanted: int) -> list[GalleryHit]:
        """Compare pictures exactly: the highest of each one's V similarities, then the highest of these."""
        asked = torch.from_numpy(query[0])
        scores, places = [], []
        for begin in range(0, len(rows), _BLOCK):
            block = rows[begin : begin + _BLOCK]
            if self._memory is None:
                vectors = torch.from_numpy(self.stored.take(self.slots[block]))
            elif len(rows) == len(self):
                vectors = self._memory[begin : begin + _BLOCK]
            else:
                vectors = self._memory[torch.from_numpy(block)]
            # [n, V, d] -> [n · V] -> [n, V]
            similarity = torch.mv(vectors.reshape(-1, self.dimension), asked).view(-1, self.vectors)
            score, place = similarity.max(dim=1)
            scores.append(score)
            places.append(place)
        score, place = torch.cat(scores), torch.cat(places)
        return [
            GalleryHit(self.ids[int(rows[at])], float(score[at]), int(place[at]))
            for at in _first_of_equals(score, wanted).tolist()
        ]


def read_index(path: Path, count: int, dimension: int) -> Any:
    """The faiss.Index of a file whose hash was checked."""
    import faiss

    try:
        index = faiss.read_index(str(path))
    except RuntimeError as error:
        raise IndexingError(f"{path} is no index that this FAISS reads: {error}; build it again") from error
    if (index.ntotal, index.d) != (count, dimension):
        raise IndexingError(
            f"{path} has {index.ntotal} vectors of {index.d}, the gallery {count} of {dimension}; build it again"
        )
    return index


def _first_of_equals(score: torch.Tensor, wanted: int) -> torch.Tensor:
    """Positions of the highest scores, best first, of equal ones the first."""
    least = score.topk(wanted).values[-1]
    at = torch.nonzero(score >= least)[:, 0]
    return at[score[at].argsort(descending=True, stable=True)[:wanted]]
