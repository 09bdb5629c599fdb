"""A shop whose next event has a probability that is known: what its customers do repeats what they did long before.

An event either explores, and is any item of the shop by popularity, or recalls one of the user's own events from `gap`
to `memory` events ago, each as likely as the other: then it is that same item, or another one of its category by
popularity. So interests sleep for at least `gap` events and return, noise lies between them, and the events that a
model with a history of `memory` sees tell all that can be known (see `recsys.data.shop.optimum`). It is a mixture
transition distribution (Raftery, 1985) over categories and items.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from recsys.data.event_store import EventType
from recsys.data.shop.assortment import Assortment, Ints
from recsys.data.shop.behaviour import MS_PER_DAY, EventChunk
from recsys.errors import ConfigError

_USERS_AT_ONCE = 2_000
_SPREAD = 0.25
"""A user has as many events as the mean, or more or less by up to this share of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecurringConfig:
    """A shop of recurring interests; two shops of equal configuration are equal, event for event."""

    users: int = 4_000
    items: int = 4_000
    categories: int = 100
    mean_events: float = 300
    """Mean events a user; each has from three to five quarters of it."""
    days: int = 365
    """Length of the log, days."""
    seed: int = 0
    start_ms: int = 1_704_067_200_000
    """First midnight of the log, UTC milliseconds; 2024-01-01 unless told."""
    interests: int = 16
    """Categories of a user's first `gap` events; all later ones are explored, or recalled."""
    gap: int = 30
    """Fewest events from one that is recalled to the one that recalls it."""
    memory: int = 200
    """Most events from one that is recalled to the one that recalls it."""
    repeat_share: float = 0.3
    """Share of recalls of the very item; the others are of its category."""
    explore_share: float = 0.2
    """Share of events on any item of the shop, by popularity."""
    popularity_exponent: float = 1.1
    """Zipf exponent of the popularity of items within a category."""
    category_exponent: float = 0.7
    """Zipf exponent of the sizes of categories."""

    def __post_init__(self) -> None:
        for name in ("users", "items", "categories", "days", "interests", "gap"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.categories > self.items:
            raise ConfigError(
                f"categories must be at most items, got {self.categories} categories of {self.items} items"
            )
        if self.memory < self.gap:
            raise ConfigError(f"memory must be at least gap, got {self.memory} and {self.gap}")
        if self.fewest_events <= self.gap:
            raise ConfigError(
                f"mean_events must leave every user more than gap events, got {self.mean_events} for a gap of "
                f"{self.gap}; the shortest history has three quarters of the mean"
            )
        if not 0 <= self.repeat_share <= 1 or not 0 < self.explore_share <= 1:
            raise ConfigError(
                "repeat_share must be from 0 to 1 and explore_share above 0 and at most 1, "
                f"got {self.repeat_share} and {self.explore_share}"
            )
        if self.seed < 0:
            raise ConfigError(f"seed must be at least 0, got {self.seed}")
        if self.popularity_exponent <= 0 or self.popularity_exponent == 1:
            raise ConfigError(f"popularity_exponent must be positive and not 1, got {self.popularity_exponent}")

    @property
    def fewest_events(self) -> int:
        """Events of the user with the shortest history, at least."""
        return int(np.ceil(self.mean_events * (1 - _SPREAD)))

    @property
    def named(self) -> bool:
        """Items and categories have numbers."""
        return False

    @property
    def tastes(self) -> int:
        """Categories have no parts."""
        return 1


def recurring_chunks(config: RecurringConfig, assortment: Assortment) -> Iterator[EventChunk]:
    """The whole log, some users at a time, by (user, time); no two events of a user have the same time."""
    for number, first in enumerate(range(0, config.users, _USERS_AT_ONCE)):
        users = np.arange(first, min(first + _USERS_AT_ONCE, config.users), dtype=np.int64)
        yield _events_of(config, assortment, users, np.random.default_rng([config.seed, 8, number]))


def _events_of(
    config: RecurringConfig, assortment: Assortment, users: Ints, generator: np.random.Generator
) -> EventChunk:
    most = max(config.fewest_events, int(config.mean_events * (1 + _SPREAD)))
    counts = generator.integers(config.fewest_events, most, len(users), endpoint=True)
    everyone = np.arange(len(users))
    own = assortment.category_by_demand(generator.random((len(users), config.interests)))  # [U, I]
    item = np.zeros((len(users), most), dtype=np.int64)
    for at in range(most):
        if at < config.gap:
            category = own[everyone, generator.integers(0, config.interests, len(users))]
            repeats = np.zeros(len(users), dtype=bool)
            before = item[:, at]
        else:
            lag = generator.integers(config.gap, min(config.memory, at), len(users), endpoint=True)
            before = item[everyone, at - lag]
            explores = generator.random(len(users)) < config.explore_share
            anywhere = assortment.category_by_demand(generator.random(len(users)))
            category = np.where(explores, anywhere, assortment.category_of(before))
            repeats = ~explores & (generator.random(len(users)) < config.repeat_share)
        item[:, at] = np.where(repeats, before, assortment.any_item(category, generator.random(len(users))))
    # One event in each of `most` equal parts of the log, never at the end of one: times ascend strictly.
    part = config.days * MS_PER_DAY / most
    times = (np.arange(most) + 0.9 * generator.random((len(users), most))) * part
    happened = np.arange(most) < counts[:, None]  # [U, most]
    return EventChunk(
        user=np.repeat(users, counts),
        item=item[happened],
        time_ms=config.start_ms + times[happened].astype(np.int64),
        type=np.full(int(counts.sum()), EventType.CLICK, dtype=np.uint8),
    )
