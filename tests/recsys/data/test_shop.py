"""A generated shop is deterministic, readable, and its old behaviours matter: independent draws would fail here."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from recsys.data.event_store import EventStore
from recsys.data.ingest import ingest
from recsys.data.shop import ShopConfig, build_shop, demo_shop, shop_batches, taobao_scale, write_taobao_csv
from recsys.data.shop.assortment import Assortment, item_ids
from recsys.data.shop.names import category_names, item_names
from recsys.errors import ConfigError

RECENT = 50


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    directory = tmp_path_factory.mktemp("shop") / "demo"
    build_shop(demo_shop(), directory)
    return EventStore(directory)


@pytest.fixture(scope="module")
def targets(store):
    """(begin of the user, position) of every eleventh event with at least 150 earlier ones."""
    spans = zip(store.offsets[:-1].tolist(), store.offsets[1:].tolist(), strict=True)
    return [(begin, at) for begin, end in spans for at in range(begin + 150, end, 11)]


def share(targets, hit):
    return sum(map(hit, targets)) / len(targets)


def test_the_demo_shop_is_of_the_promised_size(store):
    lengths = np.diff(store.offsets)
    assert store.n_users == 1200
    assert 1800 <= store.catalogue.n_items <= 2000
    assert store.catalogue.n_categories == 40
    assert 240 <= lengths.mean() <= 280
    assert (lengths >= 210).sum() >= 600
    assert lengths.max() > 3 * lengths.mean() > 6 * lengths.min()


def test_popularity_has_a_long_tail(store):
    counts = np.sort(np.bincount(store.items, minlength=store.catalogue.n_items + 1)[1:])[::-1]
    assert counts[: len(counts) // 10].sum() / counts.sum() > 0.38
    sizes = np.bincount(store.catalogue.category_rows[1:])[1:]
    assert sizes.max() > 8 * sizes.min()


def test_old_behaviours_tell_the_category_better_than_popularity(store, targets):
    category = store.catalogue.category_rows[store.items]
    popular = set(np.argsort(-np.bincount(category))[:5].tolist())

    def told_by_old(target):
        begin, at = target
        counts = np.bincount(category[begin : at - RECENT], minlength=41)
        return category[at] in np.argsort(-counts, kind="stable")[:5]

    by_popularity = share(targets, lambda target: category[target[1]] in popular)
    assert share(targets, told_by_old) > by_popularity + 0.2


def test_old_behaviours_tell_the_item_better_than_recent_ones(store, targets):
    items = store.items
    in_old = share(targets, lambda t: items[t[1]] in items[t[0] : t[1] - RECENT])
    in_recent = share(targets, lambda t: items[t[1]] in items[t[1] - RECENT : t[1]])
    only_in_old = share(
        targets,
        lambda t: items[t[1]] in items[t[0] : t[1] - RECENT] and items[t[1]] not in items[t[1] - RECENT : t[1]],
    )
    assert in_old > in_recent + 0.15
    assert only_in_old > 0.2


def test_the_right_old_behaviours_are_those_of_the_targets_category(store, targets):
    """Among users' old behaviours, those of the target's category hold its item far more often than as many others."""
    items, category = store.items, store.catalogue.category_rows[store.items]

    def hits(same):
        def hit(target):
            begin, at = target
            old = slice(begin, at - RECENT)
            of_kind = items[old][(category[old] == category[at]) == same]
            return items[at] in of_kind[-20:]

        return share(targets, hit)

    assert hits(same=True) > 0.4
    assert hits(same=False) == 0


def test_interests_sleep_and_return(store):
    """The gap, in events, between successive events of one category: mostly none, but often longer than fifty."""
    category = store.catalogue.category_rows[store.items]
    gaps = []
    for user in range(0, store.n_users, 10):
        own = category[store.history(user)]
        gaps += [np.diff(np.flatnonzero(own == row)) for row in np.unique(own)]
    gaps = np.concatenate(gaps)
    assert (gaps == 1).mean() > 0.4
    assert (gaps > RECENT).mean() > 0.05


def test_favourites_are_returned_to(store):
    """Half of a user's events are on items that he had before; shuffling events among users would end that."""

    def repeats(items):
        spans = zip(store.offsets[:-1], store.offsets[1:], strict=True)
        return 1 - sum(len(np.unique(items[begin:end])) for begin, end in spans) / len(items)

    shuffled = np.random.default_rng(0).permutation(store.items)
    assert repeats(store.items) > repeats(shuffled) + 0.25


