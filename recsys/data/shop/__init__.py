"""Generate a shop whose customers' interests return after long: data to try, test and measure everything with."""

from recsys.data.shop.catalogue import CATALOGUE_FILE, shop_catalogue, write_shop_catalogue
from recsys.data.shop.config import ShopConfig, demo_shop, taobao_scale
from recsys.data.shop.generate import build_shop, shop_batches, write_taobao_csv
from recsys.data.shop.optimum import optimal_probabilities, recurring_config_of
from recsys.data.shop.recurring import RecurringConfig

__all__ = [
    "CATALOGUE_FILE",
    "RecurringConfig",
    "ShopConfig",
    "build_shop",
    "demo_shop",
    "optimal_probabilities",
    "recurring_config_of",
    "shop_batches",
    "shop_catalogue",
    "taobao_scale",
    "write_shop_catalogue",
    "write_taobao_csv",
]
