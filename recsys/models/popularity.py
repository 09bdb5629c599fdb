"""How often users dealt with each item: what is recommended to those of whom nothing is known, and what a score that
was learned against popular negatives leaves out."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from recsys.data.event_store import EventStore
from recsys.errors import DataError, StoreError

POPULARITY_FILE = "popularity.parquet"
_PART = 1 << 24
"""Events that are counted at once."""


class Popularity:
    """Items and how many events each has. It only reads, so threads may share it."""

    def __init__(self, item_ids: npt.NDArray[np.int64], events: npt.NDArray[np.int64]) -> None:
        """`item_ids` [V] are distinct, `events` [V] at least 0 and in descending order; DataError for others."""
        if item_ids.shape != events.shape or (len(events) and (np.diff(events).max(initial=0) > 0 or events[-1] < 0)):
            raise DataError(
                f"events must be one number an item, at least 0 and in descending order, got {events.shape} for "
                f"{item_ids.shape} items; count them with `Popularity.of`"
            )
        self.item_ids = item_ids
        """[V] most events first; of equal ones the lower id."""
        self.events = events
        """[V]"""
        self._order = np.argsort(item_ids, kind="stable")
        self._ascending = item_ids[self._order]

    @classmethod
    def of(cls, store: EventStore, counted: npt.NDArray[np.bool_] | None = None) -> "Popularity":
        """Count the events of `store`: those that `counted` [E] says, all of them for None.

        What is measured on held-out events must count those of training alone.
        """
        counts = np.zeros(store.catalogue.n_items + 1, dtype=np.int64)
        for begin in range(0, len(store), _PART):
            part = store.items[begin : begin + _PART]
            counts += np.bincount(
                part if counted is None else part[counted[begin : begin + _PART]], minlength=len(counts)
            )
        order = np.argsort(-counts[1:], kind="stable") + 1
        return cls(store.catalogue.item_ids[order], counts[order])

    def log_shares(self, item_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Logarithm of each item's share of all events, [T] for `item_ids` [T]; one event more is counted for each
        item, so that none, known or not, has a share of 0."""
        counts = np.zeros(len(item_ids))
        if len(self._ascending):
            at = np.minimum(np.searchsorted(self._ascending, item_ids), len(self._ascending) - 1)
            counts = np.where(self._ascending[at] == item_ids, self.events[self._order[at]], 0)
        return np.asarray(np.log(counts + 1) - np.log(self.events.sum() + len(self.events) + 1))


NOTHING_POPULAR = Popularity(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
"""Of a model that was saved without: all items count alike."""


def save_popularity(directory: Path, store: EventStore) -> None:
    """Count all events of `store` and keep the counts with the model in `directory`, which is to serve; an evaluation
    counts for itself."""
    popularity = Popularity.of(store)
    frame = pl.DataFrame({"item_id": popularity.item_ids, "events": popularity.events})
    frame.write_parquet(directory / POPULARITY_FILE)


def load_popularity(directory: Path) -> Popularity:
    """What was saved with a model; nothing for one that was saved without. StoreError for a file that is not ours."""
    path = directory / POPULARITY_FILE
    if not path.exists():
        return NOTHING_POPULAR
    try:
        frame = pl.read_parquet(path, glob=False)
        return Popularity(frame["item_id"].to_numpy(), frame["events"].to_numpy())
    except (OSError, pl.exceptions.PolarsError, DataError) as error:
        raise StoreError(f"{path} cannot be read: {error}; train the model again") from error
