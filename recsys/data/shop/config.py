"""How large a generated shop is and how its customers behave."""

from dataclasses import dataclass

from recsys.errors import ConfigError

NAMED_ITEMS = 100_000
"""Shops of up to this many items have names that a person can read; larger ones have numbers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShopConfig:
    """A generated shop; two shops of equal configuration are equal, event for event."""

    users: int
    items: int
    categories: int
    mean_events: float
    """Mean events a user; the number of each is log-normal around it."""
    days: int
    """Length of the log, days."""
    seed: int = 0
    start_ms: int = 1_704_067_200_000
    """First midnight of the log, UTC milliseconds; 2024-01-01, a Monday, unless told."""
    activity_spread: float = 0.5
    """Standard deviation of the logarithm of a user's number of events."""
    max_events: int = 50_000
    """Most events of one user."""
    interests: int = 10
    """Interests of a user (a category, a sub-taste in it, favourite items); one is awake, the others are dormant."""
    mean_session: float = 4.0
    """Mean events of a session; a session has one interest."""
    mean_spell: float = 1.5
    """Mean sessions before the user turns to another interest."""
    tastes: int = 6
    """Sub-tastes within a category, fewer where a category is small."""
    repeat_share: float = 0.40
    """Share of events on the user's favourite items of the session's interest."""
    explore_share: float = 0.08
    """Share of events on any item of the shop, by popularity; the rest is new items of the session's sub-taste."""
    popularity_exponent: float = 1.1
    """Zipf exponent of the popularity of items within a category."""
    category_exponent: float = 0.7
    """Zipf exponent of the sizes of categories."""
    users_per_chunk: int = 2_000
    """Users generated at once: part of the configuration, because it decides which random numbers a user gets."""

    def __post_init__(self) -> None:
        for name in ("users", "items", "categories", "days", "max_events", "interests"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.categories > self.items:
            raise ConfigError(
                f"categories must be at most items, got {self.categories} categories of {self.items} items"
            )
        if min(self.mean_events, self.mean_session, self.mean_spell, self.tastes, self.users_per_chunk) < 1:
            raise ConfigError("mean_events, mean_session, mean_spell, tastes and users_per_chunk must be at least 1")
        if self.activity_spread < 0 or self.seed < 0:
            raise ConfigError(f"activity_spread and seed must be at least 0, got {self.activity_spread}, {self.seed}")
        if not 0 <= self.repeat_share + self.explore_share <= 1 or min(self.repeat_share, self.explore_share) < 0:
            raise ConfigError(
                f"repeat_share and explore_share must be at least 0 and sum to at most 1, "
                f"got {self.repeat_share} and {self.explore_share}"
            )
        if self.popularity_exponent <= 0 or self.popularity_exponent == 1:
            raise ConfigError(f"popularity_exponent must be positive and not 1, got {self.popularity_exponent}")

    @property
    def named(self) -> bool:
        """Whether items and categories have names rather than numbers."""
        return self.items <= NAMED_ITEMS


def demo_shop(seed: int = 0) -> ShopConfig:
    """A shop that trains in a minute on a laptop: 1,200 users, 2,000 items, about 310,000 events in two years."""
    return ShopConfig(users=1_200, items=2_000, categories=40, mean_events=260, days=730, seed=seed)


def taobao_scale(seed: int = 0) -> ShopConfig:
    """A shop of the size of Taobao's public log: 1 million users, 4 million items, about 100 million events.

    It lasts longer than that log's nine days, so that interests have the time to return.
    """
    return ShopConfig(
        users=1_000_000,
        items=4_000_000,
        categories=9_400,
        mean_events=100,
        days=180,
        seed=seed,
        activity_spread=0.9,
        users_per_chunk=5_000,
    )
