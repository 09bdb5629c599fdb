"""Find a few hundred items that a user may want among millions: those like what the user did, else what is popular."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from recsys.errors import ConfigError
from recsys.ranking import Ranking

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

_NONE: Ids = np.empty(0, dtype=np.int64)
_LAST_TURN = np.iinfo(np.int64).max
"""Of what is popular: after all that is like something."""


class Origin(IntEnum):
    """What brought a candidate in."""

    RECENT = 1
    """It is like one of the latest behaviours."""
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
    """How many candidates there are, and from what."""

    candidates: int = 500
    """C, items that are ranked in the end, at most."""
    recent: int = 30
    """Latest distinct items whose neighbours are looked up."""
    attended: int = 20
    """Further distinct items, those with the most attention, whose neighbours are looked up; 0 spares a ranking."""
    neighbours: int = 50
    """Neighbours of each."""
    asked: int = 100
    """Candidates from the recent items that are ranked to learn what the model looks at."""

    def __post_init__(self) -> None:
        for name in ("candidates", "recent", "neighbours", "asked"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.attended < 0:
            raise ConfigError(f"attended must be at least 0, got {self.attended}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidates:
    """C candidates, no item twice."""

    item_ids: Ids
    """[C]"""
    origins: npt.NDArray[np.int64]
    """[C] an Origin each."""
    behaviours: Ids
    """[C] item of the behaviour that brought it in; −1 for what is popular."""
    similarities: Floats
    """[C] how alike it and that behaviour are; 0 for what is popular."""


def find_candidates(
    history: Ids,
    neighbours: ItemNeighbours,
    rank: Rank,
    popular: Ids,
    config: CandidateConfig,
    *,
    excluded: Ids | None = None,
) -> Candidates:
    """Candidates for a user with `history` [L], oldest first; `popular` is in descending order.

    Neighbours of the latest items and of those with the most attention take turns by how near they are, so that no
    single behaviour crowds the others out; what is popular fills up. Nothing of `excluded` is among them.
    """
    recent = latest_distinct(history, config.recent)
    found = _Found(_NONE if excluded is None else excluded)
    found.take(recent, neighbours, config.neighbours, Origin.RECENT)
    if config.attended and len(found) and len(history) > len(recent):
        asked = found.item_ids[: config.asked]
        attended = most_attended(history, rank(history, asked, explain=True), config.attended, but=recent)
        found.take(attended, neighbours, config.neighbours, Origin.ATTENDED)
    found.fill(popular, config.candidates)
    return found.best(config.candidates)


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


class _Found:
    """Collects candidates; an item keeps what brought it in first."""

    def __init__(self, unwanted: Ids) -> None:
        self._unwanted = np.unique(unwanted)
        self._parts = [(_NONE, _NONE, _NONE, np.empty(0, dtype=np.float32), _NONE)]

    def __len__(self) -> int:
        return sum(len(part[0]) for part in self._parts)

    @property
    def item_ids(self) -> Ids:
        """In the order that they were found."""
        return np.concatenate([part[0] for part in self._parts])

    def take(self, behaviours: Ids, neighbours: ItemNeighbours, k: int, origin: Origin) -> None:
        """Add the neighbours of some items: the nearest of each, then the second of each, and so on."""
        if not len(behaviours):
            return
        ids, similarities = neighbours.nearest(behaviours, k)
        # [S, k] → [k · S], turn after turn.
        turns = np.repeat(np.arange(ids.shape[1]), len(behaviours))
        self._add(ids.T.ravel(), origin, np.tile(behaviours, ids.shape[1]), similarities.T.ravel(), turns)

    def fill(self, popular: Ids, count: int) -> None:
        """Add what is popular until there are `count`."""
        missing = count - len(self)
        if missing <= 0:
            return
        # Of so many, `missing` at least are neither unwanted nor found, if there are as many.
        first = popular[: missing + len(self._unwanted) + len(self)]
        fresh = self._fresh(first)[:missing]
        ids = first[fresh]
        nothing = np.zeros(len(ids), dtype=np.float32)
        self._add(ids, Origin.POPULAR, np.full(len(ids), -1), nothing, np.full(len(ids), _LAST_TURN))

    def best(self, count: int) -> Candidates:
        """The `count` that were nearest to their behaviour, by turns."""
        ids, origins, behaviours, similarities, turns = (
            np.concatenate(each) for each in zip(*self._parts, strict=True)
        )
        order = np.argsort(turns, kind="stable")[:count]
        return Candidates(
            item_ids=ids[order],
            origins=origins[order],
            behaviours=behaviours[order],
            similarities=similarities[order].astype(np.float32),
        )

    def _add(self, ids: Ids, origin: Origin, behaviours: Ids, similarities: Floats, turns: Ids) -> None:
        rows = self._fresh(ids)
        origins = np.full(len(rows), int(origin))
        self._parts.append((ids[rows], origins, behaviours[rows], similarities[rows], turns[rows]))

    def _fresh(self, ids: Ids) -> Ids:
        """Places, ascending, of the first of each id that is new and wanted."""
        there = np.flatnonzero(ids >= 0)
        _, first = np.unique(ids[there], return_index=True)
        places = there[np.sort(first)]
        known = np.concatenate([self._unwanted, self.item_ids])
        return places[~np.isin(ids[places], known)]
