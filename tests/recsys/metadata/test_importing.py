"""Catalogues as shops have them: what is read, what is turned away and with which remedy."""

import json
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from recsys.data.catalogue import key_to_id
from recsys.errors import ConfigError, SourceError
from recsys.metadata import ItemMetadata
from recsys.metadata.importing import ImportedCatalogue, ImportOptions, import_catalogue

Read = Callable[..., ImportedCatalogue]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Read lines of a CSV, or columns of a Parquet file."""

    def make(content: str | bytes | dict[str, Any], **options: Any) -> ImportedCatalogue:
        path = tmp_path / "catalogue.file"
        if isinstance(content, str):
            path.write_text(content)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            pl.DataFrame(content).write_parquet(path)
        return import_catalogue(path, ImportOptions(**options))

    return make


def column(read: ImportedCatalogue, name: str) -> list[Any]:
    return read.metadata.frame[name].to_list()


def test_a_csv_with_columns_called_as_ours(read: Read) -> None:
    found = read(
        "item_id,name,category,image,price,currency,availability,brand\n"
        "7, oak bowl ,bowls,a.jpg,12.50,eur,in_stock,Acme\n"
        '3,"tray, large",,,,,,\n'
    )
    assert (found.rows, found.bad.height, found.left_out) == (2, 0, ())
    assert column(found, "item_id") == [3, 7]
    assert column(found, "name") == ["tray, large", "oak bowl"]
    assert column(found, "category") == [None, ["bowls"]]
    assert column(found, "image") == [None, "a.jpg"]
    assert column(found, "price") == [None, 12.5]
    assert column(found, "currency") == [None, "EUR"]
    assert column(found, "availability") == [None, "in_stock"]
    assert column(found, "brand") == [None, "Acme"]
    assert found.metadata.facts.only_in_stock
    assert found.metadata.facts.columns == ("brand",)


def test_a_feed_with_other_names_several_categories_and_prices_with_their_currency(read: Read) -> None:
    found = read(
        "id\ttitle\tproduct_type\timage_link\tprice\tavailability\n"
        "SKU-1\tbowl\tHome > Bowls > Home\timg/1.jpg\t15.00 USD\tin stock\n"
        "SKU-2\ttray\tHome\thttps://cdn.example/2.jpg\tEUR 7\thttps://schema.org/OutOfStock\n",
        separator=">",
        image_base="https://shop.example/",
    )
    by_key = dict(zip(column(found, "item_key"), found.metadata.frame.to_dicts(), strict=True))
    one, two = by_key["SKU-1"], by_key["SKU-2"]
    assert one["item_id"] == key_to_id("SKU-1")
    assert one["category"] == ["Home", "Bowls"]
    assert (one["price"], one["currency"], two["price"], two["currency"]) == (15.0, "USD", 7.0, "EUR")
    assert (one["availability"], two["availability"]) == ("in_stock", "out_of_stock")
    assert (one["image"], two["image"]) == ("https://shop.example/img/1.jpg", "https://cdn.example/2.jpg")
    assert found.metadata.facts.currencies == ("EUR", "USD")


def test_columns_are_named_where_they_are_called_otherwise(read: Read) -> None:
    found = read(
        "nr;label;name;cost\n1;bowl;internal;3\n",
        columns={"item": "nr", "name": "label", "price": "cost"},
        currency="GBP",
    )
    assert column(found, "name") == ["bowl"]
    assert column(found, "price") == [3.0]
    assert found.left_out == ("name: another column was named for it, or it is a name of our own; rename it",)


def test_a_parquet_file_keeps_its_types(read: Read) -> None:
    found = read(
        {
            "sku": ["a", "b"],
            "category": [["x", " ", "y", "x"], []],
            "price": pl.Series([19.99, float("nan")], dtype=pl.Float32),
            "availability": [3, 0],
            "since": [date(2024, 1, 1), None],
            "sizes": [[1, 2], [3]],
            "cost": pl.Series(["1.25", None]).cast(pl.Decimal(10, 2)),
            "blob": [b"1", b"2"],
            "parts": [{"a": 1}, {"a": 2}],
        },
        currency="EUR",
    )
    by_key = {row["item_key"]: row for row in found.metadata.frame.to_dicts()}
    assert (by_key["a"]["price"], by_key["b"]["price"], by_key["b"]["currency"]) == (19.99, None, None)
    assert (by_key["a"]["category"], by_key["b"]["category"]) == (["x", "y"], None)
    assert (by_key["a"]["availability"], by_key["b"]["availability"]) == ("in_stock", "out_of_stock")
    assert (by_key["a"]["since"], by_key["a"]["sizes"], by_key["a"]["cost"]) == (date(2024, 1, 1), ["1", "2"], 1.25)
    assert [line.split(":")[0] for line in found.left_out] == ["blob", "parts"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("in stock", "in_stock"),
        ("InStock", "in_stock"),
        ("TRUE", "in_stock"),
        ("12", "in_stock"),
        ("0", "out_of_stock"),
        ("no", "out_of_stock"),
        ("sold out", "out_of_stock"),
        ("http://schema.org/PreOrder", "preorder"),
        ("back-order", "backorder"),
    ],
)
def test_what_shops_call_availability(read: Read, written: str, meant: str) -> None:
    assert column(read(f"item,availability\n1,{written}\n"), "availability") == [meant]


def test_rows_that_cannot_be_used_are_told_with_field_value_and_remedy_and_the_others_kept(read: Read) -> None:
    found = read(
        "item,name,price,currency,availability\n"
        "1,good,5,EUR,yes\n"
        ",nameless,5,EUR,yes\n"
        "two,word,5,EUR,yes\n"
        "-3,negative,5,EUR,yes\n"
        '4,comma,"12,50",EUR,yes\n'
        "5,below,-1,EUR,yes\n"
        "6,none,5,,yes\n"
        "7,which,5 USD,EUR,yes\n"
        "8,euro,5,EURO,yes\n"
        "9,maybe,5,EUR,perhaps\n"
        "1,again,6,EUR,yes\n"
        f"11,{'x' * 4_001},5,EUR,yes\n"
        "12,many,5,EUR,yes,more\n"
        "13,dear,1e12,EUR,yes\n"
        "14,also good,,,\n",
        ids="integer",
    )
    assert column(found, "item_id") == [1, 14]
    assert column(found, "name") == ["good", "also good"]
    told = {row: (name, value) for row, name, value, _ in found.bad.rows()}
    assert told == {
        2: ("item", ""),
        3: ("item", "two"),
        4: ("item", "-3"),
        5: ("price", "12,50"),
        6: ("price", "-1"),
        7: ("currency", ""),
        8: ("currency", "EUR"),
        9: ("currency", "EURO"),
        10: ("availability", "perhaps"),
        11: ("item", "1"),
        12: ("name", "x" * 60),
        13: ("row", "more"),
        14: ("price", "1e12"),
    }
    remedies = dict(found.bad.select("row", "remedy").rows())
    assert remedies[5] == "is no amount; write 12.50, or 12.50 EUR"
    assert remedies[11] == "row 1 has this item already and is kept; keep one row an item"
    assert (found.rows, found.metadata.facts.source["bad_rows"]) == (15, 13)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("item", [[1]]),
        ("item", [{"a": 1}]),
        ("item", [b"a"]),
        ("item", [timedelta(1)]),
        ("name", [["a"]]),
        ("name", [b"\xff"]),
        ("price", [[1.0]]),
        ("availability", [["in_stock"]]),
        ("category", [{"a": 1}]),
        ("category", [[{"a": 1}]]),
    ],
    ids=lambda value: value if isinstance(value, str) else str(pl.Series(value).dtype).lower(),
)
def test_a_column_that_cannot_tell_its_field_is_named(read: Read, field: str, values: list[Any]) -> None:
    with pytest.raises(SourceError, match=rf"column '{field}', read as {field}, holds .*; expected text .*--column"):
        read({"item": [1], field: values}, currency="EUR")


def test_columns_of_the_shop_that_cannot_be_kept_are_left_out_and_told(read: Read) -> None:
    found = read(
        {
            "item": [1],
            "category": pl.Series([["oak", "bowls"]], dtype=pl.Array(pl.String, 2)),
            "sizes": pl.Series([[1, 2]], dtype=pl.Array(pl.Int64, 2)),
            "age": [timedelta(1)],
            "ages": [[timedelta(1)]],
        }
    )
    assert (column(found, "category"), column(found, "sizes")) == ([["oak", "bowls"]], [["1", "2"]])
    assert [each.partition(":")[0] for each in found.left_out] == ["age", "ages"]


@pytest.mark.parametrize("name", ["*", "^.*$"])
def test_a_column_that_is_called_like_a_pattern_is_that_column_alone(read: Read, name: str) -> None:
    found = read(f"item,{name},name\n1,a,b\n")
    assert (column(found, "name"), found.left_out) == (["b"], (f"{name}: is called like a pattern; rename it",))
    with pytest.raises(SourceError, match="is called like a pattern; rename it, or name another one with --column na"):
        read(f"item,{name}\n1,a\n", columns={"name": name})


def test_a_number_that_is_none_is_missing(read: Read) -> None:
    found = read({"item": [1, 2], "weight": [1.5, float("nan")], "sizes": [[1.0, float("nan")], [2.0]]})
    assert (column(found, "weight"), column(found, "sizes")) == ([1.5, None], [["1.0", None], ["2.0"]])


def test_rows_that_are_not_utf_8_are_told_unless_the_file_says_so_itself(read: Read) -> None:
    latin = "item,name,brand\n1,café,a\n2,bowl,Müller\n3,tray,b\n".encode("latin1")
    found = read(latin)
    assert column(found, "name") == ["tray"]
    assert [row[:3] for row in found.bad.rows()] == [(1, "name", "caf\ufffd"), (2, "brand", "M\ufffdller")]
    assert "is not UTF-8; save the file as UTF-8, for instance with `iconv" in found.bad["remedy"][0]
    with pytest.raises(SourceError, match=r"the column 'gr\ufffd\ufffde' of its header is not UTF-8; save the file as"):
        read("item,größe\n1,2\n".encode("latin1"))
    assert column(read("item,name\n1,caf\ufffd\n"), "name") == ["caf\ufffd"]


def test_an_item_whose_first_row_is_bad_is_taken_from_its_second(read: Read) -> None:
    found = read("item,price\n1,x EUR\n1,2 EUR\n")
    assert column(found, "price") == [2.0]
    assert found.bad["row"].to_list() == [1]


def test_numbers_that_are_keys_are_read_as_the_log_does(read: Read) -> None:
    assert column(read("item\n7\n"), "item_id") == [7]
    as_text = read("item\n7\n", ids="text")
    assert (column(as_text, "item_id"), column(as_text, "item_key")) == ([key_to_id("7")], ["7"])
    assert sorted(column(read("item\n7\n007\n"), "item_key")) == ["007", "7"]


def test_without_availability_all_is_shown_unless_that_cannot_be_wanted(read: Read) -> None:
    assert not read("item\n7\n").metadata.facts.only_in_stock
    assert not read("item,availability\n7,yes\n", only_in_stock=False).metadata.facts.only_in_stock
    with pytest.raises(ConfigError, match="tells of no item whether it is"):
        read("item\n7\n", only_in_stock=True)


@pytest.mark.parametrize(
    ("content", "options", "error", "match"),
    [
        ("name,price\nx,1\n", {}, SourceError, "found no column 'item_id'.*--column item=COLUMN"),
        ("item,nmae\n1,x\n", {"columns": {"name": "name"}}, SourceError, "did you mean 'nmae'"),
        ("item,price\n1,5\n", {}, ConfigError, "prices tell no currency; say --currency EUR"),
        ("item,price\n1,x EUR\n", {}, SourceError, "none of its 1 rows can be used: row 1, price 'x EUR'"),
        ("item\n", {}, SourceError, "none of its 0 rows can be used"),
        ('item,name\n1,"open\n', {}, SourceError, "cannot be read as a catalogue"),
        ("item\n1\n", {"columns": {"colour": "item"}}, ConfigError, "no field 'colour'; it has item, name"),
        ("item\n1\n", {"currency": "euro"}, ConfigError, "three capital letters such as EUR, got 'euro'"),
        ("item\n1\n", {"ids": "guess"}, ConfigError, "ids must be one of auto, integer, text, got 'guess'"),
        ("item\n1\n", {"separator": ""}, ConfigError, "separator must not be empty"),
    ],
    ids=["no item", "misnamed", "no currency", "all bad", "no rows", "quote", "field", "code", "ids", "separator"],
)
def test_a_file_that_is_none_is_told(
    read: Read, content: str, options: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        read(content, **options)


def test_the_same_file_gives_the_same_bytes(read: Read, tmp_path: Path) -> None:
    for name in ("first", "second"):
        read("item,price\n1,5 EUR\n2,6 EUR\n").metadata.save(tmp_path / name)
    for file in ("items.parquet", "catalogue.json"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()
    assert json.loads((tmp_path / "first" / "catalogue.json").read_text())["items"] == 2
    assert len(ItemMetadata.load(tmp_path / "first")) == 2


def test_online_retail_makes_one_of_its_sales(tmp_path: Path) -> None:
    (tmp_path / "sales.csv").write_text(
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
        "1,22,WHITE BOWL,6,2010-12-01 08:26:00,2.55,1,UK\n"
        "2,22,WHITE BOWL,6,2011-12-01 08:26:00,2.95,2,UK\n"
        "3,22,WHITE BOWL,1,2011-12-02 08:26:00,0,2,UK\n"
        "4,33,damages,-1,2011-12-02 08:26:00,1,,UK\n"
        "5,44,GIFT,1,2011-12-02 08:26:00,0,2,UK\n"
    )
    found = import_catalogue(tmp_path / "sales.csv", ImportOptions(), format="online-retail")
    by_key = {row["item_key"]: row for row in found.metadata.frame.to_dicts()}
    assert by_key.keys() == {"WHITE BOWL", "GIFT"}
    bowl = by_key["WHITE BOWL"]
    assert (bowl["item_id"], bowl["name"], bowl["category"]) == (key_to_id("WHITE BOWL"), "WHITE BOWL", ["BOWL"])
    assert (bowl["price"], bowl["currency"], bowl["stock_code"]) == (2.95, "GBP", "22")
    assert (by_key["GIFT"]["price"], by_key["GIFT"]["currency"]) == (None, None)
    assert not found.metadata.facts.only_in_stock
    with pytest.raises(ConfigError, match="format online-retail has no options"):
        import_catalogue(tmp_path / "sales.csv", ImportOptions(currency="EUR"), format="online-retail")
    with pytest.raises(ConfigError, match="unknown format 'tmall'; use one of columns, online-retail"):
        import_catalogue(tmp_path / "sales.csv", ImportOptions(), format="tmall")


def test_the_real_online_retail_has_a_price_for_what_its_log_sells(online_retail: Path, tmp_path: Path) -> None:
    from recsys.data.event_store import EventStore
    from recsys.data.ingest import ingest

    found = import_catalogue(online_retail, ImportOptions(), format="online-retail")
    ingest("online-retail", online_retail, tmp_path / "store")
    sold = EventStore(tmp_path / "store").catalogue.item_ids[1:]
    assert found.metadata.item_ids.tolist() == sold.tolist()
    assert found.metadata.facts.priced > 0.99 * len(sold)
