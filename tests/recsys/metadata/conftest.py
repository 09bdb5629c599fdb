"""A catalogue of six items, small enough to be filtered by hand."""

from typing import Any

import polars as pl
import pytest

from recsys.metadata import CatalogueFacts, ItemMetadata
from recsys.metadata.items import STANDARD

ROWS: dict[str, list[Any]] = {
    "item_id": [10, 20, 30, 40, 50, 60],
    "item_key": [None] * 6,
    "name": ["oak bowl", "oak tray", "wool scarf", None, "mug", "teapot"],
    "category": [["bowls", "kitchen"], ["kitchen"], ["scarves"], None, ["kitchen", "mugs"], ["kitchen"]],
    "image": ["a.jpg", None, None, None, None, None],
    "price": [10.0, 19.99, 35.0, None, 12.5, 80.0],
    "currency": ["EUR", "EUR", "EUR", None, "EUR", "EUR"],
    "availability": ["in_stock", "out_of_stock", "in_stock", "in_stock", None, "preorder"],
    "material": ["oak", "oak", "wool", None, "clay", "clay"],
    "size": [1, 2, 3, None, 5, 6],
    "weight": [0.5, 12.0, 2.0, 1.0, None, 3.25],
    "eco": [True, False, True, None, True, False],
    "tags": [["new", "gift"], ["gift"], [], None, ["sale"], ["new"]],
}


def metadata_of(rows: dict[str, list[Any]] = ROWS, *, only_in_stock: bool = False) -> ItemMetadata:
    frame = pl.DataFrame(rows, schema_overrides={name: dtype for name, dtype in STANDARD.items() if name in rows})
    facts = CatalogueFacts.of(frame, only_in_stock=only_in_stock, source={"path": "by hand"})
    return ItemMetadata(frame, facts)


@pytest.fixture
def metadata() -> ItemMetadata:
    return metadata_of()


@pytest.fixture
def make_metadata() -> Any:
    return metadata_of


@pytest.fixture
def rows() -> dict[str, list[Any]]:
    return dict(ROWS)
