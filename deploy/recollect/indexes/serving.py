"""The index that answers: opened beside the one before, swapped in as one reference, let go when nobody needs it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from recollect.artifacts import INDEXES, Artifact, Hold, open_store
from recollect.artifacts.following import Followed, LabelledSource
from recollect.errors import ArtifactError
from recollect.indexes.building import open_version
from recsys.recommending.candidates import Floats, Ids
from retrieval.index.search import use_threads
from retrieval.index.vector_index import VectorIndex

LEAST_KNOWN = 0.5
"""Share of an index's ids that must be items of the model: new items are few, and another table's ids are none."""
_ASKED = 4096
"""Ids of an index that the model is asked for, at least."""
_WARMING = 16
"""Searches that a new index answers before it answers for others."""


class IndexNeighbours:
    """Items like items, as `recsys.recommending` asks for them."""

    def __init__(self, index: VectorIndex) -> None:
        self._index = index
        self._ids = index.ids.to_numpy()

    def nearest(self, item_ids: Ids, k: int) -> tuple[Ids, Floats]:
        """The k items [S, k] most like each of `item_ids` [S], itself left out; −1 where there are fewer."""
        use_threads(1)
        rows = self._index.rows_of(item_ids)
        ids = np.full((len(item_ids), k), -1, dtype=np.int64)
        similarities = np.zeros((len(item_ids), k), dtype=np.float32)
        there = np.flatnonzero(rows >= 0)
        if not len(there):
            return ids, similarities
        found = self._index.search(self._index.vectors_at(rows[there]), k + 1)
        # [S', k + 1] → itself, wherever it stands among its equals, is moved behind the others.
        itself = found.rows == rows[there][:, None]
        order = np.argsort(itself, axis=1, kind="stable")[:, :k]
        nearest = np.take_along_axis(found.rows, order, axis=1)
        nearest[np.take_along_axis(itself, order, axis=1)] = -1
        width = nearest.shape[1]
        ids[there, :width] = np.where(nearest >= 0, self._ids[nearest], -1)
        similarities[there, :width] = np.where(nearest >= 0, np.take_along_axis(found.scores, order, axis=1), 0)
        return ids, similarities


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedIndex:
    """An open index and the label of replies."""

    name: str
    version: str
    neighbours: IndexNeighbours
    hold: Hold
    """Keeps the version from being removed."""


class IndexSlot(Protocol):
    """What holds the index that answers now; a call takes it once and keeps it."""

    @property
    def current(self) -> ServedIndex:
        """The index that answers."""
        ...


class IndexSource(LabelledSource):
    """Where an index comes from."""

    kind = INDEXES

    def open(self, known: "Known | None" = None) -> "FollowedIndex":
        """The version that the label points at now, opened; see `FollowedIndex`."""
        return FollowedIndex(self.root, self.reference, shared=self.shared, known=known)


Known = Callable[[Ids], npt.NDArray[np.bool_]]
"""Tells which ids [N] are items of the model that ranks."""


class FollowedIndex(Followed[ServedIndex]):
    """The index that a label points at; one of which `known` knows less than half cannot be opened."""

    def __init__(self, root: Path, reference: str, *, shared: str | None = None, known: Known | None = None) -> None:
        """Opens the version now; ArtifactError or IndexingError where there is none that can be."""
        self._known = known
        super().__init__(open_store(root, shared=shared, kind=INDEXES), reference)

    def _open(self, artifact: Artifact, hold: Hold) -> ServedIndex:
        index = open_version(artifact)
        self._require_items(artifact.reference, index)
        neighbours = IndexNeighbours(index)
        neighbours.nearest(index.ids.head(_WARMING).to_numpy(), 10)
        return ServedIndex(name=artifact.name, version=artifact.version, neighbours=neighbours, hold=hold)

    def _require_items(self, reference: str, index: VectorIndex) -> None:
        remedy = "recommend from an index of its items, and search this one with `recollect index search`"
        if index.ids.dtype != pl.Int64:
            raise ArtifactError(
                f"ids of {reference} must be numbers of items, got names such as {index.ids[0]!r}; {remedy}"
            )
        if self._known is not None:
            asked = index.ids.gather_every(max(1, len(index.ids) // _ASKED)).to_numpy()
            share = float(self._known(asked).mean())
            if share < LEAST_KNOWN:
                raise ArtifactError(f"the model knows only {share:.0%} of the ids of {reference} as items; {remedy}")
