"""What a generated shop tells of its items, as a shop would hand it over: names, categories, prices, availability."""

from pathlib import Path

import numpy as np
import polars as pl

from recsys.data.shop.assortment import Assortment, item_ids
from recsys.data.shop.config import ShopConfig
from recsys.data.shop.names import category_names, item_names, materials
from recsys.data.shop.recurring import RecurringConfig

CATALOGUE_FILE = "catalogue.parquet"
"""Its name beside the events of the shop."""
_CURRENCY = "EUR"
_DEAREST, _CHEAPEST = 90.0, 6.0
"""Of a category's usual price."""
_AVAILABILITIES = ("in_stock", "out_of_stock", "preorder", "backorder")
_SHARES = (0.92, 0.05, 0.01, 0.02)
_ENDINGS = np.array([0.0, 0.5, 0.9, 0.95])


def shop_catalogue(config: ShopConfig | RecurringConfig) -> pl.DataFrame:
    """A row an item, those that nobody ever looked at among them: item, name, category, material, price, currency and
    availability; items as in the shop's log. Shops without names have numbers, and no materials."""
    assortment = Assortment.of(config)
    generator = np.random.default_rng([config.seed, 7])
    item = np.arange(config.items)
    category = assortment.category_of(item)
    taste = (item - assortment.begins[category]) % assortment.tastes[category]
    # A price is that of the category, more or less by the material, and a little by the item.
    usual = np.exp(generator.uniform(np.log(_CHEAPEST), np.log(_DEAREST), config.categories))
    dearness = generator.lognormal(0.0, 0.35, (config.categories, int(assortment.tastes.max())))
    exact = usual[category] * dearness[category, taste] * generator.lognormal(0.0, 0.15, config.items)
    price = np.floor(np.maximum(exact, 1.0)) + generator.choice(_ENDINGS, config.items)
    availability = generator.choice(np.array(_AVAILABILITIES), config.items, p=_SHARES)
    columns = {
        "item": pl.Series(item_ids(config, item)),
        "category": pl.Series(category + 1).cast(pl.String),
        "price": pl.Series(price.round(2)),
        "currency": pl.Series([_CURRENCY]).new_from_index(0, config.items),
        "availability": pl.Series(availability),
    }
    if config.named:
        names = pl.Series(item_names(assortment))
        columns |= {
            "item": names,
            "name": names,
            "category": pl.Series(category_names(config.categories)).gather(category),
            "material": pl.Series(materials(assortment)),
        }
    return pl.DataFrame(columns)


def write_shop_catalogue(config: ShopConfig | RecurringConfig, directory: Path) -> Path:
    """Write it into `directory`, whole or not at all; its path."""
    path = directory / CATALOGUE_FILE
    partial = path.with_name(f".{path.name}.partial")
    shop_catalogue(config).write_parquet(partial)
    partial.replace(path)
    return path