def test_sessions_and_week(store):
    same_user = np.repeat(np.arange(store.n_users), np.diff(store.offsets))
    gap_s = np.diff(store.times)[np.diff(same_user) == 0] / 1000
    assert (gap_s >= 0).all()
    assert 0.6 < (gap_s < 600).mean() < 0.9
    weekday = (store.times // 86_400_000 + 3) % 7
    per_day = np.bincount(weekday, minlength=7)
    assert per_day[5:].mean() > 1.3 * per_day[:5].mean()
    start = demo_shop().start_ms
    assert start <= store.times.min()
    assert store.times.max() < start + 731 * 86_400_000


def test_equal_seeds_give_equal_shops():
    small = replace(demo_shop(), users=300, users_per_chunk=128)
    first, again = pl.concat(shop_batches(small)), pl.concat(shop_batches(small))
    assert first.equals(again)
    assert not first.equals(pl.concat(shop_batches(replace(small, seed=1))))
    assert first["row"].to_list() == list(range(1, first.height + 1))
    assert first["user"].n_unique() == 300


def test_names_can_be_read_and_differ():
    assortment = Assortment.of(demo_shop())
    names = item_names(assortment)
    assert len(set(names)) == len(names) == 2000
    assert len(set(category_names(100))) == 100
    products = category_names(40)
    rows = assortment.category_of(np.arange(2000))
    assert all(name.endswith(products[row]) for name, row in zip(names, rows.tolist(), strict=True))
    assert any(name == "walnut salad bowl" for name in names)


@pytest.mark.parametrize(
    ("items", "categories", "tastes"), [(5000, 1, 6), (90_000, 60, 6), (400, 60, 9), (7, 7, 6)], ids=str
)
def test_names_differ_in_shops_of_any_shape(items, categories, tastes):
    config = ShopConfig(users=1, items=items, categories=categories, mean_events=1, days=1, tastes=tastes)
    names = item_names(Assortment.of(config))
    assert len(set(names)) == len(names) == items


@pytest.mark.parametrize("items", [1, 2, 3, 10, 1000, 4_000_000 // 1000])
def test_numbers_are_a_permutation(items):
    config = ShopConfig(users=1, items=items, categories=1, mean_events=1, days=1, seed=3)
    assert sorted(item_ids(config, np.arange(items)).tolist()) == list(range(1, items + 1))


def test_every_item_of_every_category_can_be_drawn():
    config = ShopConfig(users=1, items=60, categories=5, mean_events=1, days=1)
    assortment, generator = Assortment.of(config), np.random.default_rng(0)
    category = generator.integers(0, 5, 50_000)
    taste = generator.integers(0, config.tastes, 50_000)
    item = assortment.item_by_popularity(category, taste, generator.random(50_000))
    assert np.array_equal(assortment.category_of(item), category)
    assert len(np.unique(item)) == 60
    assert assortment.begins[-1] == 60


@pytest.mark.parametrize(
    "config",
    [
        ShopConfig(users=1, items=1, categories=1, mean_events=1, days=1),
        ShopConfig(users=3, items=2, categories=2, mean_events=400, days=2, interests=1),
    ],
    ids=["the smallest", "narrow"],
)
def test_tiny_shops(tmp_path, config):
    report = build_shop(config, tmp_path / "s")
    assert report.rows_kept == report.rows_read > 0
    assert report.n_users == config.users


def test_the_taobao_log_is_the_same_shop(tmp_path):
    config = replace(taobao_scale(), users=500, items=3000, categories=50)
    lines = write_taobao_csv(config, tmp_path / "log.csv")
    report = ingest("taobao", tmp_path / "log.csv", tmp_path / "a")
    assert (report.rows_kept, report.rows_rejected, report.n_users) == (lines, 0, 500)
    assert report.items_with_several_categories == 0
    assert not config.named or config.items <= 100_000
    assert 60 * 500 < lines < 140 * 500


def test_large_shops_have_numbers(tmp_path):
    config = replace(taobao_scale(), users=50)
    assert not config.named
    build_shop(config, tmp_path / "s")
    write_taobao_csv(config, tmp_path / "log.csv")
    ingest("taobao", tmp_path / "log.csv", tmp_path / "t")
    direct, logged = EventStore(tmp_path / "s"), EventStore(tmp_path / "t")
    assert np.array_equal(direct.offsets, logged.offsets)
    assert np.array_equal(direct.catalogue.item_ids, logged.catalogue.item_ids)
    assert np.array_equal(direct.times // 1000, logged.times // 1000)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"users": 0}, "users must be at least 1"),
        ({"categories": 3000}, "categories must be at most items"),
        ({"mean_session": 0.5}, "mean_session"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"repeat_share": 0.95}, "sum to at most 1"),
        ({"popularity_exponent": 1.0}, "not 1"),
    ],
)
def test_shops_that_cannot_be(change, message):
    with pytest.raises(ConfigError, match=message):
        replace(demo_shop(), **change)
