"""Find a few hundred items that a user may want among millions: those like what the user did, and what is popular."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from recsys.errors import ConfigError
from recsys.ranking import Ranking

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Allowed = Callable[[Ids], npt.NDArray[np.bool_]]
"""Which of some items [C] may be shown."""

_NONE: Ids = np.empty(0, dtype=np.int64)
_WIDER = 4
"""How many times as many neighbours are looked up where too few may be shown."""


class Origin(IntEnum):
    """What brought a candidate in."""

    RECENT = 1
    """It is like one of the latest behaviours, or is one that may be shown again."""
    ATTENDED = 2
    """It is like a behaviour that the model looked at most, however long ago."""
    POPULAR = 3
    """Many users want it."""


class ItemNeighbours(Protocol):
    """An index of items. Called from several threads at once."""

    def nearest(self, item_ids: Ids, k: int) -> tuple[Ids, Floats]:
        """The k items [S, k] most like each of `item_ids` [S], itself left out, most alike first, and how alike they
        are; −1 where there are fewer, and for an item that the index does not have."""
        ...


class Rank(Protocol):
    """Score candidates [T] by a history [L], oldest first; `recsys.ranking.Ranker.rank` does."""

    def __call__(self, history_item_ids: Ids, candidate_item_ids: Ids, /, *, explain: bool = False) -> Ranking:
        """Scores, and with `explain` the behaviours that each rests on."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class CandidateConfig:
    """How many candidates there are, from what, and how far what is popular counts when they are put in order."""

    candidates: int = 500
    """C, items that are ranked in the end, at most."""
    recent: int = 30
    """Latest distinct items whose neighbours are looked up."""
    attended: int = 20
    """Further distinct items, those with the most attention, whose neighbours are looked up; 0 spares a ranking."""
    neighbours: int = 50
    """Neighbours of each."""
    widest: int = 800
    """Neighbours of each at most, where few of them may be shown."""
    asked: int = 100
    """Candidates from the recent items that are ranked to learn what the model looks at."""
    popular_share: float = 0.3
    """Share of the candidates that are kept for what is popular; more is where the others are too few."""
    again_share: float = 0.4
    """Share of the candidates that items of the history take at most, the latest, where they may be shown again."""
    popularity_weight: float = 1.0
    """Exponent of popularity in the order of what is shown: 1 takes back that a model was trained against negatives
    drawn by popularity; 0 leaves the order to its scores alone."""

    def __post_init__(self) -> None:
        for name in ("candidates", "recent", "neighbours", "asked"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.widest < self.neighbours:
            raise ConfigError(f"widest must be at least neighbours, {self.neighbours}, got {self.widest}")
        if self.attended < 0:
            raise ConfigError(f"attended must be at least 0, got {self.attended}")
        for name in ("popular_share", "again_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be 0 to 1, got {getattr(self, name)}")
        if not 0 <= self.popularity_weight < float("inf"):
            raise ConfigError(f"popularity_weight must be at least 0 and finite, got {self.popularity_weight}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidates:
    """C candidates, no item twice."""

    item_ids: Ids
    """[C]"""
    origins: npt.NDArray[np.int64]
    """[C] an Origin each."""
    behaviours: Ids
    """[C] item of the behaviour that it is most like; −1 for what is popular."""
    similarities: Floats
    """[C] how alike it and that behaviour are; 0 for what is popular."""

    def with_popular(self, item_ids: Ids) -> "Candidates":
        """These, and further ones [D] that are popular."""
        count = len(item_ids)
        return Candidates(
            item_ids=np.concatenate([self.item_ids, item_ids]),
            origins=np.concatenate([self.origins, np.full(count, int(Origin.POPULAR))]),
            behaviours=np.concatenate([self.behaviours, np.full(count, -1)]),
            similarities=np.concatenate([self.similarities, np.zeros(count, dtype=np.float32)]),
        )


_NO_CANDIDATES = Candidates(item_ids=_NONE, origins=_NONE, behaviours=_NONE, similarities=np.empty(0, dtype=np.float32))


def find_candidates(
    history: Ids,
    neighbours: ItemNeighbours,
    rank: Rank,
    popular: Ids,
    config: CandidateConfig,
    *,
    excluded: Ids | None = None,
    again: bool = False,
    allowed: Allowed | None = None,
    known: Allowed | None = None,
) -> Candidates:
    """Candidates for a user with `history` [L], oldest first; `popular` is in descending order.

    Neighbours of the latest items and of those with the most attention are ordered by the sum of how alike they are to
    each; what is popular has the last places. With `again`, items of the history come first. Nothing of `excluded` is
    among them, and only what is `allowed`: where that leaves too few neighbours, more are looked up, as far as that can
    bring any that what is popular would not. Only what the model has `known` is among them too, which is no reason to
    look further.
    """
    recent = latest_distinct(history, config.recent)
    found = _Found(_NONE if excluded is None else excluded, _both(known, allowed))
    if again:
        own = history[found.may_be_shown(history)]
        found.repeat(latest_distinct(own, int(config.again_share * config.candidates)))
    popular_places = int(config.popular_share * config.candidates)
    wanted = config.candidates - popular_places
    # Where all of what is popular becomes a candidate, a wider search finds nothing more.
    narrow = allowed is None or 0 < len(popular) <= config.candidates
    widest = config.neighbours if narrow else config.widest
    k = found.take(recent, neighbours, config.neighbours, Origin.RECENT, wanted=wanted, widest=widest)
    if config.attended and len(history) > len(recent):
        asked = found.alike[: config.asked]
        if len(asked):
            attended = most_attended(history, rank(history, asked, explain=True), config.attended, but=recent)
            found.take(attended, neighbours, k, Origin.ATTENDED, wanted=wanted, widest=widest)
    return found.best(config.candidates, popular, popular_places)


def latest_distinct(history: Ids, count: int) -> Ids:
    """The latest `count` distinct items of a history, latest first."""
    _, first = np.unique(history[::-1], return_index=True)
    return history[::-1][np.sort(first)[:count]]


def most_attended(history: Ids, ranking: Ranking, count: int, *, but: Ids) -> Ids:
    """The `count` distinct items with the most attention over all that was ranked, most first, without those of `but`.

    A candidate that the model wants more says more: weights count by its score.
    """
    positions, weights = ranking.found_positions, ranking.found_weights
    if positions is None or weights is None:
        return _NONE
    there = positions >= 0
    told = (weights * ranking.scores[:, None])[there]
    items, place = np.unique(history[positions[there]], return_inverse=True)
    attention = np.bincount(place, weights=told, minlength=len(items))
    wanted = ~np.isin(items, but)
    items, attention = items[wanted], attention[wanted]
    return items[np.argsort(-attention, kind="stable")[:count]]


def _both(first: Allowed | None, second: Allowed | None) -> Allowed | None:
    """What passes both."""
    if first is None or second is None:
        return first or second
    return lambda items: first(items) & second(items)


class _Found:
    """Collects what items are like; the more behaviours an item is like, and the more, the better a candidate."""

    def __init__(self, unwanted: Ids, allowed: Allowed | None) -> None:
        self._unwanted = np.unique(unwanted)
        self._allowed = allowed
        self._own = _NONE
        self._parts = [_NO_CANDIDATES]

    def may_be_shown(self, items: Ids) -> npt.NDArray[np.bool_]:
        """Which of some items [C] may be candidates, so far as that does not depend on the user."""
        return np.ones(len(items), dtype=np.bool_) if self._allowed is None else self._allowed(items)

    def repeat(self, items: Ids) -> None:
        """Let items of the history be candidates themselves."""
        self._own = items[(items >= 0) & ~np.isin(items, self._unwanted)]

    def take(
        self, behaviours: Ids, neighbours: ItemNeighbours, k: int, origin: Origin, *, wanted: int, widest: int
    ) -> int:
        """Add the k nearest of some items; where fewer than `wanted` are found in all, up to `widest` of each.

        Returns how many of each it were.
        """
        if not len(behaviours):
            return k
        while True:
            nearest, nearness = neighbours.nearest(behaviours, k)
            # [S, k] → [k · S], the nearest of each before the second of any.
            ids, similarities = nearest.T.ravel(), nearness.T.ravel()
            because = np.tile(behaviours, len(ids) // len(behaviours))
            there = np.flatnonzero((ids >= 0) & ~np.isin(ids, self._unwanted))
            there = there[self.may_be_shown(ids[there])]
            if k >= widest or self._count(ids[there]) >= wanted or (nearest[:, -1] < 0).all():
                break
            k = min(widest, _WIDER * k)
        self._parts.append(
            Candidates(
                item_ids=ids[there],
                origins=np.full(len(there), int(origin)),
                behaviours=because[there],
                similarities=similarities[there],
            )
        )
        return k

    def _count(self, more: Ids) -> int:
        """Distinct items that were found, with some `more`."""
        return len(np.unique(np.concatenate([*(part.item_ids for part in self._parts), more])))

    @property
    def alike(self) -> Ids:
        """What is like the behaviours so far, best first."""
        return self._alike().item_ids

    def best(self, count: int, popular: Ids, popular_places: int) -> Candidates:
        """`count` candidates: items of the history that may be shown again, what is most like behaviours, then what is
        popular, which has `popular_places` of them at least, as far as there is so much."""
        alike = self._alike()
        nearest = np.arange(max(0, min(len(alike.item_ids), count - popular_places - len(self._own))))
        taken = np.concatenate([self._own, alike.item_ids[nearest]])
        fresh = self._first_of(popular, count - len(taken), but=taken)
        # What is left of the others takes the places that nothing popular has taken.
        rest = np.arange(len(nearest), len(alike.item_ids))
        rest = rest[~np.isin(alike.item_ids[rest], fresh)][: count - len(taken) - len(fresh)]
        chosen, ones = np.concatenate([nearest, rest]), np.ones(len(self._own))
        own, shared = np.full(len(self._own), int(Origin.RECENT)), np.full(len(fresh), int(Origin.POPULAR))
        similarities = [ones, alike.similarities[chosen], np.zeros(len(fresh))]
        return Candidates(
            item_ids=np.concatenate([self._own, alike.item_ids[chosen], fresh]),
            origins=np.concatenate([own, alike.origins[chosen], shared]),
            behaviours=np.concatenate([self._own, alike.behaviours[chosen], np.full(len(fresh), -1)]),
            similarities=np.concatenate(similarities).astype(np.float32),
        )

    def _first_of(self, popular: Ids, count: int, *, but: Ids) -> Ids:
        """The first `count` of what is popular that may be shown, without those of `but`."""
        unwanted = np.concatenate([self._unwanted, but])
        # Of so many there are enough, if there are as many; unless they are not allowed, for which the parts grow.
        parts, begin, size = [_NONE], 0, count + len(unwanted)
        while count > 0 and begin < len(popular):
            part = popular[begin : begin + size]
            part = part[~np.isin(part, unwanted)]
            part = part[self.may_be_shown(part)]
            parts.append(part[:count])
            count, begin, size = count - len(parts[-1]), begin + size, 2 * size
        return np.concatenate(parts)

    def _alike(self) -> Candidates:
        """Each item once, by the sum of how alike it is to behaviours; with the one that it is most like."""
        ids = np.concatenate([part.item_ids for part in self._parts])
        origins = np.concatenate([part.origins for part in self._parts])
        behaviours = np.concatenate([part.behaviours for part in self._parts])
        similarities = np.concatenate([part.similarities for part in self._parts])
        # Of each item the most alike first, of equal ones the first that was found.
        order = np.lexsort((-similarities, ids))
        items, first, place = np.unique(ids[order], return_index=True, return_inverse=True)
        sums = np.bincount(place, weights=np.maximum(similarities[order], 0), minlength=len(items))
        own = np.isin(items, self._own)
        best = order[first]
        ranked = np.lexsort((best, -sums))
        ranked = best[ranked[~own[ranked]]]
        return Candidates(
            item_ids=ids[ranked],
            origins=origins[ranked],
            behaviours=behaviours[ranked],
            similarities=similarities[ranked],
        )
