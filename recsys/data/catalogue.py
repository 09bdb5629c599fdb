"""Map item and category ids to embedding rows: the vocabulary that a store, a model and a service share."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from recsys.data.lookup import Lookup, lookup_of
from recsys.errors import DataError, StoreError

ITEMS_FILE = "items.parquet"
CATEGORIES_FILE = "categories.parquet"
UNKNOWN_ROW = 0
"""Row of padding, of items that are not in the catalogue and of items without a category."""


def key_to_id(key: str) -> int:
    """The id of a string key: a 63-bit hash, the same on every machine and in every release."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") >> 1


def keys_to_ids(keys: Sequence[str] | pl.Series) -> npt.NDArray[np.int64]:
    """`key_to_id` of each of the distinct `keys`; DataError names two that share one: one chance in 10⁶ at 4 M."""
    ids = np.fromiter((key_to_id(key) for key in keys), dtype=np.int64, count=len(keys))
    order = np.argsort(ids, kind="stable")
    same = np.flatnonzero(ids[order][1:] == ids[order][:-1])
    if len(same):
        first, second = (keys[int(order[same[0] + step])] for step in (0, 1))
        raise DataError(f"keys {first!r} and {second!r} have the same id {key_to_id(first)}; rename one of them")
    return ids


@dataclass(frozen=True, kw_only=True, slots=True)
class Catalogue:
    """V items in C categories; an item has exactly one category.

    Rows count from 1 in ascending order of id; row 0 is padding and unknown. Where a log used string keys, ids are
    `key_to_id` of the key and the keys are kept for display.
    """

    item_ids: npt.NDArray[np.int64]
    """[V + 1] id of each item row, ascending from row 1; row 0 holds -1."""
    category_rows: npt.NDArray[np.int32]
    """[V + 1] category row of each item row; row 0 holds 0."""
    category_ids: npt.NDArray[np.int64]
    """[C + 1] id of each category row, ascending from row 1; row 0 holds -1."""
    item_keys: pl.Series | None = None
    """[V + 1] the log's own string keys, or None where its ids were integers."""
    category_keys: pl.Series | None = None
    """[C + 1] the log's own string keys, or None where its ids were integers."""
    _lookup: Lookup = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_lookup", lookup_of(self.item_ids[1:]))

    @property
    def n_items(self) -> int:
        """V, without row 0."""
        return len(self.item_ids) - 1

    @property
    def n_categories(self) -> int:
        """C, without row 0."""
        return len(self.category_ids) - 1

    def rows_of(self, item_ids: npt.ArrayLike) -> npt.NDArray[np.int32]:
        """Item rows of `item_ids` (any shape, int64), 0 where an id is not in the catalogue."""
        # Rows count from 1, so that what is absent, at −1, has row 0.
        places = self._lookup.places_of(np.asarray(item_ids, dtype=np.int64))
        return (places + 1).astype(np.int32)

    def name_of(self, item_id: int) -> str:
        """What to show a person for `item_id`: its key where the log had one, else the number."""
        row = int(self.rows_of(item_id))
        if self.item_keys is None or row == UNKNOWN_ROW:
            return str(item_id)
        return str(self.item_keys[row])

    def category_name_of(self, item_id: int) -> str:
        """What to show a person for the category of `item_id`; "unknown" for an item outside the catalogue."""
        category_row = int(self.category_rows[int(self.rows_of(item_id))])
        if category_row == UNKNOWN_ROW:
            return "unknown"
        if self.category_keys is None:
            return str(int(self.category_ids[category_row]))
        return str(self.category_keys[category_row])

    def save(self, directory: Path) -> None:
        """Write `items.parquet` and `categories.parquet` into `directory`."""
        items = {"item_id": self.item_ids, "category_row": self.category_rows}
        categories = {"category_id": self.category_ids}
        item_frame, category_frame = pl.DataFrame(items), pl.DataFrame(categories)
        if self.item_keys is not None:
            item_frame = item_frame.with_columns(self.item_keys.alias("item_key"))
        if self.category_keys is not None:
            category_frame = category_frame.with_columns(self.category_keys.alias("category_key"))
        item_frame.write_parquet(directory / ITEMS_FILE)
        category_frame.write_parquet(directory / CATEGORIES_FILE)

    @classmethod
    def load(cls, directory: Path) -> "Catalogue":
        """Read what `save` wrote; StoreError names the file that is missing or not one of ours."""
        try:
            items = pl.read_parquet(directory / ITEMS_FILE, glob=False)
            categories = pl.read_parquet(directory / CATEGORIES_FILE, glob=False)
            return cls(
                item_ids=items["item_id"].to_numpy(),
                category_rows=items["category_row"].to_numpy(),
                category_ids=categories["category_id"].to_numpy(),
                item_keys=items["item_key"] if "item_key" in items.columns else None,
                category_keys=categories["category_key"] if "category_key" in categories.columns else None,
            )
        except (OSError, pl.exceptions.PolarsError) as error:
            raise StoreError(
                f"no catalogue in {directory}: expected {ITEMS_FILE} and {CATEGORIES_FILE}, got {error}"
            ) from error
