"""A shop of recurring interests does what its configuration says, and its optimum is what enumeration gives."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recsys.data.event_store import EventStore
from recsys.data.protocols import LeaveLastOut
from recsys.data.samples import SampleConfig, SampleSet, make_samples
from recsys.data.shop import RecurringConfig, build_shop, demo_shop, optimal_probabilities, recurring_config_of
from recsys.data.shop.assortment import Assortment, item_ids
from recsys.data.shop.recurring import recurring_chunks
from recsys.errors import ConfigError, StoreError
from recsys.training.config import default_dare, recommend_dare
from recsys.training.experiment import optimum_of
from recsys.training.metrics import measure

SHOP = RecurringConfig(
    users=1_500, items=60, categories=6, mean_events=60, days=30, gap=5, memory=20, interests=3, seed=3
)
SAMPLES = SampleConfig(
    protocol=LeaveLastOut(min_events=30, train_first=3, train_last=12, train_stride=1),
    max_history=20,
    negatives=3,
    negatives_of="all",
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> EventStore:
    directory = tmp_path_factory.mktemp("recurring") / "shop"
    build_shop(SHOP, directory)
    return EventStore(directory)


@pytest.fixture(scope="module")
def samples(store: EventStore) -> SampleSet:
    return make_samples(store, SAMPLES, "train")


def shop_items(store: EventStore) -> dict[int, int]:
    """Item row → item of the assortment."""
    number = {int(own): item for item, own in enumerate(item_ids(SHOP, np.arange(SHOP.items)))}
    return {row: number[int(own)] for row, own in enumerate(store.catalogue.item_ids) if row}


def next_item(history: list[int], category_of: list[int], shop: RecurringConfig) -> dict[int, float]:
    """Item → probability that it comes after `history` (items, oldest first): every way to it, one by one."""
    assortment = Assortment.of(shop)
    members = [[item for item in range(shop.items) if category_of[item] == c] for c in range(shop.categories)]
    demand = [float(value) for value in np.diff(assortment.demand, prepend=0.0)]
    power = 1 - shop.popularity_exponent

    def among(category: int) -> list[tuple[int, float]]:
        """By the law that ranks are drawn by: x^-a from rank to rank, in a continuum."""
        own = members[category]
        whole = sum((n + 2) ** power - (n + 1) ** power for n in range(len(own)))
        return [(item, ((n + 2) ** power - (n + 1) ** power) / whole) for n, item in enumerate(own)]

    found: Counter[int] = Counter()
    for category, wanted in enumerate(demand):
        for item, share in among(category):
            found[item] += shop.explore_share * wanted * share
    lags = range(shop.gap, min(shop.memory, len(history)) + 1)
    for lag in lags:
        recalled = history[-lag]
        chance = (1 - shop.explore_share) / len(lags)
        found[recalled] += chance * shop.repeat_share
        for item, share in among(category_of[recalled]):
            found[item] += chance * (1 - shop.repeat_share) * share
    return dict(found)


def test_the_optimum_is_that_of_enumeration(store: EventStore, samples: SampleSet) -> None:
    some = samples.take(np.random.default_rng(0).choice(len(samples), 40, replace=False))
    found = optimal_probabilities(store, some, SAMPLES, SHOP)
    item_of = shop_items(store)
    category_of = Assortment.of(SHOP).category_of(np.arange(SHOP.items)).tolist()
    counted = Counter(store.items[SAMPLES.protocol.training_events(store)].tolist())
    for group in range(len(some)):
        user, end = int(some.users[group]), int(some.ends[group])
        history = [item_of[row] for row in store.items[store.offsets[user] : end].tolist()]
        likely = next_item(history, category_of, SHOP)
        assert sum(likely.values()) == pytest.approx(1.0, abs=1e-12)
        for place, row in enumerate(some.targets[group].tolist()):
            drawn = SAMPLES.negatives * counted[row] / counted.total()
            assert found[group, place] == pytest.approx(
                likely[item_of[row]] / (likely[item_of[row]] + drawn), abs=1e-12
            )


def test_what_customers_do_has_the_probabilities_that_the_optimum_takes_for_true(
    store: EventStore, samples: SampleSet
) -> None:
    """Of samples that are positives with probability p, a share of p is."""
    found = optimal_probabilities(store, samples, SAMPLES, SHOP)
    assert found.min() < 0.1 < 0.6 < found.max()
    for low, high in ((0.0, 0.15), (0.15, 0.25), (0.25, 0.4), (0.4, 0.6), (0.6, 1.0)):
        inside = (found >= low) & (found < high)
        error = np.sqrt((found[inside] * (1 - found[inside])).sum()) / inside.sum()
        assert samples.labels[inside].mean() == pytest.approx(found[inside].mean(), abs=4 * error), (low, high)


def test_nothing_else_that_is_seen_beats_the_optimum(store: EventStore, samples: SampleSet) -> None:
    users = np.broadcast_to(samples.users[:, None], samples.targets.shape)

    def of(shop: RecurringConfig) -> tuple[float, float]:
        found = measure(optimal_probabilities(store, samples, SAMPLES, shop), samples.labels, users)
        return found.auc, found.logloss

    auc, logloss = of(SHOP)
    for other in (
        replace(SHOP, memory=10),
        replace(SHOP, gap=1),
        replace(SHOP, repeat_share=0.9),
        replace(SHOP, repeat_share=0.0),
        replace(SHOP, explore_share=0.9),
    ):
        other_auc, other_logloss = of(other)
        assert other_auc < auc, other
        assert other_logloss > logloss, other


def test_interests_sleep_and_return(store: EventStore) -> None:
    """An event is of the category of one `gap` to `memory` events before it far more often than of a nearer one."""
    category = store.catalogue.category_rows[store.items]
    ends = store.offsets[1:] - 1

    def alike(lag: int) -> float:
        at = np.concatenate([ends - back for back in range(15)])
        return float((category[at] == category[at - lag]).mean())

    # Of the 16 events from 5 to 20 ago one is recalled in 80 of 100 cases.
    assert alike(SHOP.gap) > alike(1) + 0.02
    assert alike(SHOP.memory) > alike(SHOP.memory + 4) + 0.02


def test_a_shop_follows_from_its_configuration(store: EventStore) -> None:
    assortment = Assortment.of(SHOP)
    first, again = ([chunk.item for chunk in recurring_chunks(SHOP, assortment)] for _ in range(2))
    assert all(map(np.array_equal, first, again))
    lengths = np.diff(store.offsets)
    assert (lengths.min(), lengths.max()) == (45, 75)
    same_user = np.diff(np.repeat(np.arange(store.n_users), lengths)) == 0
    assert (np.diff(store.times)[same_user] > 0).all()
    assert recurring_config_of(store) == SHOP


def test_other_data_have_no_known_optimum(tmp_path: Path) -> None:
    build_shop(replace(demo_shop(), users=20, items=40, categories=4, mean_events=40), tmp_path / "demo")
    assert recurring_config_of(EventStore(tmp_path / "demo")) is None
    assert optimum_of(EventStore(tmp_path / "demo"), recommend_dare()) is None


def test_samples_without_a_known_optimum_have_none(store: EventStore) -> None:
    assert optimum_of(store, default_dare()) is None, "negatives that the user will never touch"
    with pytest.raises(ConfigError, match="negatives of all items, got 'untouched'"):
        optimal_probabilities(
            store, make_samples(store, SAMPLES, "test"), replace(SAMPLES, negatives_of="untouched"), SHOP
        )
    short = replace(SAMPLES, max_history=10)
    with pytest.raises(ConfigError, match="at least the shop's memory of 20, got 10"):
        optimal_probabilities(store, make_samples(store, short, "test"), short, SHOP)
    early = replace(SAMPLES, protocol=LeaveLastOut(min_events=45, train_first=40, train_last=44, train_stride=1))
    with pytest.raises(ConfigError, match="needs 5 events of its user before it, got one with 1"):
        optimal_probabilities(store, make_samples(store, early, "train"), early, SHOP)


def test_a_store_of_another_release_is_told(store: EventStore) -> None:
    store.manifest.source["options"]["surprise"] = 1
    try:
        with pytest.raises(StoreError, match="generated by another release"):
            recurring_config_of(store)
    finally:
        del store.manifest.source["options"]["surprise"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"memory": 4}, "memory must be at least gap, got 4 and 5"),
        ({"mean_events": 6}, "more than gap events, got 6 for a gap of 5"),
        ({"explore_share": 0.0}, "explore_share above 0"),
        ({"repeat_share": 1.1}, "repeat_share must be from 0 to 1"),
        ({"categories": 61}, "61 categories of 60 items"),
        ({"popularity_exponent": 1}, "positive and not 1"),
        ({"users": 0}, "users must be at least 1"),
    ],
)
def test_configurations_that_cannot_work(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(SHOP, **changes)  # type: ignore[arg-type]
