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
        most `most_of_a_category` are. Items that the model does not know are never shown. At least n candidates are
        ranked, if there are as many.
        """
        unwanted = [part for part in (excluded, history if exclude_seen else None) if part is not None]
        found = find_candidates(
            history,
            self.neighbours,
            self.rank,
            self.popularity.item_ids if popular is None else popular,
            replace(self.config, candidates=max(n, self.config.candidates)),
            excluded=np.concatenate(unwanted) if unwanted else None,
            again=not exclude_seen,
            allowed=allowed,
        )
        return self.ranked(history, found, n, most_of_a_category=most_of_a_category)

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
            categories = self.catalogue.category_rows[self.catalogue.rows_of(found.item_ids)]
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
