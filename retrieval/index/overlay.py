"""Search a base and what was added since as one: rows that are hidden are never found, and k are found all the same."""

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from retrieval.index.changes import Changes
from retrieval.index.search import Floats, Ids, Mask, allowed_bits, own_probes, search
from retrieval.index.tables import among

_WIDER = 4
"""How many times as much is looked through where too little was found."""
_FEW = 0.25
"""Share of a base, hidden, up to which dropping what is hidden from what was found costs less than looking up bits."""
_SPARE, _MARGIN = 8, 4.0
"""How many more are asked for then: so many, and so many times as many as would be hidden by chance."""
_NOT_FOUND = np.finfo(np.float32).min


class Overlay:
    """Rows are those of all ids together, ascending; places are rows of the base, then of what was added, from N on."""

    def __init__(
        self, base_ids: pl.Series, base: npt.NDArray[np.floating[Any]], changes: Changes, added: Floats, *, exact: bool
    ) -> None:
        """`base` [N, d] and `added` [M, d] as they are compared; `exact` says whether the index of the base compares
        whole vectors, so that its scores may stand beside those of what was added."""
        import faiss

        self._base, self._exact = base, exact
        visible = ~(among(base_ids, changes.added.ids) | among(base_ids, changes.removed))
        places = np.concatenate([np.flatnonzero(visible), len(base_ids) + np.arange(len(added))])
        ids = pl.concat([base_ids.filter(pl.Series(visible)), changes.added.ids])
        order = ids.arg_sort().to_numpy()
        self.ids = ids.gather(order)
        self._places = places[order]
        self._rows = np.full(len(base_ids) + len(added), -1, dtype=np.int64)
        self._rows[self._places] = np.arange(len(ids))
        self.vectors = LaidOver(base, added, self._places)
        self._visible = visible
        self._hidden_share = 1 - float(visible.mean())
        self._there = int(visible.sum())
        self._bits = allowed_bits(visible) if self._hidden_share else None
        self._added = faiss.IndexFlatIP(added.shape[1])
        self._added.add(added)

    def search(
        self, index: Any, queries: Floats, k: int, *, probes: int | None, allowed: Mask | None
    ) -> tuple[Floats, Ids]:
        """The k nearest [Q, k] of each query among both, or among rows that are `allowed`: scores and rows.

        `index` is that of the base. Without `probes`, more is looked through until it has found k, or all it has.
        """
        count, bits, added_bits, there = len(self._base), self._bits, None, self._there
        if allowed is not None:
            may = np.zeros(len(self._rows), dtype=np.bool_)
            may[self._places[allowed]] = True
            bits, added_bits, there = allowed_bits(may[:count]), allowed_bits(may[count:]), int(may[:count].sum())
        parts = []
        if there and allowed is None and 0 < self._hidden_share <= _FEW:
            scores, places = self._dropping(index, queries, min(k, there), probes)
        elif there:
            scores, places = _filled(index, queries, min(k, there), probes, bits)
        if there:
            parts.append((scores if self._exact else self._compared(queries, places, scores), places))
        if self._added.ntotal:
            scores, places = search(self._added, queries, min(k, self._added.ntotal), allowed=added_bits)
            parts.append((scores, np.where(places >= 0, places + count, -1)))
        return self._best(parts, len(queries), k)

    def _dropping(self, index: Any, queries: Floats, k: int, probes: int | None) -> tuple[Floats, Ids]:
        """As a search by bits, by asking for some more and dropping what is hidden; by bits where too much was."""
        more = _SPARE + int(_MARGIN * self._hidden_share * k)
        scores, places = _filled(index, queries, min(k + more, len(self._base)), probes, None)
        found = (places >= 0) & self._visible[places]
        order = np.argsort(~found, axis=1, kind="stable")[:, :k]
        scores, places = np.take_along_axis(scores, order, 1), np.take_along_axis(places, order, 1)
        short = np.flatnonzero(found.sum(axis=1) < k)
        if len(short):
            scores[short], places[short] = _filled(index, queries[short], k, probes, self._bits)
        return scores, places

    def _compared(self, queries: Floats, places: Ids, scores: Floats) -> Floats:
        """The similarities of what a compressed index found, exactly."""
        exact = scores.copy()
        for query, at, here in zip(queries, places, exact, strict=True):
            here[at >= 0] = np.asarray(self._base[at[at >= 0]], dtype=np.float32) @ query
        return exact

    def _best(self, parts: list[tuple[Floats, Ids]], queries: int, k: int) -> tuple[Floats, Ids]:
        """The k best of both, highest first; of equal ones the first row."""
        nothing = np.full((queries, k), -1, dtype=np.int64)
        scores = np.concatenate([np.full(nothing.shape, _NOT_FOUND, np.float32), *(each for each, _ in parts)], axis=1)
        places = np.concatenate([nothing, *(each for _, each in parts)], axis=1)
        rows = np.where(places >= 0, self._rows[places], -1)
        last = np.where(rows >= 0, rows, len(self._places))
        order = np.lexsort((last, np.where(rows >= 0, -scores, np.inf)), axis=1)[:, :k]
        return np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)


class LaidOver:
    """The vectors [n, d] of both, by row."""

    def __init__(self, base: npt.NDArray[np.floating[Any]], added: Floats, places: Ids) -> None:
        self._base, self._added, self._places = base, added, places
        self.shape: tuple[int, int] = (len(places), base.shape[1])

    def __getitem__(self, rows: Ids | slice) -> Floats:
        places = self._places[rows]
        taken = np.empty((*places.shape, self.shape[1]), dtype=np.float32)
        old = places < len(self._base)
        taken[old] = self._base[places[old]]
        taken[~old] = self._added[places[~old] - len(self._base)]
        return taken


def _filled(
    index: Any, queries: Floats, k: int, probes: int | None, bits: npt.NDArray[np.uint8] | None
) -> tuple[Floats, Ids]:
    """A search that finds k of each query, of an index that has so many to find."""
    scores, places = search(index, queries, k, probes=probes, allowed=bits)
    looked, most = own_probes(index)
    while probes is None and looked < most and len(short := np.flatnonzero(places[:, -1] < 0)):
        looked = min(_WIDER * looked, most)
        scores[short], places[short] = search(index, queries[short], k, probes=looked, allowed=bits)
    return scores, places
