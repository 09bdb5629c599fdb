"""Hold what a shop tells of its items, column by column, and answer for many items at once.

On disk, one directory:

    catalogue.json      schema version, counts, currencies, columns, where it came from
    items.parquet       a row an item, ascending by item_id
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from recsys.errors import StoreError
from recsys.metadata.filters import FilterError, FilterProblem, ItemFilter

Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

SCHEMA_VERSION = 1
ITEMS_FILE, FACTS_FILE = "items.parquet", "catalogue.json"
MISSING = -1
"""Row of an item that the catalogue does not have."""
MOST_TOLD = 10
"""Columns that are named to who has sent another."""
STANDARD: dict[str, pl.DataType] = {
    "item_id": pl.Int64(),
    "item_key": pl.String(),
    "name": pl.String(),
    "category": pl.List(pl.String),
    "image": pl.String(),
    "price": pl.Float64(),
    "currency": pl.String(),
    "availability": pl.String(),
}
"""Columns that every catalogue has, any but item_id perhaps without a value; further ones are the shop's own."""


class Availability(StrEnum):
    """Whether an item can be had, in the words of product feeds."""

    IN_STOCK = "in_stock"
    OUT_OF_STOCK = "out_of_stock"
    PREORDER = "preorder"
    BACKORDER = "backorder"


@dataclass(frozen=True, kw_only=True, slots=True)
class CatalogueFacts:
    """What a catalogue holds and where it came from."""

    items: int
    priced: int
    """Items with a price."""
    availability_told: int
    """Items of which it is told whether they can be had."""
    in_stock: int
    currencies: tuple[str, ...]
    """Of the prices, in alphabetical order."""
    columns: tuple[str, ...]
    """The shop's own columns."""
    only_in_stock: bool
    """Whether requests that do not say otherwise want only what is in stock."""
    source: dict[str, Any] = field(default_factory=dict)
    """File and options that it was read with, and how many rows were turned away."""
    schema_version: int = SCHEMA_VERSION

    @classmethod
    def of(cls, frame: pl.DataFrame, *, only_in_stock: bool, source: dict[str, Any]) -> "CatalogueFacts":
        """What to say of a frame with the columns of STANDARD and others."""
        return cls(
            items=frame.height,
            priced=frame["price"].count(),
            availability_told=frame["availability"].count(),
            in_stock=int((frame["availability"] == Availability.IN_STOCK).sum()),
            currencies=tuple(frame["currency"].drop_nulls().unique().sort()),
            columns=tuple(name for name in frame.columns if name not in STANDARD),
            only_in_stock=only_in_stock,
            source=source,
        )


