"""Planted behaviours: histories that have nothing to do with the target, plants that do, places as they were asked
for."""

from collections.abc import Callable

import numpy as np
import pytest

from recsys.data.event_store import EventStore
from recsys.data.protocols import LeaveLastOut
from recsys.data.samples import SampleConfig, SampleSet, make_samples
from recsys.diagnosis.planting import PlantConfig, Planting
from recsys.errors import ConfigError, DataError

PROTOCOL = LeaveLastOut(min_events=20, train_first=3, train_last=18, train_stride=1)
ALL = slice(0, None)


@pytest.fixture
def held_out(shop_store: EventStore) -> SampleSet:
    return make_samples(shop_store, SampleConfig(protocol=PROTOCOL, max_history=30), "test")


@pytest.fixture
def planting(shop_store: EventStore, held_out: SampleSet) -> Planting:
    config = PlantConfig(targets=40, lengths=(20, 43), bins=5, seed=3)
    return Planting(shop_store, held_out, PROTOCOL.training_events(shop_store), config)


def whole(planting: Planting) -> slice:
    return slice(0, len(planting.targets.rows))


@pytest.mark.parametrize("length", [20, 43])
def test_histories_have_nothing_of_the_target(planting: Planting, shop_store: EventStore, length: int) -> None:
    rows, category = planting.histories(length, whole(planting)), shop_store.catalogue.category_rows
    assert rows.shape == (40, length)
    assert (rows > 0).all()
    assert not (category[rows] == category[planting.targets.rows][:, None]).any()
    # What is not replaced is another user's latest history, in its order.
    latest = {user: shop_store.items[end - 1 - length : end - 1] for user, end in enumerate(shop_store.offsets[1:])}
    for own, target, history in zip(planting.targets.users, planting.targets.rows, rows, strict=True):
        donors = [
            user
            for user, of in latest.items()
            if np.array_equal(of[category[of] != category[target]], history[category[of] != category[target]])
        ]
        assert len(donors) == 1
        assert donors[0] != own


def test_plants_are_the_item_its_category_and_others(planting: Planting, shop_store: EventStore) -> None:
    targets, category = planting.targets, shop_store.catalogue.category_rows
    assert targets.planted["item"].tolist() == targets.rows.tolist()
    related, unrelated = targets.planted["category"], targets.planted["unrelated"]
    assert (category[related] == category[targets.rows]).all()
    assert (related != targets.rows).all()
    assert (category[unrelated] != category[targets.rows]).all()
    assert len(set(targets.users.tolist())) == 40, "distinct positives of as many users"


def test_related_items_are_drawn_as_often_as_they_occur(
    store_of: Callable[..., EventStore], samples: Callable[..., SampleSet]
) -> None:
    # Category 2 holds items 1, 4, 7: once, three times, and six times; item 2 is alone in 3.
    rows = [4, 4, 4, 7, 7, 7, 7, 7, 7, 1, 2]
    store = store_of({user: [(row, time) for time, row in enumerate(rows)] for user in ("a", "b")}, items=8)
    taken = samples(*[(0, 0, 11, [4, 1])] * 4_000, *[(1, 11, 22, [2, 1])] * 10)
    config = PlantConfig(targets=4_010, lengths=(5,))
    planting = Planting(store, taken, np.ones(22, dtype=bool), config)
    of_four = planting.targets.planted["category"][planting.targets.rows == 4]
    assert set(of_four.tolist()) == {1, 7}
    assert (of_four == 7).mean() == pytest.approx(6 / 7, abs=0.03)
    assert set(planting.targets.planted["category"][planting.targets.rows == 2].tolist()) == {0}, "nothing to plant"


@pytest.mark.parametrize("length", [20, 43])
def test_places_lie_in_their_bin(planting: Planting, length: int) -> None:
    places = planting.places(length, whole(planting))
    edges = planting.config.edges(length)
    assert (edges[0], edges[-1]) == (0, length)
    positions = length - places  # 1 = the most recent
    for number in range(5):
        assert ((positions[number] > edges[number]) & (positions[number] <= edges[number + 1])).all()
        assert len(np.unique(positions[number])) > 2


def test_a_random_order_holds_the_same(planting: Planting) -> None:
    order = planting.shuffles(20, whole(planting))
    assert np.array_equal(np.sort(order, axis=1), np.broadcast_to(np.arange(20), (40, 20)))
    assert len({tuple(row) for row in order.tolist()}) == 40


def test_the_seed_decides_everything(shop_store: EventStore, held_out: SampleSet, planting: Planting) -> None:
    counted = PROTOCOL.training_events(shop_store)
    same, other = (
        Planting(shop_store, held_out, counted, PlantConfig(targets=40, lengths=(20,), seed=seed)) for seed in (3, 4)
    )
    assert np.array_equal(same.histories(20, whole(same)), planting.histories(20, whole(planting)))
    assert np.array_equal(same.targets.rows, planting.targets.rows)
    assert not np.array_equal(other.targets.users, planting.targets.users)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"targets": 0}, "targets must be at least 1, got 0"),
        ({"bins": 1}, "bins must be at least 2, an early and a late one, got 1"),
        ({"lengths": ()}, r"lengths must be distinct numbers of behaviours, got \[\]"),
        ({"lengths": (20, 20)}, r"lengths must be distinct numbers of behaviours, got \[20, 20\]"),
        ({"lengths": (20, 4)}, "lengths must be at least the number of bins, 5, got 4; leave it out"),
    ],
    ids=["targets", "bins", "no length", "one twice", "short"],
)
def test_what_cannot_be_planted_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PlantConfig(**fields)  # type: ignore[arg-type]


def test_data_that_leaves_nothing_unrelated_is_refused(
    shop_store: EventStore, held_out: SampleSet, store_of: Callable[..., EventStore]
) -> None:
    counted = PROTOCOL.training_events(shop_store)
    with pytest.raises(
        DataError, match="of 45 behaviours need two users who have as many, the longest is of 44; choose"
    ):
        Planting(shop_store, held_out, counted, PlantConfig(lengths=(20, 45)))
    log = {user: [(3 * (1 + time % 4), time) for time in range(30)] for user in ("a", "b", "c")}
    one_category = store_of(log, name="one")
    taken = make_samples(one_category, SampleConfig(protocol=PROTOCOL, negatives_of="all"), "test")
    with pytest.raises(DataError, match=r"at least two categories must occur in training, .* has 1"):
        Planting(one_category, taken, np.ones(90, dtype=bool), PlantConfig(lengths=(20,)))
