"""Samples: which events are targets, what they see, and that nothing they see is later than they are."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys.data.event_store import EventStore
from recsys.data.negatives import draw_negatives
from recsys.data.protocols import SPLITS, LeaveLastOut, TimeSplit
from recsys.data.samples import SampleConfig, make_samples
from recsys.errors import ConfigError, DataError

StoreOf = Callable[..., EventStore]
SHORT = LeaveLastOut(min_events=6, train_first=3, train_last=5, train_stride=2)


_NUMBERS = itertools.count()


def config(**changes: object) -> SampleConfig:
    return SampleConfig(**{"protocol": SHORT, "negatives": 1, **changes})  # type: ignore[arg-type]


def line(*rows: int, start: int = 0) -> list[tuple[int, int]]:
    """Events one second apart."""
    return [(row, 1_000 * (start + at)) for at, row in enumerate(rows)]


def test_published_protocol_takes_every_fifth_from_the_third_last() -> None:
    protocol = LeaveLastOut()
    store = type("Store", (), {"offsets": np.array([0, 209, 419])})()
    assert protocol.targets(store, "test").tolist() == [418]
    assert protocol.targets(store, "validation").tolist() == [417]
    assert protocol.targets(store, "train").tolist() == [419 - back for back in range(93, 2, -5)]


def test_leave_last_out_by_hand(store_of: StoreOf) -> None:
    store = store_of({"a": line(1, 2, 3), "b": line(4, 5, 6, 7, 8, 9, 10)})
    train, validation, test = (make_samples(store, config(), split) for split in SPLITS)
    assert [train.targets[:, 0].tolist(), validation.targets[:, 0].tolist(), test.targets[:, 0].tolist()] == [
        [6, 8],
        [9],
        [10],
    ]
    assert [store.items[begin:end].tolist() for begin, end in zip(train.begins, train.ends, strict=True)] == [
        [4, 5],
        [4, 5, 6, 7],
    ]
    assert test.times.tolist() == [6_000]
    assert train.labels.tolist() == [[1, 0], [1, 0]]


def test_time_split_by_hand(store_of: StoreOf) -> None:
    protocol = TimeSplit(validation_from_ms=4_000, test_from_ms=6_000, min_events=5, min_history=1, train_stride=2)
    store = store_of({"a": line(1, 2, 3, 4, 5, 6, 7, 8), "b": line(9, 10)})
    targets = {split: make_samples(store, config(protocol=protocol), split).targets[:, 0].tolist() for split in SPLITS}
    # Training targets are events 1, 2, 3 (items 2, 3, 4), of which every second is used; user b is too short.
    assert targets == {"train": [2, 4], "validation": [5, 6], "test": [7, 8]}


def test_history_is_cut_to_the_latest(store_of: StoreOf) -> None:
    store = store_of({"a": line(1, 2, 3, 4, 5, 6, 7), "b": line(8, 9, 10)})
    test = make_samples(store, config(max_history=2), "test")
    assert store.items[test.begins[0] : test.ends[0]].tolist() == [5, 6]


def test_a_history_never_reaches_into_the_user_before(store_of: StoreOf) -> None:
    store = store_of({"a": line(1, 2, 3, 4, 5, 6), "b": line(11, 12, 13, 14, 15, 16)})
    samples = make_samples(store, config(), "train")
    for user, begin in zip(samples.users, samples.begins, strict=True):
        assert begin >= store.offsets[user]


@pytest.mark.parametrize(
    ("same_time", "expected"),
    [pytest.param("order", [1, 2, 3, 4, 5], id="order"), pytest.param("exclude", [1, 2, 3], id="exclude")],
)
def test_events_of_the_targets_own_time(store_of: StoreOf, same_time: str, expected: list[int]) -> None:
    store = store_of({"a": [(1, 1), (2, 2), (3, 3), (4, 9), (5, 9), (6, 9)], "b": line(8, 9, 10)})
    test = make_samples(store, config(same_time=same_time), "test")
    assert store.items[test.begins[0] : test.ends[0]].tolist() == expected


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(6, 40), min_size=1, max_size=5), days=st.integers(1, 12), seed=st.integers(0, 2**16)
)
def test_a_history_ends_before_the_first_event_of_the_targets_time(
    store_of: StoreOf, lengths: list[int], days: int, seed: int
) -> None:
    """Against going back one event at a time; users who follow one another begin and end with the same times."""
    generator = np.random.default_rng(seed)
    log = {
        f"u{user}": [(1 + at % 9, int(day)) for at, day in enumerate(np.sort(generator.integers(0, days, length)))]
        for user, length in enumerate(lengths)
    } | {"z": line(*range(20, 30))}
    store = store_of(log, name=f"store-{next(_NUMBERS)}")
    protocol = LeaveLastOut(min_events=6, train_first=3, train_last=5, train_stride=1)
    for split in SPLITS:
        positives = protocol.targets(store, split)
        samples = make_samples(store, config(protocol=protocol, same_time="exclude"), split)
        for positive, user, end in zip(positives, samples.users, samples.ends, strict=True):
            expected = int(positive)
            while expected > store.offsets[user] and store.times[expected - 1] == store.times[positive]:
                expected -= 1
            assert end == expected


class Counted:
    """Times that count how often they are read."""

    def __init__(self, times: np.ndarray) -> None:
        self.times, self.reads = times, 0

    def __getitem__(self, index: object) -> np.ndarray:
        self.reads += 1
        return self.times[index]


def test_a_day_of_many_events_is_not_gone_through_one_by_one(
    store_of: StoreOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of({"a": [(1 + at % 9, 5) for at in range(4_000)], "b": line(*range(20, 30))})
    counted = Counted(store.times)
    monkeypatch.setattr(store, "times", counted)
    samples = make_samples(store, config(negatives_of="all"), "test")
    assert (samples.begins[0], samples.ends[0]) == (0, 0)
    assert counted.reads < 20


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), same_time=st.sampled_from(["order", "exclude"]))
def test_nothing_seen_is_later_than_the_target(store_of: StoreOf, data: st.DataObject, same_time: str) -> None:
    log = {
        f"u{user}": sorted(
            data.draw(
                st.lists(st.tuples(st.integers(1, 9), st.integers(0, 12)), min_size=6, max_size=14), label=f"u{user}"
            ),
            key=lambda event: event[1],
        )
        for user in range(3)
    } | {"other": line(*range(20, 30))}
    store = store_of(log, name=f"store-{next(_NUMBERS)}")
    for split in SPLITS:
        samples = make_samples(store, config(same_time=same_time), split)
        for begin, end, time, user in zip(samples.begins, samples.ends, samples.times, samples.users, strict=True):
            seen = store.times[begin:end]
            assert store.offsets[user] <= begin <= end <= store.offsets[user + 1]
            assert (seen < time).all() if same_time == "exclude" else (seen <= time).all()


def test_negatives_are_never_touched_and_follow_popularity(store_of: StoreOf) -> None:
    store = store_of({"a": line(1, 2, 3, 4, 5, 6), "b": line(*([7] * 8 + [8] * 2), start=50)})
    frequency = np.zeros(51, dtype=np.int64)
    frequency[[1, 7, 8]] = [5, 30, 10]
    users = np.zeros(8_000, dtype=np.int64)
    drawn = draw_negatives(store, users, frequency, 1, np.random.default_rng(3))
    assert set(drawn.ravel().tolist()) == {7, 8}, "user a touched 1"
    assert (drawn == 7).mean() == pytest.approx(0.75, abs=0.02)


def test_negatives_of_all_items_follow_popularity_whoever_touched_them(store_of: StoreOf) -> None:
    touched = [1] * 20 + [2] * 10 + [3] * 2
    store = store_of({"a": line(*touched), "b": line(*([4] * 8 + [1] * 2), start=50)})
    protocol = LeaveLastOut(min_events=10, train_first=3, train_last=9, train_stride=1)
    samples = config(protocol=protocol, negatives=4_000, negatives_of="all")
    for split in SPLITS:
        drawn = make_samples(store, samples, split).targets[:, 1:]
        # Of the 38 events of training 20 are of item 1, 10 of 2, 8 of 4; those held out are of 3 and 1.
        shares = np.bincount(drawn.ravel(), minlength=5) / drawn.size
        assert shares.tolist() == pytest.approx([0, 20 / 38, 10 / 38, 0, 8 / 38], abs=0.03), split


def test_samples_follow_from_the_seed(shop_store: EventStore) -> None:
    first, again, other = (make_samples(shop_store, config(seed=seed), "train").targets for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(first[:, 0], other[:, 0]), "positives do not depend on the seed"


def test_a_user_who_touched_everything_is_named(store_of: StoreOf) -> None:
    store = store_of({"a": line(1, 2, 3, 1, 2, 3)}, items=3)
    with pytest.raises(DataError, match="user 'a' touched so many items"):
        make_samples(store, config(), "train")


def test_a_protocol_that_matches_nothing_says_so(store_of: StoreOf) -> None:
    store = store_of({"a": line(1, 2, 3)})
    with pytest.raises(DataError, match=r"no test targets in .* lower thresholds"):
        make_samples(store, config(), "test")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda: LeaveLastOut(min_events=10), "train_last < min_events", id="leave-last-out"),
        pytest.param(lambda: LeaveLastOut(train_stride=0), "train_stride must be at least 1", id="stride"),
        pytest.param(lambda: TimeSplit(validation_from_ms=5, test_from_ms=5), "must be before", id="time-split"),
        pytest.param(lambda: config(max_history=0), "max_history must be at least 1", id="history"),
        pytest.param(lambda: config(negatives=0), "negatives must be at least 1", id="negatives"),
        pytest.param(lambda: config(negatives_of="some"), "negatives_of must be", id="negatives-of"),
        pytest.param(lambda: config(same_time="drop"), "same_time must be", id="same-time"),
        pytest.param(lambda: config(seed=-1), "seed must be at least 0", id="negative-seed"),
        pytest.param(lambda: config(seed=2**63), r"below 2\*\*63", id="large-seed"),
    ],
)
def test_configurations_that_cannot_work(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
