"""NDCG and attention of searches that are known: models set by hand, orders without a model, and every kind that there
is."""

from collections.abc import Callable
from dataclasses import replace
from math import log2

import numpy as np
import pytest
import torch

from recsys.data.event_store import EventStore
from recsys.data.protocols import LeaveLastOut
from recsys.data.samples import SampleConfig, SampleSet, make_samples
from recsys.diagnosis.relevance import Relevance, RelevanceConfig, count_relevance
from recsys.diagnosis.search_quality import (
    IN_FAVOUR,
    INFORMATION,
    OTHER_HALF,
    RANDOM,
    RECENT,
    SAME_CATEGORY,
    measure_search,
)
from recsys.diagnosis.searches import ByGrades, ModelSearch, MostRecent, SameCategory, read_histories
from recsys.diagnosis.subjects import by_category_alone
from recsys.errors import DataError
from recsys.models.dare import Dare
from recsys.models.kinds import MODELS, build_model, has_attention_size
from recsys.models.twin import Twin

K = 4
PROTOCOL = LeaveLastOut(min_events=20, train_first=3, train_last=18, train_stride=1)
CONFIG = SampleConfig(protocol=PROTOCOL, max_history=30)


@pytest.fixture
def one_user(store_of: Callable[..., EventStore]) -> EventStore:
    """Categories are row % 3 + 1: from the oldest behaviour 1, 2, 1, 3, 3, 1 (the positive)."""
    return store_of({"a": [(row, time) for time, row in enumerate([3, 1, 6, 2, 5, 9])]}, items=9)


@pytest.fixture
def worth(relevance: Callable[..., Relevance]) -> Relevance:
    """For targets of category 1, behaviours of 1 say everything (1 bit), those of 2 and 3 half of it each."""
    # Behaviours beside (negatives, positives): of category 1 always a positive, of 2 and 3 always a negative.
    return relevance([[[[0, 0]], [[0, 20]], [[10, 0]], [[10, 0]]]], [1])


def test_searches_that_are_known_have_their_ndcg(
    one_user: EventStore,
    worth: Relevance,
    samples: Callable[..., SampleSet],
    by_category: Callable[[EventStore], Dare],
    by_recency: Callable[[EventStore], Twin],
) -> None:
    searches = {
        "dare": ModelSearch(by_category(one_user).serving()),
        "twin": ModelSearch(by_recency(one_user).serving()),
    }
    found = measure_search(one_user, samples((0, 0, 5, [9])), worth, searches, k=K, min_history=5, most_unreliable=5)
    # Grades: 1 for category 1, h for 2 and 3: a bit less what half of the behaviours leave open.
    given_other = -(1 / 3) * log2(1 / 3) - (2 / 3) * log2(2 / 3)
    h = 1 - 0.75 * given_other
    d = [1 / log2(rank + 1) for rank in (1, 2, 3, 4)]
    ideal = d[0] + d[1] + h * (d[2] + d[3])
    recent = h * d[0] + h * d[1] + d[2] + h * d[3]
    ndcg = {search: values[0] for (grades, search), values in found.ndcg.items() if grades == INFORMATION}
    assert ndcg["dare"] == ndcg[SAME_CATEGORY] == pytest.approx(1, rel=1e-5)
    assert ndcg["twin"] == ndcg[RECENT] == pytest.approx(recent / ideal, rel=1e-5)
    assert ndcg[RANDOM] == pytest.approx((2 + 3 * h) / 5 * sum(d) / ideal, rel=1e-5)
    assert ndcg[OTHER_HALF] == pytest.approx(1, rel=1e-5), "both halves say the same"
    # Behaviours of 2 and 3 speak against the target: only those of 1 are worth anything in favour.
    in_favour = {search: values[0] for (grades, search), values in found.ndcg.items() if grades == IN_FAVOUR}
    assert in_favour["twin"] == pytest.approx(d[2] / (d[0] + d[1]), rel=1e-5)
    assert (found.users.tolist(), found.asked, found.too_short) == ([0], 1, 0)


def test_attention_goes_where_it_was_set_to_go(
    one_user: EventStore,
    worth: Relevance,
    samples: Callable[..., SampleSet],
    by_category: Callable[[EventStore], Dare],
) -> None:
    bins = replace(worth, config=RelevanceConfig(bins=(1, 3), min_samples=1, min_count=1))
    two_bins = replace(bins, halves=tuple(np.repeat(half, 2, axis=2) for half in worth.halves))
    searches = {"dare": ModelSearch(by_category(one_user).serving())}
    found = measure_search(one_user, samples((0, 0, 5, [9])), two_bins, searches, k=K, min_history=1, most_unreliable=5)
    attention = found.attention
    assert attention.categories.tolist() == [1]
    # Positions 1 and 2 are of category 3, 3 of 1, 4 of 2, 5 of 1.
    assert attention.behaviours[0].tolist() == [[0, 0], [0, 2], [0, 1], [2, 0]]
    lift = attention.lifts["dare"][0]
    # Scores of the same category exceed the others by 900/√8, and fall by ½ a position: softmax of 0 and −1.
    assert lift[1, 1] == pytest.approx(5 / 2, rel=1e-4), "all of the weight, for two behaviours of five"
    assert lift[3, 0] == pytest.approx(0, abs=1e-6)
    assert np.isnan(lift[2, 0]), "no such behaviour"


