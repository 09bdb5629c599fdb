"""Histories in which one behaviour is known to matter: planted at a chosen position of a history that has nothing to do
with the target (after PosIR, arXiv 2601.08363, which compares positions among documents of one length alone).

An unrelated history is the latest L behaviours of another user, in their order, each of the target's own category
replaced by an item of another one.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from recsys.data.event_store import EventStore
from recsys.data.samples import SampleSet
from recsys.errors import ConfigError, DataError

Rows = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]
Plant = Literal["item", "category", "unrelated"]
PLANTS: tuple[Plant, ...] = ("item", "category", "unrelated")
"""The target itself; another item of its category; and, to compare with, an item of another category."""
_MOST_ROUNDS = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class PlantConfig:
    """How many targets, in what histories, and where."""

    targets: int = 1_000
    """Most positives of the split to take; of more, so many are drawn."""
    lengths: tuple[int, ...] = (50, 100, 200)
    """Lengths L of the histories, in behaviours."""
    bins: int = 5
    """Parts of equal width that a history is cut into, the newest first."""
    seed: int = 0
    """Of every draw."""

    def __post_init__(self) -> None:
        if self.targets < 1:
            raise ConfigError(f"targets must be at least 1, got {self.targets}")
        if self.bins < 2:
            raise ConfigError(f"bins must be at least 2, an early and a late one, got {self.bins}")
        if not self.lengths or len(set(self.lengths)) < len(self.lengths):
            raise ConfigError(f"lengths must be distinct numbers of behaviours, got {list(self.lengths)}")
        if min(self.lengths) < self.bins:
            raise ConfigError(
                f"lengths must be at least the number of bins, {self.bins}, got {min(self.lengths)}; "
                "leave it out, or ask for fewer bins"
            )

    def edges(self, length: int) -> Ints:
        """[bins + 1] bin b holds the positions edges[b] + 1 … edges[b + 1] of a history; 1 is the most recent."""
        return np.arange(self.bins + 1) * length // self.bins


@dataclass(frozen=True, kw_only=True, slots=True)
class Targets:
    """N targets and what may be planted for them."""

    users: Rows
    """[N] whose each is."""
    rows: Rows
    """[N] item rows."""
    planted: dict[Plant, Rows]
    """[N] item rows; 0 where there is none, as for a target that is alone in its category, or has none."""


class Planting:
    """Draws targets, unrelated histories and what is planted in them; the same for the same store and configuration.

    Items are drawn as often as they occur in training.
    """

    def __init__(
        self, store: EventStore, samples: SampleSet, counted: npt.NDArray[np.bool_], config: PlantConfig
    ) -> None:
        """`samples` are of the split to measure, `counted` [E] the events of training. DataError where fewer than two
        of the samples' users have histories of the greatest length, or all items are of one category."""
        self.config = config
        self._store = store
        self._categories = store.catalogue.category_rows
        self._frequency = np.bincount(store.items[counted], minlength=store.catalogue.n_items + 1)
        self._frequency[0] = 0
        self._cumulative = np.cumsum(self._frequency)
        drawable = self._frequency > 0
        if len(np.unique(self._categories[drawable])) < 2:
            raise DataError(
                f"items of at least two categories must occur in training, {store.directory} has "
                f"{len(np.unique(self._categories[drawable]))}; nothing else can be unrelated to a target"
            )
        users, last = np.unique(samples.users[::-1], return_index=True)
        self._ends = samples.ends[::-1][last]  # of each user's latest sample
        self._users, self._lengths = users, self._ends - store.offsets[users]
        longest = max(config.lengths)
        if (self._lengths >= longest).sum() < 2:
            raise DataError(
                f"histories of {longest} behaviours need two users who have as many, the longest is of "
                f"{int(self._lengths.max(initial=0))}; choose shorter ones with --lengths"
            )
        self.targets = self._draw_targets(samples)

    def _draw_targets(self, samples: SampleSet) -> Targets:
        generator = np.random.default_rng([self.config.seed, 0])
        chosen = np.sort(generator.permutation(len(samples))[: self.config.targets])
        rows = samples.targets[chosen, 0]
        others = self._draw_unrelated(rows, generator)
        return Targets(
            users=samples.users[chosen],
            rows=rows,
            planted={"item": rows, "category": self._draw_related(rows, generator), "unrelated": others},
        )

    def _draw_related(self, rows: Rows, generator: np.random.Generator) -> Rows:
        """[N] another item of each one's category; 0 where there is none that occurs."""
        by_category = np.argsort(self._categories, kind="stable")  # items of a category stand together
        cumulative = np.cumsum(self._frequency[by_category])
        place = np.empty(len(by_category), dtype=np.int64)
        place[by_category] = np.arange(len(by_category))
        ascending = self._categories[by_category]
        category = self._categories[rows]
        begin = np.searchsorted(ascending, category, side="left")
        end = np.searchsorted(ascending, category, side="right")
        before, own_before = _up_to(cumulative, begin), _up_to(cumulative, place[rows])
        own = self._frequency[rows]
        left = _up_to(cumulative, end) - before - own
        drawn = before + (generator.random(len(rows)) * left).astype(np.int64)
        drawn += np.where(drawn >= own_before, own, 0)  # the item itself is stepped over
        at = np.minimum(np.searchsorted(cumulative, drawn, side="right"), len(cumulative) - 1)
        return np.where((left > 0) & (category != 0), by_category[at], 0).astype(np.int32)

    def _draw_unrelated(self, rows: Rows, generator: np.random.Generator) -> Rows:
        """[…] an item of another category than `rows` […] each; of any other item where it has none."""
        drawn = np.zeros(rows.shape, dtype=np.int32)
        again = np.ones(rows.shape, dtype=bool)
        for _ in range(_MOST_ROUNDS):
            points = generator.integers(0, self._cumulative[-1], size=int(again.sum()))
            drawn[again] = np.searchsorted(self._cumulative, points, side="right")
            again = self._related(drawn, rows)
            if not again.any():
                return drawn
        raise DataError(
            f"{_MOST_ROUNDS} draws found no item of another category than item {int(rows[again][0])}'s: nearly all "
            "events are of one category, so that nothing is unrelated"
        )

    def _related(self, rows: Rows, targets: Rows) -> npt.NDArray[np.bool_]:
        category = self._categories[targets]
        return np.asarray((rows == targets) | ((self._categories[rows] == category) & (category != 0)))

    def histories(self, length: int, part: slice) -> Rows:
        """[n, length] unrelated histories for the targets in `part`, oldest behaviour first."""
        generator = np.random.default_rng([self.config.seed, 1, length, part.start])
        users, targets = self.targets.users[part], self.targets.rows[part]
        long_enough = np.flatnonzero(self._lengths >= length)
        # Whoever has a long history of their own gets another's: the places from their own on move up by one.
        own = np.searchsorted(self._users[long_enough], users)
        mine = self._users[long_enough][np.minimum(own, len(long_enough) - 1)] == users
        donors = (generator.random(len(users)) * (len(long_enough) - mine)).astype(np.int64)
        donors += mine & (donors >= own)
        ends = self._ends[long_enough][donors]
        rows = self._store.items[ends[:, None] - np.arange(length, 0, -1)]
        wanted = np.broadcast_to(targets[:, None], rows.shape)
        related = self._related(rows, wanted)
        rows = rows.copy()
        rows[related] = self._draw_unrelated(wanted[related], generator)
        return np.asarray(rows)

    def places(self, length: int, part: slice) -> Ints:
        """[bins, n] where each target's plant stands, by bin: columns of the history, drawn within the bin."""
        generator = np.random.default_rng([self.config.seed, 2, length, part.start])
        edges = self.config.edges(length)
        widths = np.diff(edges)[:, None]
        within = (generator.random((self.config.bins, len(self.targets.rows[part]))) * widths).astype(np.int64)
        return length - 1 - (edges[:-1, None] + within)

    def shuffles(self, length: int, part: slice) -> Ints:
        """[n, length] a random order of each history's columns, for the control that knows no time."""
        generator = np.random.default_rng([self.config.seed, 3, length, part.start])
        return np.argsort(generator.random((len(self.targets.rows[part]), length)), axis=1)


def _up_to(cumulative: Ints, index: Ints) -> Ints:
    """Sum of the first `index` numbers."""
    return np.where(index > 0, cumulative[np.maximum(index - 1, 0)], 0)
