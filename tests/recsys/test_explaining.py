"""What scores rest on: shares of categories, and what the history changes."""

import numpy as np
import polars as pl
import pytest
import torch

from recsys.data.catalogue import Catalogue
from recsys.explaining import CategoryShare, reasons
from recsys.models.dare import Dare, DareConfig
from recsys.ranking import Ranker, Ranking

CATALOGUE = Catalogue(
    item_ids=np.array([-1, 10, 20, 30, 40]),
    category_rows=np.array([0, 1, 1, 2, 0], dtype=np.int32),
    category_ids=np.array([-1, 500, 600]),
    category_keys=pl.Series(["", "vase", "mug"]),
)
"""Item 40 has no category."""


def ranking_of(positions, weights):
    """A ranker that always finds these and scores by the length of the history."""

    def rank(history, candidates, /, *, explain=False):
        return Ranking(
            scores=np.full(len(candidates), len(history) / 10, dtype=np.float32),
            known=np.ones(len(candidates), dtype=bool),
            found_positions=np.array(positions) if explain else None,
            found_weights=np.array(weights, dtype=np.float32) if explain else None,
        )

    return rank


def test_shares_add_up_the_weights_of_a_category_greatest_first():
    history = np.array([10, 30, 20, 99, 40])
    rank = ranking_of([[0, 1, 2, -1], [3, 4, 1, 0]], [[0.25, 0.5, 0.25, 0.0], [0.125, 0.25, 0.125, 0.5]])
    found = reasons(rank, CATALOGUE, history, np.array([10, 30]))
    vase, mug = ({"category_id": 500, "name": "vase"}, {"category_id": 600, "name": "mug"})
    assert found.categories == (
        # Equal shares come in the order of the categories.
        (CategoryShare(**vase, share=0.5, behaviours=2), CategoryShare(**mug, share=0.5, behaviours=1)),
        (
            CategoryShare(**vase, share=0.5, behaviours=1),
            # The unknown item and the one without a category.
            CategoryShare(category_id=-1, name="", share=0.375, behaviours=2),
            CategoryShare(**mug, share=0.125, behaviours=1),
        ),
    )
    assert found.ranking.scores.tolist() == pytest.approx([0.5, 0.5])
    assert found.scores_without_history.tolist() == [0.0, 0.0]


def test_without_a_history_nothing_is_found_and_nothing_changes():
    found = reasons(ranking_of([[-1, -1]], [[0.0, 0.0]]), CATALOGUE, np.empty(0, dtype=np.int64), np.array([10]))
    assert found.categories == ((),)
    assert found.scores_without_history.tolist() == found.ranking.scores.tolist()


def test_a_trained_model_is_explained_with_the_scores_it_gives():
    sizes = DareConfig(n_items=4, n_categories=2, attention_dim=4, representation_dim=4, search_k=3)
    model = Dare(sizes, torch.from_numpy(CATALOGUE.category_rows), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.3)
    ranker = Ranker(model.eval().serving(), CATALOGUE)
    history, candidates = np.array([10, 20, 30, 10, 40, 20]), np.array([30, 10])
    found = reasons(ranker.rank, CATALOGUE, history, candidates)
    np.testing.assert_array_equal(found.ranking.scores, ranker.rank(history, candidates).scores)
    np.testing.assert_array_equal(found.scores_without_history, ranker.rank([], candidates).scores)
    assert not np.allclose(found.ranking.scores, found.scores_without_history)
    for shares in found.categories:
        assert sum(share.share for share in shares) == pytest.approx(1.0)
        assert sum(share.behaviours for share in shares) == 3
