"""The ranker: ids in, scores and reasons out, from a model directory."""

from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch

from recsys.data.event_store import EventStore
from recsys.data.protocols import LeaveLastOut
from recsys.data.samples import SampleConfig
from recsys.models.dare import Dare
from recsys.models.directory import save_model
from recsys.ranking import Ranker, RankingCall
from recsys.training.config import TrainConfig
from recsys.training.loop import new_model

CONFIG = TrainConfig(samples=SampleConfig(protocol=LeaveLastOut(), max_history=10), search_k=4)


@pytest.fixture
def model(shop_store: EventStore) -> Dare:
    model = new_model(shop_store, CONFIG)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.3)
    return model.eval()


@pytest.fixture
def directory(shop_store: EventStore, model: Dare, tmp_path: Path) -> Path:
    save_model(tmp_path / "model", model, shop_store.catalogue, training={}, data={}, metrics={})
    return tmp_path / "model"


def test_scores_in_the_order_asked_with_unknown_items_marked(directory: Path, model: Dare) -> None:
    ranker = Ranker.load(directory)
    history, candidates = np.array([300, 999_999, 700]), [500, 31, 100]
    ranking = ranker.rank(history, candidates)
    expected, _ = model.serving().score(torch.tensor([3, 0, 7]), torch.tensor([0, 3]), torch.tensor([[5, 0, 1]]))
    np.testing.assert_allclose(ranking.scores, expected[0].numpy(), atol=1e-7)
    assert ranking.known.tolist() == [True, False, True]
    assert ranking.found_positions is None


def test_explanations_point_into_the_history_as_given(directory: Path) -> None:
    ranking = Ranker.load(directory).rank(np.array([300, 400]), [500], explain=True)
    assert ranking.found_positions is not None
    assert ranking.found_weights is not None
    assert sorted(ranking.found_positions[0].tolist()) == [-1, -1, 0, 1]
    assert ranking.found_weights[0].tolist() == sorted(ranking.found_weights[0].tolist(), reverse=True)
    assert ranking.found_weights.sum() == pytest.approx(1.0)


def test_calls_ranked_together_get_what_each_gets_alone(directory: Path) -> None:
    ranker = Ranker.load(directory)
    random = np.random.default_rng(1)
    calls = [
        RankingCall(
            history_item_ids=random.choice([300, 400, 500, 700, 999_999], length),
            candidate_item_ids=random.choice([100, 500, 31], candidates),
            explain=explain,
        )
        for length, candidates, explain in ((3, 2, True), (0, 3, False), (12, 0, True), (40, 1, True))
    ]
    together = ranker.rank_together(calls)
    for call, ranking in zip(calls, together, strict=True):
        alone = ranker.rank(call.history_item_ids, call.candidate_item_ids, explain=call.explain)
        np.testing.assert_allclose(ranking.scores, alone.scores, atol=1e-6)
        assert ranking.known.tolist() == alone.known.tolist()
        assert (ranking.found_positions is None) == (not call.explain)
        if call.explain and len(call.candidate_item_ids):
            np.testing.assert_array_equal(ranking.found_positions, alone.found_positions)
            np.testing.assert_allclose(ranking.found_weights, alone.found_weights, atol=1e-6)


def test_nothing_to_rank_together(directory: Path) -> None:
    ranker = Ranker.load(directory)
    assert ranker.rank_together([]) == []
    nothing = RankingCall(history_item_ids=np.array([300]), candidate_item_ids=np.array([], dtype=np.int64))
    assert [len(ranking.scores) for ranking in ranker.rank_together([nothing, nothing])] == [0, 0]


def test_scoring_without_history_or_candidates(directory: Path) -> None:
    ranker = Ranker.load(directory)
    assert np.isfinite(ranker.rank([], [500]).scores).all()
    nothing = ranker.rank([300], [], explain=True)
    assert nothing.scores.shape == (0,)
    assert nothing.found_positions is not None


def test_smaller_tables_answer_nearly_the_same(directory: Path) -> None:
    history, candidates = np.arange(100, 2_000, 100), np.arange(100, 3_000, 100)
    exact = Ranker.load(directory).rank(history, candidates).scores
    for dtype, tolerance in (("float16", 2e-3), ("int8", 3e-2)):
        scores = Ranker.load(directory, dtype=dtype).rank(history, candidates).scores
        np.testing.assert_allclose(scores, exact, atol=tolerance)


def test_threads_may_share_a_ranker(directory: Path) -> None:
    ranker = Ranker.load(directory)
    candidates = np.arange(100, 3_000, 100)
    histories = [np.arange(100, 100 * length, 100) for length in range(2, 30)]
    alone = [ranker.rank(history, candidates).scores for history in histories]
    together: dict[int, np.ndarray] = {}
    threads = [
        Thread(target=lambda at=at: together.update({at: ranker.rank(histories[at], candidates).scores}))
        for at in range(len(histories))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for at, scores in enumerate(alone):
        np.testing.assert_array_equal(together[at], scores)
