"""The items of UCI Online Retail (Chen, 2015), which has no catalogue of its own: what its sales tell of them."""

from pathlib import Path

import polars as pl

from recsys.data.sources.canonical import ROW_COLUMN
from recsys.data.sources.files import require_columns
from recsys.data.sources.online_retail import OnlineRetailOptions, open_online_retail, scan_online_retail

_PRICES = ("Price", "UnitPrice")
"""What Online Retail II and Online Retail call it."""


def online_retail_items(path: Path) -> pl.DataFrame:
    """item (the description, as in the event log), name, category (its last word), price, and stock_code if told.

    The price is that of the latest sale that has one, in pounds. A row's number is that sale's. SourceError: the file
    is another one.
    """
    sales = open_online_retail(path, OnlineRetailOptions()).filter(pl.col("reason").is_null())
    frame, found, _ = scan_online_retail(path)
    if not set(_PRICES) & set(found):
        require_columns(path, "UCI Online Retail with prices", found, [_PRICES[-1]], "add the prices")
    price = next(pl.col(name) for name in _PRICES if name in found)
    codes = [pl.col("StockCode").cast(pl.String).alias("stock_code")] if "StockCode" in found else []
    told = frame.select(
        pl.col(ROW_COLUMN).cast(pl.Int64).alias("row"), price.cast(pl.Float64, strict=False).alias("price"), *codes
    )
    latest = (
        sales.join(told, on="row", how="left")
        .with_columns(pl.when(pl.col("price") > 0).then(pl.col("price")))
        # A sale with a price comes before any without.
        .sort(pl.col("price").is_not_null(), "time_ms", "row", descending=True)
        .unique("item", keep="first", maintain_order=True)
        .sort("row")
    )
    return latest.select(
        pl.col("row").alias(ROW_COLUMN),
        "item",
        pl.col("item").alias("name"),
        "category",
        "price",
        *(["stock_code"] if codes else []),
    ).collect()
