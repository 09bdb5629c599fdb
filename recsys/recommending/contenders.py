"""Ways to answer that an evaluation compares: what Recommend does, parts of it, and what needs no model at all."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from recsys.models.popularity import NOTHING_POPULAR, Popularity
from recsys.recommending.candidates import Ids, ItemNeighbours, find_candidates, latest_distinct
from recsys.recommending.recommender import Recommender

SERVED = "recommend"
"""The contender that a service would be; the others are compared with it."""
ITEM_TO_ITEM_NEIGHBOURS = 200
"""Neighbours of each item that are summed up where item-to-item answers alone."""
LARGEST_WHOLE_CATALOGUE = 20_000
"""Items of a catalogue that is still ranked whole for each user."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a contender answers one user."""

    candidates: Ids
    """[C] what it chose from, in the order that it was found."""
    ranked: Ids
    """[n] what it shows, best first."""


Contender = Callable[[Ids, bool], Answer]
"""Answers a history of item ids [L], oldest first; the flag says whether items of the history may be shown again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Depth:
    """How much is asked of each contender."""

    candidates: int = 500
    shown: int = 50


def contenders(served: Recommender, together: ItemNeighbours, depth: Depth = Depth()) -> dict[str, Contender]:
    """Every way to answer, by name. `served` has counted the popularity of training events alone, and `together` too.

    Parts of Recommend are taken out one by one: without any neighbour only what is popular is ranked. Ranking the whole
    catalogue, where it is small enough, tells what candidates cost.
    """
    config = replace(served.config, candidates=depth.candidates)
    whole = replace(served, config=config)

    def without(**parts: float) -> Recommender:
        return replace(whole, config=replace(config, **parts))  # type: ignore[arg-type]

    found: dict[str, Contender] = {
        "popular": _popular(served.popularity, depth),
        "own items, then popular": _own_items(served.popularity, depth),
        "item-to-item: index": _item_to_item(served.neighbours, config.recent, depth),
        "item-to-item: taken together": _item_to_item(together, config.recent, depth),
        SERVED: _recommend(whole, depth),
        "… by score alone": _recommend(without(popularity_weight=0.0), depth),
        "… of recent": _recommend(without(attended=0, popular_share=0.0), depth, fill=False),
        "… of recent, attended": _recommend(without(popular_share=0.0), depth, fill=False),
        "… of recent, popular": _recommend(without(attended=0), depth),
        "… of popular": _recommend(replace(whole, neighbours=_NoNeighbours()), depth),
        "… of taken together, popular": _recommend(replace(whole, neighbours=together), depth),
    }
    if served.catalogue.n_items <= LARGEST_WHOLE_CATALOGUE:
        found["… of the whole catalogue"] = _whole_catalogue(whole, depth)
    return found


class _NoNeighbours:
    """An index of nothing."""

    def nearest(self, item_ids: Ids, k: int) -> tuple[Ids, npt.NDArray[np.float32]]:
        """None."""
        return np.full((len(item_ids), k), -1, dtype=np.int64), np.zeros((len(item_ids), k), dtype=np.float32)


def _popular(popularity: Popularity, depth: Depth) -> Contender:
    def answer(history: Ids, again: bool) -> Answer:
        first = popularity.item_ids[: depth.candidates + len(history)]
        return _ranked(first if again else first[~np.isin(first, history)], depth)

    return answer


def _own_items(popularity: Popularity, depth: Depth) -> Contender:
    """Items of the history, the most frequent first, of equal ones the latest; what is popular after them."""

    def answer(history: Ids, again: bool) -> Answer:
        reversed_, first, counts = np.unique(history[::-1], return_index=True, return_counts=True)
        own = reversed_[np.lexsort((first, -counts))] if again else history[:0]
        popular = popularity.item_ids[: depth.candidates + len(history)]
        return _ranked(np.concatenate([own, popular[~np.isin(popular, history)]]), depth)

    return answer


def _item_to_item(neighbours: ItemNeighbours, recent: int, depth: Depth) -> Contender:
    """Neighbours of the latest items, by the sum of how alike they are to each."""

    def answer(history: Ids, again: bool) -> Answer:
        ids, similarities = neighbours.nearest(latest_distinct(history, recent), ITEM_TO_ITEM_NEIGHBOURS)
        there = ids >= 0
        items, place = np.unique(ids[there], return_inverse=True)
        order = np.argsort(-np.bincount(place, weights=similarities[there], minlength=len(items)), kind="stable")
        ranked = items[order]
        return _ranked(ranked if again else ranked[~np.isin(ranked, history)], depth)

    return answer


def _recommend(recommender: Recommender, depth: Depth, *, fill: bool = True) -> Contender:
    """Without `fill`, nothing popular takes the places that nothing else has taken."""

    def answer(history: Ids, again: bool) -> Answer:
        popular = recommender.popularity.item_ids if fill else NOTHING_POPULAR.item_ids
        candidates = find_candidates(
            history,
            recommender.neighbours,
            recommender.rank,
            popular,
            recommender.config,
            excluded=None if again else history,
            again=again,
        )
        shown = recommender.ranked(history, candidates, depth.shown)
        return Answer(candidates=candidates.item_ids, ranked=shown.item_ids)

    return answer


def _whole_catalogue(recommender: Recommender, depth: Depth) -> Contender:
    """All items are ranked; the best of them count as candidates."""
    everything = replace(recommender.config, candidates=recommender.catalogue.n_items)
    popular = recommender.popularity.item_ids

    def answer(history: Ids, again: bool) -> Answer:
        excluded = None if again else history
        candidates = find_candidates(
            history, _NoNeighbours(), recommender.rank, popular, everything, excluded=excluded, again=again
        )
        return _ranked(recommender.ranked(history, candidates, depth.candidates).item_ids, depth)

    return answer


def _ranked(items: Ids, depth: Depth) -> Answer:
    return Answer(candidates=items[: depth.candidates], ranked=items[: depth.shown])
