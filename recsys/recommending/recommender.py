"""Candidates → the model's scores → the best of them, no category too often."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from recsys.data.catalogue import UNKNOWN_ROW, Catalogue
from recsys.models.popularity import Popularity
from recsys.recommending.candidates import (
    Allowed,
    CandidateConfig,
    Candidates,
    Ids,
    ItemNeighbours,
    Rank,
    find_candidates,
)

__all__ = ["Allowed", "Recommendations", "Recommender", "capped"]

_NONE: Ids = np.empty(0, dtype=np.int64)
_LOOKED_THROUGH = 4_096
"""Popular items that are looked through first for categories that lack some."""
_CERTAIN = 1e-7
"""Scores nearer to 0 or 1 than fp32 tells apart."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recommendations:
    """At most n items, best first."""

    item_ids: Ids
    """[n]"""
    scores: npt.NDArray[np.float32]
    """[n] the model's probability of interest. The items' order counts their popularity too, so that scores need not
    descend."""
    origins: npt.NDArray[np.int64]
    """[n] an Origin each."""
    behaviours: Ids
    """[n] item of the behaviour that it is most like; −1 for what is popular."""
    similarities: npt.NDArray[np.float32]
    """[n] how alike it and that behaviour are."""
    candidates: int
    """How many were ranked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recommender:
    """A model and an index of its items. It only reads, so threads may share it."""

    rank: Rank
    neighbours: ItemNeighbours
    catalogue: Catalogue
    """The model's vocabulary, which knows categories."""
    popularity: Popularity
    """How many events each item has."""
    config: CandidateConfig

    def recommend(
        self,
        history: Ids,
        n: int,
        *,
        exclude_seen: bool = True,
        excluded: Ids | None = None,
        allowed: Allowed | None = None,
        popular: Ids | None = None,
        most_of_a_category: int | None = None,
    ) -> Recommendations:
        """The best n for a user with `history` [L] of item ids, oldest first; fewer where fewer may be shown.

        `exclude_seen` leaves out what is in the history, `excluded` further items; `allowed` says which may be shown,
        and `popular` has all of those at least, most popular first, where they are known beforehand. Of one category at
        most `most_of_a_category` are; where the candidates are of too few categories, what is popular of the others
        fills up. Items that the model does not know are never shown. At least n candidates are ranked, if there are as
        many.
        """
        parts = [_NONE, *([] if excluded is None else [excluded]), *([history] if exclude_seen else [])]
        unwanted = np.concatenate(parts)
        popular = self.popularity.item_ids if popular is None else popular
        found = find_candidates(
            history,
            self.neighbours,
            self.rank,
            popular,
            replace(self.config, candidates=max(n, self.config.candidates)),
            excluded=unwanted,
            again=not exclude_seen,
            allowed=allowed,
            known=self._known,
        )
        best = self.ranked(history, found, n, most_of_a_category=most_of_a_category)
        if most_of_a_category is not None and len(best.item_ids) < n:
            more = self._of_other_categories(best.item_ids, n, most_of_a_category, popular, unwanted, found, allowed)
            if len(more):
                return self.ranked(history, found.with_popular(more), n, most_of_a_category=most_of_a_category)
        return best

    def ranked(
        self, history: Ids, found: Candidates, n: int, *, most_of_a_category: int | None = None
    ) -> Recommendations:
        """The best n of some candidates for a user with `history` [L]."""
        ranking = self.rank(history, found.item_ids)
        scores = ranking.scores
        order = np.argsort(-self._worth(found.item_ids, scores), kind="stable")
        # An item that the model has never seen has no score of its own.
        order = order[ranking.known[order]]
        if most_of_a_category is not None:
            categories = self._categories_of(found.item_ids)
            order = order[capped(categories[order], most_of_a_category)]
        best = order[:n]
        return Recommendations(
            item_ids=found.item_ids[best],
            scores=scores[best],
            origins=found.origins[best],
            behaviours=found.behaviours[best],
            similarities=found.similarities[best],
            candidates=len(found.item_ids),
        )

    def _known(self, item_ids: Ids) -> npt.NDArray[np.bool_]:
        """Which of some items [C] the model has seen."""
        known: npt.NDArray[np.bool_] = self.catalogue.rows_of(item_ids) != UNKNOWN_ROW
        return known

    def _of_other_categories(
        self,
        shown: Ids,
        n: int,
        most: int,
        popular: Ids,
        unwanted: Ids,
        found: Candidates,
        allowed: Allowed | None,
    ) -> Ids:
        """What is most popular and may be shown beside `shown`, at most `most` of a category: as much as n lacks."""
        begin, size, taken = 0, _LOOKED_THROUGH, shown
        unwanted = np.concatenate([unwanted, found.item_ids])
        while len(taken) < n and begin < len(popular):
            part = popular[begin : begin + size]
            part = part[self._known(part) & ~np.isin(part, unwanted)]
            if allowed is not None:
                part = part[allowed(part)]
            taken = np.concatenate([taken, part])
            taken = taken[capped(self._categories_of(taken), most)]
            begin, size = begin + size, 2 * size
        return taken[len(shown) : n]

    def _categories_of(self, item_ids: Ids) -> npt.NDArray[np.int32]:
        categories: npt.NDArray[np.int32] = self.catalogue.category_rows[self.catalogue.rows_of(item_ids)]
        return categories

    def _worth(self, item_ids: Ids, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """[C] what candidates are ordered by: the log odds of interest, and the logarithm of their popularity.

        A model learns its scores from negatives drawn by popularity, so that its odds tell p(item | user) / p(item):
        how much more a user wants an item than users do in general. Times p(item), they tell what is wanted most.
        """
        probabilities = np.clip(scores.astype(np.float64), _CERTAIN, 1 - _CERTAIN)
        odds = np.log(probabilities) - np.log1p(-probabilities)
        return np.asarray(odds + self.config.popularity_weight * self.popularity.log_shares(item_ids))


def capped(categories: npt.NDArray[np.int32], most: int) -> npt.NDArray[np.int64]:
    """Places, ascending, of the first `most` of each category; items without one (row 0) are not limited."""
    order = np.argsort(categories, kind="stable")
    ordered = categories[order]
    begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(ordered) else np.empty(0, dtype=np.int64)
    within = np.arange(len(ordered)) - np.repeat(begins, np.diff(np.r_[begins, len(ordered)]))
    return np.sort(order[(within < most) | (ordered == UNKNOWN_ROW)])
