"""A generated shop's catalogue fits its log, is the same every time, and is imported as it is."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recsys.data.event_store import EventStore
from recsys.data.shop import CATALOGUE_FILE, ShopConfig, build_shop, shop_catalogue, taobao_scale
from recsys.metadata.importing import ImportOptions, import_catalogue

SHOP = ShopConfig(users=60, items=600, categories=50, mean_events=60, days=30, seed=3)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("shop") / "store"
    build_shop(SHOP, directory)
    return directory


def test_every_item_of_the_log_is_in_it_with_the_log_s_name_and_category(directory: Path) -> None:
    vocabulary = EventStore(directory).catalogue
    metadata = import_catalogue(directory / CATALOGUE_FILE, ImportOptions()).metadata
    assert len(metadata) == SHOP.items
    ids = vocabulary.item_ids[1:]
    assert 100 < len(ids) < SHOP.items  # what nobody looked at is in the catalogue alone
    assert (metadata.rows_of(ids) >= 0).all()
    taken = metadata.take(ids, ["name", "category"])
    assert taken["name"].to_list() == [vocabulary.name_of(each) for each in ids]
    assert taken["category"].list.join("").to_list() == [vocabulary.category_name_of(each) for each in ids]


def test_prices_and_availability_are_those_of_a_shop(directory: Path) -> None:
    frame = pl.read_parquet(directory / CATALOGUE_FILE)
    assert frame["price"].min() >= 1
    assert 5 < frame["price"].median() < 100
    of_category = frame.group_by("category").agg(pl.col("price").median())
    assert of_category["price"].max() > 4 * of_category["price"].min()
    shares = dict(frame["availability"].value_counts(normalize=True).rows())
    assert set(shares) == {"in_stock", "out_of_stock", "preorder", "backorder"}
    assert 0.85 < shares["in_stock"] < 0.97
    ends = frame.select(pl.col("name").str.contains(pl.col("material"), literal=True))
    assert ends["name"].all()


def test_equal_seeds_give_equal_catalogues(directory: Path) -> None:
    kept = pl.read_parquet(directory / CATALOGUE_FILE)
    assert shop_catalogue(SHOP).equals(kept)
    other = shop_catalogue(replace(SHOP, seed=4))
    assert not np.array_equal(other["price"].to_numpy(), kept["price"].to_numpy())


def test_a_shop_without_names_has_numbers() -> None:
    config = replace(taobao_scale(), items=120_000, categories=300)
    frame = shop_catalogue(config)
    assert frame.columns == ["item", "category", "price", "currency", "availability"]
    assert frame["item"].sort().to_list() == list(range(1, 120_001))
