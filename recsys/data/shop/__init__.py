"""Generate a shop whose customers' interests return after long: data to try, test and measure everything with."""

from recsys.data.shop.config import ShopConfig, demo_shop, taobao_scale
from recsys.data.shop.generate import build_shop, shop_batches, write_taobao_csv

__all__ = ["ShopConfig", "build_shop", "demo_shop", "shop_batches", "taobao_scale", "write_taobao_csv"]
