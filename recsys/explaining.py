"""Say what scores rest on: the behaviours found, their categories, and what there would be without a history."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys.data.catalogue import UNKNOWN_ROW, Catalogue
from recsys.ranking import Ranking
from recsys.recommending.candidates import Rank

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class CategoryShare:
    """How much of what a score rests on is of one category."""

    category_id: int
    """-1 for items that the model has never seen, and for those without a category."""
    name: str
    """The log's own key of the category; empty where its ids were integers."""
    share: float
    """Sum of the weights of its behaviours."""
    behaviours: int
    """How many of those that were found are of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reasons:
    """What the scores of T candidates rest on."""

    ranking: Ranking
    """Scores, and what was found for each candidate."""
    scores_without_history: npt.NDArray[np.float32]
    """[T] what they would be for a user who has done nothing yet."""
    categories: tuple[tuple[CategoryShare, ...], ...]
    """[T] of all behaviours that were found, greatest share first; none where nothing was. Shares of a candidate add up
    to 1, as the weights do."""


def reasons(rank: Rank, catalogue: Catalogue, history: Ids, candidates: Ids) -> Reasons:
    """Why `candidates` [T] get the scores they do for `history` [L] of item ids, oldest first.

    `rank` is `Ranker.rank` of the model whose vocabulary is `catalogue`.
    """
    ranking = rank(history, candidates, explain=True)
    without = rank(history[:0], candidates).scores if len(history) else ranking.scores
    positions, weights = ranking.found_positions, ranking.found_weights
    shares: tuple[tuple[CategoryShare, ...], ...] = ((),) * len(candidates)
    if positions is not None and weights is not None:
        categories = catalogue.category_rows[catalogue.rows_of(history)]  # [L]
        shares = tuple(
            _shares(catalogue, categories[found[found >= 0]], weight[found >= 0])
            for found, weight in zip(positions, weights, strict=True)
        )
    return Reasons(ranking=ranking, scores_without_history=without, categories=shares)


def _shares(
    catalogue: Catalogue, categories: npt.NDArray[np.int32], weights: npt.NDArray[np.float32]
) -> tuple[CategoryShare, ...]:
    """Of behaviours [K] with these category rows and weights; equal shares in the order of their rows."""
    rows, of = np.unique(categories, return_inverse=True)
    sums, counts = np.bincount(of, weights, len(rows)), np.bincount(of, minlength=len(rows))
    keys = catalogue.category_keys
    return tuple(
        CategoryShare(
            category_id=int(catalogue.category_ids[rows[at]]),
            name="" if keys is None or rows[at] == UNKNOWN_ROW else str(keys[int(rows[at])]),
            share=float(sums[at]),
            behaviours=int(counts[at]),
        )
        for at in np.argsort(-sums, kind="stable")
    )
