"""Items by id, filters worked out by hand, and catalogues that are kept and read again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys.errors import StoreError
from recsys.metadata import FilterError, ItemFilter, ItemMetadata

Make = Callable[..., ItemMetadata]


def passing(metadata: ItemMetadata, **asked: Any) -> list[int]:
    settled = metadata.settled(ItemFilter(**asked))
    if settled is None:
        return metadata.item_ids.tolist()
    return metadata.item_ids[metadata.matching(settled)].tolist()


def test_many_items_at_once_and_what_is_missing_is_known_as_such(metadata: ItemMetadata) -> None:
    assert metadata.rows_of([[60, 15], [10, 5]]).tolist() == [[5, -1], [0, -1]]
    taken = metadata.take([60, 15, 10, 60], ["name", "price", "category"])
    assert taken["name"].to_list() == ["teapot", None, "oak bowl", "teapot"]
    assert taken["price"].to_list() == [80.0, None, 10.0, 80.0]
    assert taken["category"].to_list() == [["kitchen"], None, ["bowls", "kitchen"], ["kitchen"]]
    assert metadata.take(np.empty(0, dtype=np.int64), ["name"]).height == 0
    assert metadata.take([15], ["name", "tags"]).rows() == [(None, None)]


@pytest.mark.parametrize(
    ("asked", "items"),
    [
        ({}, [10, 20, 30, 40, 50, 60]),
        ({"max_price": 19.99}, [10, 20, 50]),
        ({"min_price": 19.99}, [20, 30, 60]),
        ({"min_price": 12.5, "max_price": 35}, [20, 30, 50]),
        ({"max_price": 20, "currency": "EUR"}, [10, 20, 50]),
        ({"in_stock": True}, [10, 30, 40]),
        ({"in_stock": False}, [10, 20, 30, 40, 50, 60]),
        ({"categories": ("kitchen",)}, [10, 20, 50, 60]),
        ({"categories": ("mugs", "scarves")}, [30, 50]),
        ({"categories": ("boats",)}, []),
        ({"columns": (("material", ("oak", "wool")),)}, [10, 20, 30]),
        ({"columns": (("material", ("oak",)), ("size", ("2", "3")))}, [20]),
        ({"columns": (("weight", ("12", "3.250")),)}, [20, 60]),
        ({"columns": (("weight", ("heavy",)),)}, []),
        ({"columns": (("eco", ("true",)),)}, [10, 30, 50]),
        ({"columns": (("tags", ("new", "sale")),)}, [10, 50, 60]),
        ({"columns": (("availability", ("in_stock", "preorder")),)}, [10, 30, 40, 60]),
        ({"columns": (("name", ("mug",)),), "in_stock": False}, [50]),
        ({"max_price": 20, "in_stock": True, "categories": ("kitchen",)}, [10]),
    ],
    ids=str,
)
def test_only_what_is_known_to_be_true_passes(metadata: ItemMetadata, asked: dict[str, Any], items: list[int]) -> None:
    assert passing(metadata, **asked) == items


def test_a_catalogue_may_want_only_what_is_in_stock_unless_told_otherwise(make_metadata: Make) -> None:
    metadata = make_metadata(only_in_stock=True)
    assert metadata.settled(None) == ItemFilter(in_stock=True)
    assert passing(metadata, max_price=50) == [10, 30]
    assert passing(metadata, max_price=50, in_stock=False) == [10, 20, 30, 50]
    assert metadata.settled(ItemFilter(in_stock=False)) is None


@pytest.mark.parametrize(
    ("asked", "field", "match"),
    [
        ({"max_price": 1, "currency": "USD"}, "currency", "got 'USD'; there is EUR"),
        ({"columns": (("colour", ("red",)),)}, "columns[0].column", r"got 'colour'; there is .*'material'"),
        ({"columns": (("size", ("1",)), ("price", ("1",)))}, "columns[1].column", "min_price and max_price"),
        ({"columns": (("item_id", ("1",)),)}, "columns[0].column", "got 'item_id'"),
    ],
    ids=["currency", "column", "price", "id"],
)
def test_what_cannot_be_filtered_by_is_told(
    metadata: ItemMetadata, asked: dict[str, Any], field: str, match: str
) -> None:
    with pytest.raises(FilterError, match=match) as caught:
        metadata.settled(ItemFilter(**asked))
    assert [problem.field for problem in caught.value.problems] == [field]


def test_all_that_is_wrong_is_told_at_once(make_metadata: Make, rows: dict[str, list[Any]]) -> None:
    rows["currency"] = ["EUR", "USD", "EUR", None, "EUR", "GBP"]
    rows["availability"] = [None] * 6
    several = make_metadata(rows)
    with pytest.raises(FilterError, match="has prices in EUR, GBP, USD; send one of them") as caught:
        several.settled(ItemFilter(max_price=5, in_stock=True, columns=(("colour", ("red",)),)))
    assert [problem.field for problem in caught.value.problems] == ["currency", "in_stock", "columns[0].column"]
    assert passing(several, max_price=50, currency="EUR") == [10, 30, 50]


def test_a_full_disk_is_told(metadata: ItemMetadata, tmp_path: Path) -> None:
    (tmp_path / "items.parquet").symlink_to("/dev/full")
    with pytest.raises(StoreError, match=r"items\.parquet cannot be written: .*No space left.*; make room and repeat"):
        metadata.save(tmp_path)


def test_what_is_saved_is_read_again(metadata: ItemMetadata, tmp_path: Path) -> None:
    metadata.save(tmp_path / "kept")
    read = ItemMetadata.load(tmp_path / "kept")
    assert read.frame.equals(metadata.frame)
    assert read.facts == metadata.facts
    facts = read.facts
    assert (facts.items, facts.priced, facts.availability_told, facts.in_stock) == (6, 5, 5, 3)
    assert read.facts.currencies == ("EUR",)
    assert read.facts.columns == ("material", "size", "weight", "eco", "tags")


def test_a_catalogue_of_nothing_knows_nothing(make_metadata: Make, rows: dict[str, list[Any]]) -> None:
    nothing = make_metadata({name: [] for name in rows if name not in ("size", "weight", "eco", "tags", "material")})
    assert nothing.rows_of([1, 2]).tolist() == [-1, -1]
    assert passing(nothing) == []


def _edit(directory: Path, **changes: Any) -> None:
    path = directory / "catalogue.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda d: (d / "catalogue.json").unlink(), "catalogue.json cannot be read"),
        (lambda d: (d / "catalogue.json").write_text("[]"), "catalogue.json cannot be read"),
        (lambda d: (d / "items.parquet").write_bytes(b"no"), "items.parquet cannot be read"),
        (lambda d: _edit(d, schema_version=9), "has schema 9, this release reads 1"),
        (lambda d: _edit(d, items=5), "expected 5 items"),
        (lambda d: _edit(d, columns=["material"]), "is not what catalogue.json beside it tells of"),
    ],
    ids=["no facts", "other facts", "no rows", "schema", "count", "columns"],
)
def test_what_is_damaged_is_told(
    metadata: ItemMetadata, tmp_path: Path, damage: Callable[[Path], object], match: str
) -> None:
    metadata.save(tmp_path)
    damage(tmp_path)
    with pytest.raises(StoreError, match=match):
        ItemMetadata.load(tmp_path)
