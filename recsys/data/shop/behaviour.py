"""What the customers of a generated shop do: interests that sleep for long and return, so that old behaviours matter.

An interest is a category, a sub-taste in it and favourite items. It is awake for a spell of a session or two; then all
other interests of the user take their turn, in an order drawn anew each round, before it returns, its list of
favourites moved on a little. So what an event is about can be told from the user's events of rounds ago, often better
than from the latest fifty.

Whatever belongs to a user for good (interests, favourites) is a hash of (seed, user, …) instead of a table.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys.data.event_store import EventType
from recsys.data.shop.assortment import Assortment, Floats, Ints
from recsys.data.shop.config import ShopConfig

MS_PER_DAY = 86_400_000
_WEEK = np.array([0.9, 0.85, 0.9, 0.95, 1.1, 1.5, 1.4])
"""How busy each day of the week is, Monday first."""
_FAVOURITE_ODDS = 0.25
"""Chance that a favourite is the one asked for, and not a later one in the list: the first few are returned to most."""


@dataclass(frozen=True, slots=True)
class EventChunk:
    """Events of a range of users, by (user, time)."""

    user: Ints
    item: Ints
    """Index into the assortment."""
    time_ms: Ints
    type: npt.NDArray[np.uint8]


def event_chunks(config: ShopConfig, assortment: Assortment) -> Iterator[EventChunk]:
    """The whole log, `users_per_chunk` users at a time."""
    for number, first in enumerate(range(0, config.users, config.users_per_chunk)):
        users = np.arange(first, min(first + config.users_per_chunk, config.users), dtype=np.int64)
        yield _events_of(config, assortment, users, np.random.default_rng([config.seed, 2, number]))


def _events_of(config: ShopConfig, assortment: Assortment, users: Ints, generator: np.random.Generator) -> EventChunk:
    # exp(N(-σ²/2, σ)) has mean 1, so that the mean of the counts is mean_events.
    spread = config.activity_spread
    drawn = config.mean_events * generator.lognormal(-spread * spread / 2, spread, len(users))
    counts = np.clip(np.rint(drawn), 1, config.max_events).astype(np.int64)
    of_user = np.repeat(np.arange(len(users)), counts)  # [E]
    first_event = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)[:-1]])

    starts = generator.random(len(of_user)) < 1 / config.mean_session
    starts[first_event] = True
    session = np.cumsum(starts) - 1  # [E] which session each event belongs to
    session_user = of_user[starts]  # [S]
    turns = generator.random(len(session_user)) < 1 / config.mean_spell
    turns[session[first_event]] = True
    spell = np.cumsum(turns) - 1  # [S]
    spell_user = session_user[turns]  # [P]
    # Spells count from 0 in each user.
    spell_number = np.arange(len(spell_user)) - np.flatnonzero(np.diff(spell_user, prepend=-1))[spell_user]
    cycle = spell_number // config.interests
    interest = _turn(config, users[spell_user], cycle, spell_number % config.interests)  # [P]

    time_ms = _times(config, session, session_user, generator)
    item, repeated = _items(
        config, assortment, users[of_user], interest[spell][session], cycle[spell][session], generator
    )
    kinds = _types(repeated, generator)
    # A busy user's sessions may touch: the log is in order of time, whatever the session.
    order = np.lexsort((time_ms, of_user))
    return EventChunk(users[of_user][order], item[order], time_ms[order], kinds[order])


def _turn(config: ShopConfig, user: Ints, cycle: Ints, position: Ints) -> Ints:
    """[P] the interest at `position` of the user's order of interests in `cycle`."""
    draws = _hashed(config.seed, 3, user[:, None], cycle[:, None], np.arange(config.interests)[None, :])  # [P, I]
    return np.take_along_axis(np.argsort(draws, axis=1), position[:, None], axis=1)[:, 0]


def _items(
    config: ShopConfig, assortment: Assortment, user: Ints, interest: Ints, cycle: Ints, generator: np.random.Generator
) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """[E] the item of each event, and whether it is one of the user's favourites."""
    category = assortment.category_by_demand(_hashed(config.seed, 4, user, interest))
    # Squared, so that the first taste of a category is shared by many and the last by few.
    taste = (_hashed(config.seed, 5, user, interest) ** 2 * config.tastes).astype(np.int64)
    draw = generator.random(len(user))
    repeated = draw < config.repeat_share
    # The list of favourites moves on by one in every second round: most of it is the same when the interest returns.
    favourite = cycle // 2 + np.minimum(generator.geometric(_FAVOURITE_ODDS, len(user)) - 1, 7)
    chance = np.where(repeated, _hashed(config.seed, 6, user, interest, favourite), generator.random(len(user)))
    item = assortment.item_by_popularity(category, taste, chance)
    exploring = np.flatnonzero(draw >= 1 - config.explore_share)
    anywhere = assortment.category_by_demand(generator.random(len(exploring)))
    item[exploring] = assortment.any_item(anywhere, generator.random(len(exploring)))
    return item, repeated


def _times(config: ShopConfig, session: Ints, session_user: Ints, generator: np.random.Generator) -> Ints:
    """[E] milliseconds: sessions fall on busy days and hours, events in them seconds apart."""
    weekday = (config.start_ms // MS_PER_DAY + np.arange(config.days) + 3) % 7  # 1970-01-01 was a Thursday
    busy = np.cumsum(_WEEK[weekday])
    busy = busy / busy[-1]  # [D]
    # Users join during the first third of the log.
    n_users = int(session_user[-1]) + 1
    joined = generator.random(n_users)[session_user] / 3
    day = np.searchsorted(busy, joined + (1 - joined) * generator.random(len(session_user)), side="right")
    day = np.minimum(day, config.days - 1)
    evening = generator.random(len(day)) < 0.6
    hour = np.where(evening, generator.normal(20.5, 1.6, len(day)), generator.normal(12.5, 2.5, len(day)))
    start = day * MS_PER_DAY + (hour % 24 * 3_600_000).astype(np.int64)
    # Sessions were numbered before their times were drawn: hand the times out in order within each user.
    start = start[np.lexsort((start, session_user))]
    gap = 1000 + (generator.exponential(40.0, len(session)) * 1000).astype(np.int64)
    first = np.flatnonzero(np.diff(session, prepend=-1))  # [S]
    elapsed = np.cumsum(gap)
    return config.start_ms + start[session] + elapsed - elapsed[first][session]


def _types(repeated: npt.NDArray[np.bool_], generator: np.random.Generator) -> npt.NDArray[np.uint8]:
    """[E] mostly clicks; a favourite is bought, kept and put into the cart more often."""
    interested = np.where(repeated, 2.0, 1.0)
    draw = generator.random(len(repeated)) / interested
    kinds = np.full(len(repeated), EventType.CLICK, dtype=np.uint8)
    for limit, kind in ((0.07, EventType.CART), (0.03, EventType.FAVORITE), (0.015, EventType.PURCHASE)):
        kinds[draw < limit] = kind
    return kinds


def _hashed(seed: int, purpose: int, *parts: Ints) -> Floats:
    """Uniform numbers in [0, 1) that depend on nothing but the arguments, by splitmix64 over each of `parts`."""
    with np.errstate(over="ignore"):
        state = np.asarray(np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(purpose), dtype=np.uint64)
        for part in parts:
            state = (state ^ part.astype(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(31))
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53
