"""What users take together, counted: the item-to-item recommender that others are measured against."""

import numpy as np
import numpy.typing as npt

from recsys.data.event_store import EventStore
from recsys.recommending.candidates import Floats, Ids

SESSION_GAP_MS = 30 * 60 * 1_000
"""Longest time between two events of one session."""
MOST_SESSIONS = 2_000
"""Sessions of an item that are looked through, the latest ones."""
MOST_NEIGHBOURS = 500
"""Neighbours of an item that are remembered."""


class TakenTogether:
    """Items are alike as far as the same sessions hold them: the cosine n_ab / √(n_a · n_b) of counts of sessions.

    A session is what a user does without a longer pause, a basket where all its events have one time. An item's
    neighbours are counted when they are first asked for; nothing is locked, since threads would count the same.
    """

    def __init__(
        self,
        store: EventStore,
        counted: npt.NDArray[np.bool_],
        *,
        gap_ms: int = SESSION_GAP_MS,
        most_sessions: int = MOST_SESSIONS,
    ) -> None:
        """Counts the events of `store` that `counted` [E] says."""
        self._catalogue = store.catalogue
        self._most_sessions = most_sessions
        at = np.flatnonzero(counted & (store.items[:] > 0))
        users = np.searchsorted(store.offsets, at, side="right") - 1
        times = store.times[at]
        begins = np.r_[True, (users[1:] != users[:-1]) | (np.diff(times) > gap_ms)][: len(at)]
        sessions = np.cumsum(begins) - 1
        n_rows = store.catalogue.n_items + 1
        # Of each session its distinct items, session after session; then of each item its sessions, in order of time.
        pairs = np.unique(sessions * n_rows + store.items[at])
        self._sessions, self._items = np.divmod(pairs, n_rows)
        self._session_offsets = np.searchsorted(self._sessions, np.arange(len(begins) + 1))
        moments = times[begins] if len(at) else times
        self._of_item = np.lexsort((moments[self._sessions], self._items))
        self._counts = np.bincount(self._items, minlength=n_rows)
        self._item_offsets = np.r_[0, np.cumsum(self._counts)]
        self._known: dict[int, tuple[Ids, Floats]] = {}

    def nearest(self, item_ids: Ids, k: int) -> tuple[Ids, Floats]:
        """The k items [S, k] most often taken together with each of `item_ids` [S], and their cosines; −1 where there
        are fewer, and beyond MOST_NEIGHBOURS."""
        ids = np.full((len(item_ids), k), -1, dtype=np.int64)
        similarities = np.zeros((len(item_ids), k), dtype=np.float32)
        for at, row in enumerate(self._catalogue.rows_of(item_ids).tolist()):
            if row not in self._known:
                self._known[row] = self._count(row)
            rows, cosines = self._known[row]
            ids[at, : len(rows)] = self._catalogue.item_ids[rows[:k]]
            similarities[at, : len(rows)] = cosines[:k]
        return ids, similarities

    def _count(self, row: int) -> tuple[Ids, Floats]:
        """Rows of all items that share a session with `row`, most alike first, and their cosines."""
        own = self._of_item[self._item_offsets[row] : self._item_offsets[row + 1]][-self._most_sessions :]
        sessions = self._sessions[own]
        begins = self._session_offsets[sessions]
        lengths = self._session_offsets[sessions + 1] - begins
        at = np.arange(lengths.sum()) + np.repeat(begins - (np.cumsum(lengths) - lengths), lengths)
        rows, shared = np.unique(self._items[at], return_counts=True)
        rows, shared = rows[rows != row], shared[rows != row]
        # Where only some of the item's sessions were looked through, the others are taken to be like them.
        shared = np.minimum(shared * (self._counts[row] / max(1, len(own))), self._counts[rows])
        cosines = shared / np.sqrt(np.float64(self._counts[row]) * self._counts[rows])
        order = np.argsort(-cosines, kind="stable")[:MOST_NEIGHBOURS]
        return rows[order], cosines[order].astype(np.float32)
