"""Mutual information of behaviour and label: by hand, by brute force, and at its edges."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from recsys.data.event_store import EventStore
from recsys.data.protocols import LeaveLastOut
from recsys.data.samples import SampleConfig, SampleSet, make_samples
from recsys.diagnosis import relevance
from recsys.diagnosis.relevance import (
    RelevanceConfig,
    count_relevance,
    information_of,
    mutual_information,
    speaks_for,
)
from recsys.errors import ConfigError, DataError


def information(positive: int, negative: int, all_positive: int, all_negative: int) -> float:
    return float(mutual_information(*(np.array(count) for count in (positive, negative, all_positive, all_negative))))


def test_mutual_information_by_hand() -> None:
    assert information(10, 0, 10, 10) == pytest.approx(1), "the category says the label"
    assert information(0, 10, 10, 10) == pytest.approx(1), "or its opposite"
    assert information(3, 6, 10, 20) == pytest.approx(0, abs=1e-12), "as often beside both"
    # Y is a fair coin; given X, in either of its two equally frequent values, the odds are 3 : 1.
    assert information(3, 1, 4, 4) == pytest.approx(1 + 0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    # Half of the positives and none of the negatives have it: H(Y) − P(X = 0)·H(Y | X = 0).
    given_none = -(1 / 3) * math.log2(1 / 3) - (2 / 3) * math.log2(2 / 3)
    assert information(5, 0, 10, 10) == pytest.approx(1 - 0.75 * given_none)


@pytest.mark.parametrize(
    "counts", [(0, 0, 0, 0), (0, 0, 5, 5), (5, 5, 5, 5), (5, 0, 5, 0), (0, 0, 0, 7)], ids=lambda counts: str(counts)
)
def test_what_is_always_so_says_nothing(counts: tuple[int, int, int, int]) -> None:
    assert information(*counts) == 0


def test_counts_by_hand(store_of: Callable[..., EventStore], samples: Callable[..., SampleSet]) -> None:
    # Categories are row % 3 + 1: items 1, 2, 3, 4 are of 2, 3, 1, 2.
    store = store_of({"a": [(1, 1), (2, 2), (4, 3)], "b": [(3, 1), (3, 2), (1, 3)]})
    taken = samples((0, 0, 2, [4, 3]), (1, 3, 5, [1, 2]))
    found = count_relevance(store, taken, RelevanceConfig(bins=(1, 2), min_samples=1))
    assert found.categories.tolist() == [2, 1, 3], "most samples first, then by row"
    assert found.samples.tolist() == [2, 1, 1]
    assert found.place.tolist() == [-1, 1, 0, 2]
    expected = np.zeros((3, 4, 2, 2), dtype=int)
    expected[0, 3, 0, 1] += 1  # a's positive is of 2: item 2 of category 3 lies at position 1, item 1 of 2 at 2
    expected[0, 2, 1, 1] += 1
    expected[1, 3, 0, 0] += 1  # its negative is of 1
    expected[1, 2, 1, 0] += 1
    expected[0, 1, :, 1] += 1  # b's positive is of 2, both behaviours are of 1
    expected[2, 1, :, 0] += 1
    assert found.counts.tolist() == expected.tolist()
    assert found.halves[0].sum() == found.halves[1].sum() == 4, "every other user"
    assert speaks_for(found.counts)[0, 1].tolist() == [False, False], "no negative of 2 to compare with"


def test_counts_as_loops_count(shop_store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    protocol = LeaveLastOut(min_events=20, train_first=3, train_last=18, train_stride=2)
    taken = make_samples(shop_store, SampleConfig(protocol=protocol, max_history=9), "train")
    config = RelevanceConfig(bins=(1, 3, 4), min_samples=300)
    found = count_relevance(shop_store, taken, config)
    category, expected = shop_store.catalogue.category_rows, Counter[tuple[int, int, int, int]]()
    for group in range(len(taken)):
        history = shop_store.items[taken.begins[group] : taken.ends[group]][::-1]
        for target, label in zip(taken.targets[group], taken.labels[group], strict=True):
            for position, item in enumerate(history, start=1):
                bin_ = 0 if position < 3 else 1 if position < 4 else 2
                expected[category[target], category[item], bin_, label] += 1
    for row, target in enumerate(found.categories):
        for cell in np.ndindex(found.counts.shape[1:]):
            assert found.counts[row][cell] == expected[target, *cell]
    monkeypatch.setattr(relevance, "_AT_ONCE", 50)
    assert np.array_equal(count_relevance(shop_store, taken, config).counts, found.counts), "however many at once"
    most = int(found.samples.max())
    with pytest.raises(DataError, match=rf"has {most + 1} training samples in .*the most is {most}; lower --min-samp"):
        count_relevance(shop_store, taken, replace(config, min_samples=most + 1))


def test_only_the_commonest_categories_are_counted_where_memory_is_short(
    shop_store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    protocol = LeaveLastOut(min_events=20, train_first=3, train_last=18)
    taken = make_samples(shop_store, SampleConfig(protocol=protocol), "train")
    everything = count_relevance(shop_store, taken, RelevanceConfig(bins=(1,), min_samples=1))
    assert len(everything.categories) == 3
    monkeypatch.setattr(relevance, "_MOST_CELLS", 2 * 4 * 2)
    some = count_relevance(shop_store, taken, RelevanceConfig(bins=(1,), min_samples=1))
    assert some.categories.tolist() == everything.categories[:2].tolist()
    assert np.array_equal(some.counts, everything.counts[:2])


def test_information_is_that_of_each_cell() -> None:
    counts = np.random.default_rng(0).integers(0, 30, size=(2, 5, 3, 2))
    totals = counts.sum(axis=1)
    for cell in np.ndindex(2, 5, 3):
        row, _, position = cell
        negative, positive = (int(count) for count in counts[cell])
        of_any = (int(totals[row, position, 1]), int(totals[row, position, 0]))
        assert information_of(counts)[cell] == pytest.approx(information(positive, negative, *of_any), abs=1e-6)
        rate, mean = positive / (positive + negative), of_any[0] / sum(of_any)
        assert speaks_for(counts)[cell] == (rate > mean)


def test_bins_have_names_and_hold_their_positions() -> None:
    config = RelevanceConfig(bins=(1, 2, 6))
    assert config.bin_names() == ["1", "2–5", "6–"]
    assert config.bin_of(np.array([1, 2, 5, 6, 900])).tolist() == [0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bins": ()}, r"begin with 1, got \[\]"),
        ({"bins": (2, 5)}, r"begin with 1, got \[2, 5\]"),
        ({"bins": (1, 5, 5)}, r"ascending positions"),
        ({"min_samples": 0}, "min_samples must be at least 1, got 0"),
        ({"min_count": -1}, "min_count must be at least 1, got -1"),
    ],
    ids=["none", "later", "twice", "samples", "count"],
)
def test_what_cannot_be_counted_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RelevanceConfig(**fields)  # type: ignore[arg-type]
