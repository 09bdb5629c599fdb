"""What a generated shop sells: categories of uneven size, sub-tastes within them, and the few items that most want."""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Stock(Protocol):
    """What a shop's configuration says of what it sells."""

    @property
    def items(self) -> int:
        """V."""

    @property
    def categories(self) -> int:
        """C."""

    @property
    def tastes(self) -> int:
        """Sub-tastes of a category, at most."""

    @property
    def popularity_exponent(self) -> float:
        """Zipf exponent of the popularity of items within a category."""

    @property
    def category_exponent(self) -> float:
        """Zipf exponent of the sizes of categories."""

    @property
    def seed(self) -> int:
        """What is drawn from it is always the same."""


@dataclass(frozen=True, slots=True)
class Assortment:
    """V items in C categories. Items of a category are neighbours; item `begins[c] + rank · tastes[c] + taste`.

    Popularity falls with the rank. No table is as long as the items, so that four million of them cost nothing.
    """

    begins: Ints
    """[C + 1] first item of each category."""
    tastes: Ints
    """[C] sub-tastes of each category."""
    demand: Floats
    """[C] cumulative share of the shop's demand up to and with each category."""
    exponent: float
    """Zipf exponent of popularity by rank."""

    @classmethod
    def of(cls, config: Stock) -> "Assortment":
        """The assortment of a shop: sizes and demand of categories are Zipf-like, in different orders."""
        generator = np.random.default_rng([config.seed, 1])
        ranks = np.arange(1, config.categories + 1)
        weight = generator.permutation(ranks**-config.category_exponent)
        # Each category has one item for certain; the others are shared out by weight, largest remainder first.
        share = weight / weight.sum() * (config.items - config.categories)
        sizes = 1 + np.floor(share).astype(np.int64)
        sizes[np.argsort(share % 1)[::-1][: config.items - int(sizes.sum())]] += 1
        demand = weight * generator.lognormal(0.0, 0.5, config.categories)
        return cls(
            begins=np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)]),
            tastes=np.clip(sizes // 8, 1, config.tastes),
            demand=np.cumsum(demand / demand.sum()),
            exponent=config.popularity_exponent,
        )

    def category_by_demand(self, uniform: Floats) -> Ints:
        """The category that each uniform number in [0, 1) falls on, popular ones more often."""
        return np.minimum(np.searchsorted(self.demand, uniform, side="right"), len(self.demand) - 1)

    def item_by_popularity(self, category: Ints, taste: Ints, uniform: Floats) -> Ints:
        """The item of `category` and `taste` that each uniform number falls on, popular ones more often."""
        tastes = self.tastes[category]
        taste = taste % tastes
        size = self.begins[category + 1] - self.begins[category]
        ranks = (size - taste + tastes - 1) // tastes
        return self.begins[category] + self._rank(ranks, uniform) * tastes + taste

    def any_item(self, category: Ints, uniform: Floats) -> Ints:
        """The item of `category` that each uniform number falls on, whatever its taste."""
        return self.begins[category] + self._rank(self.begins[category + 1] - self.begins[category], uniform)

    def share_of_category(self, category: Ints) -> Floats:
        """How often `category_by_demand` gives each category."""
        return np.diff(self.demand, prepend=0.0)[category]

    def share_in_category(self, item: Ints) -> Floats:
        """How often `any_item` of its category gives each item."""
        category = self.category_of(item)
        rank, count = item - self.begins[category], self.begins[category + 1] - self.begins[category]
        power = 1 - self.exponent
        share: Floats = ((rank + 2.0) ** power - (rank + 1.0) ** power) / ((count + 1.0) ** power - 1)
        return share

    def category_of(self, item: Ints) -> Ints:
        """The category of each item."""
        return np.searchsorted(self.begins, item, side="right") - 1

    def _rank(self, count: Ints, uniform: Floats) -> Ints:
        # Inverse of the continuous law x^-a on [1, count + 1), which needs no table; a ≠ 1.
        power = 1 - self.exponent
        x = (uniform * ((count + 1.0) ** power - 1) + 1) ** (1 / power)
        return np.minimum(x.astype(np.int64) - 1, count - 1)


def item_ids(config: Stock, item: Ints) -> Ints:
    """Ids 1 … V, shuffled so that an id tells neither category nor popularity."""
    step = next(
        step for step in range(round(config.items * 0.618), 2 * config.items + 2) if math.gcd(step, config.items) == 1
    )
    return (item * step + config.seed) % config.items + 1
