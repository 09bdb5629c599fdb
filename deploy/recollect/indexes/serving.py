"""The index that answers: opened beside the one before, swapped in as one reference, let go when nobody needs it."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from recollect.artifacts import INDEXES, ArtifactStore, Hold
from recollect.errors import ArtifactError
from recollect.indexes.building import open_version
from recsys.recommending.candidates import Floats, Ids
from retrieval.errors import RetrievalError
from retrieval.index.search import use_threads
from retrieval.index.vector_index import VectorIndex

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""How often the label is looked at."""
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


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexSource:
    """Where an index comes from. Pickled into every replica."""

    root: Path
    """Directory of all indexes' versions."""
    reference: str
    """`items@stable`."""

    def check(self) -> None:
        """ArtifactError where there is no such version or it is altered."""
        split_reference(self.reference)
        ArtifactStore(self.root, kind=INDEXES).resolve(self.reference)

    def open(self, known: "Known | None" = None) -> "FollowedIndex":
        """The version that the label points at now, opened; see `FollowedIndex`."""
        return FollowedIndex(self.root, self.reference, known=known)


Known = Callable[[Ids], npt.NDArray[np.bool_]]
"""Tells which ids [N] are items of the model that ranks."""


class FollowedIndex:
    """Follows a label: whatever version it points at is opened beside the present one, then takes its place.

    A version that cannot be opened, or of which `known` knows less than half, leaves the present one answering, and is
    tried again when the label moves.
    """

    def __init__(self, root: Path, reference: str, *, known: Known | None = None, look_s: float = LOOK_S) -> None:
        """Opens the version now; ArtifactError or IndexingError where there is none that can be."""
        self._known = known
        self._store = ArtifactStore(root, kind=INDEXES)
        self._name, self._label = split_reference(reference)
        self._look_s = look_s
        self._failed: str | None = None
        self.current = self._opened(self._labelled())

    async def follow(self) -> None:
        """Look at the label for ever; run it as a task."""
        while True:
            await asyncio.sleep(self._look_s)
            with contextlib.suppress(OSError):  # looked at again soon
                await self.look()

    async def look(self) -> None:
        """Go over to the version that the label points at, if it is another one."""
        version = self._store.labelled(self._name, self._label)
        if version is None or version in (self.current.version, self._failed):
            return
        try:
            opened = await asyncio.to_thread(self._opened, version)
        except (ArtifactError, RetrievalError):
            self._failed = version
            log.exception("index %s/%s cannot be opened, %s answers on", self._name, version, self.current.version)
            return
        self._failed = None
        before, self.current = self.current, opened
        before.hold.release()  # whoever still searches it has it in memory

    def close(self) -> None:
        """Let the version go."""
        self.current.hold.release()

    def _labelled(self) -> str:
        return self._store.resolve(f"{self._name}@{self._label}").version

    def _opened(self, version: str) -> ServedIndex:
        artifact = self._store.resolve(f"{self._name}/{version}")
        hold = self._store.hold(artifact)
        try:
            index = open_version(artifact)
            self._require_items(artifact.reference, index)
            neighbours = IndexNeighbours(index)
            neighbours.nearest(index.ids.head(_WARMING).to_numpy(), 10)
        except BaseException:
            hold.release()
            raise
        return ServedIndex(name=self._name, version=version, neighbours=neighbours, hold=hold)

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


def split_reference(reference: str) -> tuple[str, str]:
    """Name and label of `items@stable`; ArtifactError for anything else, since a version never becomes another one."""
    name, at, label = reference.partition("@")
    if not (name and at and label):
        raise ArtifactError(f"index must be NAME@LABEL such as items@stable, got {reference!r}")
    return name, label