def test_an_unreliable_history_is_not_graded(
    one_user: EventStore, worth: Relevance, samples: Callable[..., SampleSet]
) -> None:
    taken = samples((0, 0, 5, [9, 1]))
    # Every count of this relevance has a zero beside positives or beside negatives.
    with pytest.raises(DataError, match=r"none of 2 targets .* 5 behaviours \(the longest has 5\), all but 4 of them"):
        measure_search(one_user, taken, worth, {}, k=K, min_history=5)
    with pytest.raises(DataError, match="lower --min-samples, --min-history or --min-count"):
        measure_search(one_user, taken, worth, {}, k=K, min_history=6, most_unreliable=5)
    found = measure_search(one_user, taken, worth, {}, k=K, min_history=5, most_unreliable=5)
    assert len(found.users) == 1, "the other target is of a category that was not counted"


@pytest.mark.parametrize("kind", list(MODELS))
def test_every_kind_is_measured_batch_by_batch(shop_store: EventStore, kind: str) -> None:
    model_type = MODELS[kind]
    own = {"attention_dim": 3} if has_attention_size(model_type) else {}
    sizes = model_type.sizes(n_items=50, n_categories=3, representation_dim=3, n_positions=30, search_k=K, **own)
    model = build_model(model_type, sizes, shop_store.catalogue, seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(20)
    searches = {
        "model": ModelSearch(model.eval().serving()),
        "by category": ModelSearch(by_category_alone(model)),
    }
    training = count_relevance(
        shop_store, make_samples(shop_store, CONFIG, "train"), RelevanceConfig(bins=(1, 11), min_samples=1, min_count=1)
    )
    test = make_samples(shop_store, CONFIG, "test").take(np.arange(17))
    done: list[int] = []
    whole, parts = (
        measure_search(shop_store, test, training, searches, k=K, min_history=20, batch_size=size, progress=done.append)
        for size in (1024, 5)
    )
    assert done == [17, 5, 5, 5, 2]
    for name, values in whole.ndcg.items():
        if kind != "din":  # scores equal items alike but for rounding, which depends on the batch
            assert np.array_equal(values, parts.ndcg[name], equal_nan=True), name
        assert ((values >= 0) & (values <= 1 + 1e-6)).all(), name
        assert len(values) == len(parts.ndcg[name]) == len(whole.users)
    if kind != "din":
        assert np.allclose(whole.attention.lifts["model"], parts.attention.lifts["model"], equal_nan=True)
    # What attention there is adds up to one a target: behaviours times their mean weight.
    total = np.nansum(whole.attention.lifts["model"] * whole.attention.behaviours)
    targets = whole.attention.behaviours.sum() / 30
    if kind not in ("sim-hard", "sdim"):
        assert total / 30 == pytest.approx(targets, rel=1e-4)


def test_items_are_set_to_zero_in_a_copy(shop_store: EventStore, by_category: Callable[[EventStore], Dare]) -> None:
    model = by_category(shop_store)
    with torch.no_grad():
        model.attention.item.weight.normal_(generator=torch.Generator().manual_seed(0)).mul_(100)
    before = model.attention.item.weight.clone()
    test = read_histories(shop_store, make_samples(shop_store, CONFIG, "test"))
    assert torch.equal(model.attention.item.weight, before)
    alone = ModelSearch(by_category_alone(model)).keep(test)
    assert np.array_equal(alone.columns, SameCategory(K).keep(test).columns)
    assert not np.array_equal(ModelSearch(model.serving()).keep(test).columns, alone.columns)
    assert torch.equal(model.attention.item.weight, before)


def test_orders_without_a_model(store_of: Callable[..., EventStore], samples: Callable[..., SampleSet]) -> None:
    # Categories row % 3 + 1; a's behaviours are of 1, 2, 1, b's of 2.
    store = store_of({"a": [(3, 0), (1, 1), (6, 2), (2, 3)], "b": [(4, 0), (2, 1)]})
    histories = read_histories(store, samples((0, 0, 3, [9, 1]), (1, 4, 5, [2, 7])))
    assert histories.categories.tolist() == [[1, 2, 1], [-1, -1, 2]]
    assert histories.positions.tolist() == [3, 2, 1]
    assert MostRecent(2).keep(histories).columns.tolist() == [[[2, 1], [2, 1]], [[2, -1], [2, -1]]]
    assert SameCategory(4).keep(histories).columns.tolist() == [
        [[2, 0, 1, -1], [1, 2, 0, -1]],
        [[2, -1, -1, -1], [2, -1, -1, -1]],
    ]
    grades = np.array([[[0.5, 0.9, 0.5], [0, 0, 0]], [[0, 0, 0], [0, 0, 3]]], dtype=np.float32)
    assert ByGrades(2, lambda _: grades).keep(histories).columns.tolist() == [[[1, 2], [2, 1]], [[2, -1], [2, -1]]]


def test_what_a_model_finds_is_turned_into_columns(
    shop_store: EventStore, samples: Callable[..., SampleSet], by_recency: Callable[[EventStore], Twin]
) -> None:
    histories = read_histories(shop_store, samples((0, 0, 9, [1, 2]), (1, 45, 47, [3, 4]), (2, 90, 90, [5, 6])))
    kept = ModelSearch(by_recency(shop_store).serving()).keep(histories)
    assert kept.columns.tolist() == [[[8, 7, 6, 5]] * 2, [[8, 7, -1, -1]] * 2, [[-1] * 4] * 2]
    assert kept.weights is not None
    assert kept.weights.sum(-1).tolist() == [pytest.approx([1, 1]), pytest.approx([1, 1]), [0, 0]]
    assert np.array_equal(kept.columns, MostRecent(K).keep(histories).columns)
