"""How often users dealt with each item of a model: what is recommended to those of whom nothing is known."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from recsys.data.event_store import EventStore
from recsys.errors import StoreError

POPULARITY_FILE = "popularity.parquet"
_PART = 1 << 24
"""Events that are counted at once."""


def save_popularity(directory: Path, store: EventStore) -> None:
    """Count the events of each item of `store` and keep them with the model in `directory`, most first."""
    counts = np.zeros(store.catalogue.n_items + 1, dtype=np.int64)
    for begin in range(0, len(store), _PART):
        counts += np.bincount(store.items[begin : begin + _PART], minlength=len(counts))
    order = np.argsort(-counts[1:], kind="stable") + 1
    frame = pl.DataFrame({"item_id": store.catalogue.item_ids[order], "events": counts[order]})
    frame.write_parquet(directory / POPULARITY_FILE)


def load_popular(directory: Path) -> npt.NDArray[np.int64]:
    """Item ids, most popular first; none for a model that was saved without. StoreError for a file that is not ours."""
    path = directory / POPULARITY_FILE
    if not path.exists():
        return np.empty(0, dtype=np.int64)
    try:
        return pl.read_parquet(path)["item_id"].to_numpy()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise StoreError(f"{path} cannot be read: {error}; train the model again") from error