class ItemMetadata:
    """What a shop tells of N items. It only reads, so threads may share it."""

    def __init__(self, frame: pl.DataFrame, facts: CatalogueFacts) -> None:
        """`frame` has the columns of STANDARD and those of `facts`, a row an item, ascending by item_id."""
        self.frame = frame
        self.facts = facts
        self.item_ids: Ids = frame["item_id"].to_numpy()
        """[N] ascending."""
        self._prices = frame["price"].to_numpy()
        # Each member of a list in a row of its own: (row, member).
        self._members = {
            name: frame.select(pl.int_range(pl.len()).alias("row"), pl.col(name)).explode(name).drop_nulls()
            for name, dtype in frame.schema.items()
            if dtype == pl.List(pl.String)
        }

    def __len__(self) -> int:
        return len(self.item_ids)

    @property
    def filterable(self) -> tuple[str, ...]:
        """Columns whose values can be asked for; prices have a range of their own."""
        return tuple(name for name in self.frame.columns if name not in ("item_id", "price"))

    def rows_of(self, item_ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Rows of `item_ids` (any shape), MISSING where the catalogue does not have an item."""
        ids = np.asarray(item_ids, dtype=np.int64)
        if len(self) == 0:
            return np.full(ids.shape, MISSING)
        at = np.minimum(np.searchsorted(self.item_ids, ids), len(self) - 1)
        return np.where(self.item_ids[at] == ids, at, MISSING)

    def take(self, item_ids: npt.ArrayLike, columns: Sequence[str]) -> pl.DataFrame:
        """`columns` of `item_ids` [T], a row each, in their order; nulls where the catalogue does not have an item."""
        rows = pl.Series(self.rows_of(item_ids), dtype=pl.Int64)
        return self.frame.select(pl.col(list(columns)).gather(rows.set(rows < 0, None)))

    def unknown_columns(self, columns: Sequence[str]) -> list[tuple[int, str]]:
        """Place of each of `columns` that cannot be displayed, and what to say of it."""
        have = [name for name in self.frame.columns if name != "item_id"]
        return [(at, _unknown(name, have)) for at, name in enumerate(columns) if name not in have]

    def settled(self, wanted: ItemFilter | None) -> ItemFilter | None:
        """`wanted` with what the catalogue says where it says nothing; None where every item passes, known or not.

        FilterError names what the catalogue cannot be filtered by.
        """
        wanted = wanted or ItemFilter()
        problems = self._problems(wanted)
        if problems:
            raise FilterError(problems)
        settled = ItemFilter(
            min_price=wanted.min_price,
            max_price=wanted.max_price,
            currency=wanted.currency if wanted.by_price else None,
            in_stock=(self.facts.only_in_stock if wanted.in_stock is None else wanted.in_stock) or None,
            categories=wanted.categories,
            columns=wanted.columns,
        )
        return None if settled == ItemFilter() else settled

    def matching(self, settled: ItemFilter) -> Mask:
        """[N] which items pass a filter that `settled` gave."""
        mask = np.ones(len(self), dtype=bool)
        # NaN, for no price, is neither more nor less than anything.
        if settled.min_price is not None:
            mask &= self._prices >= settled.min_price
        if settled.max_price is not None:
            mask &= self._prices <= settled.max_price
        asked = list(settled.columns)
        if settled.currency is not None:
            asked.append(("currency", (settled.currency,)))
        if settled.in_stock:
            asked.append(("availability", (Availability.IN_STOCK,)))
        if settled.categories:
            asked.append(("category", settled.categories))
        for column, values in asked:
            mask &= self._among(column, values)
        return mask

    def save(self, directory: Path) -> None:
        """Write both files into `directory`, which is made; StoreError where the disk is full."""
        directory.mkdir(parents=True, exist_ok=True)
        try:
            self.frame.write_parquet(directory / ITEMS_FILE)
        except pl.exceptions.PolarsError as error:
            # Polars tells of a full disk so.
            raise StoreError(f"{directory / ITEMS_FILE} cannot be written: {error}; make room and repeat") from error
        (directory / FACTS_FILE).write_text(json.dumps(asdict(self.facts), indent=2) + "\n")

    @classmethod
    def load(cls, directory: Path) -> "ItemMetadata":
        """Read what `save` wrote; StoreError names the file that is missing or not one of ours."""
        facts = read_facts(directory)
        try:
            frame = pl.read_parquet(directory / ITEMS_FILE, glob=False)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise StoreError(f"{directory / ITEMS_FILE} cannot be read: {error}; import the catalogue again") from error
        expected = {*STANDARD, *facts.columns}
        kinds = {name: dtype for name, dtype in frame.schema.items() if name in STANDARD}
        ids = frame["item_id"].to_numpy() if "item_id" in frame.columns else np.empty(0)
        if set(frame.columns) != expected or kinds != STANDARD or len(ids) != facts.items or (np.diff(ids) <= 0).any():
            raise StoreError(
                f"{directory / ITEMS_FILE} is not what {FACTS_FILE} beside it tells of: expected {facts.items} items, "
                f"ascending by item_id, with columns {', '.join(sorted(expected))}; import the catalogue again"
            )
        return cls(frame, facts)

    def _problems(self, wanted: ItemFilter) -> list[FilterProblem]:
        have = self.facts.currencies
        told = ", ".join(have) or "none"
        problems = []
        if wanted.by_price and wanted.currency is None and len(have) > 1:
            description = f"must be given, since the catalogue has prices in {told}; send one of them"
            problems.append(FilterProblem(field="currency", description=description))
        if wanted.currency is not None and wanted.currency not in have:
            description = f"must be one that the catalogue has prices in, got {wanted.currency!r}; there is {told}"
            problems.append(FilterProblem(field="currency", description=description))
        if wanted.in_stock and self.facts.availability_told == 0:
            description = "cannot be asked for: the catalogue tells of no item whether it is in stock; leave it out"
            problems.append(FilterProblem(field="in_stock", description=description))
        for at, (name, _) in enumerate(wanted.columns):
            if name not in self.filterable:
                description = _unknown(name, self.filterable)
                if name == "price":
                    description = "cannot be 'price', which is asked for by min_price and max_price; send these"
                problems.append(FilterProblem(field=f"columns[{at}].column", description=description))
        return problems

    def _among(self, column: str, values: Sequence[str]) -> Mask:
        wanted = pl.Series(values, dtype=pl.String)
        if column in self._members:
            members = self._members[column]
            mask = np.zeros(len(self), dtype=bool)
            mask[members["row"].filter(members[column].is_in(wanted.implode())).to_numpy()] = True
            return mask
        texts = self.frame[column].cast(pl.String)
        if self.frame.schema[column].is_float():
            # "12" and "12.0" are one number.
            wanted = wanted.cast(self.frame.schema[column], strict=False).drop_nulls().cast(pl.String)
        found: Mask = texts.is_in(wanted.implode()).fill_null(False).to_numpy()
        return found


def _unknown(name: str, have: Sequence[str]) -> str:
    return f"must be a column of the catalogue, got {name!r}; there is {some_of(have)}"


def some_of(names: Sequence[str]) -> str:
    """`names` as they are told to who has sent another: a feed of products has some fifty columns."""
    more = f" and {len(names) - MOST_TOLD} more" if len(names) > MOST_TOLD else ""
    return (", ".join(map(repr, names[:MOST_TOLD])) or "none") + more


def read_facts(directory: Path) -> CatalogueFacts:
    """What is said of the catalogue in `directory`; StoreError where that cannot be read."""
    path = directory / FACTS_FILE
    try:
        raw = json.loads(path.read_text())
        schema = raw["schema_version"]
        if schema != SCHEMA_VERSION:
            raise StoreError(f"{path} has schema {schema}, this release reads {SCHEMA_VERSION}; import it again")
        return CatalogueFacts(**raw | {name: tuple(raw[name]) for name in ("currencies", "columns")})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{path} cannot be read: {error!r}; name a catalogue that `recollect catalogue import` made"
        ) from error
