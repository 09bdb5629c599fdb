"""Each format, row by row, and what is said about a file that is not of it."""

import datetime as dt

import polars as pl
import pytest

from recsys.data.event_store import EventType
from recsys.data.sources import SOURCES, ColumnsOptions, OnlineRetailOptions, TaobaoOptions, TmallOptions, event_type_of
from recsys.data.sources.canonical import CANONICAL_COLUMNS
from recsys.errors import ConfigError, SourceError


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(path, options):
    name = {
        TaobaoOptions: "taobao",
        TmallOptions: "tmall",
        OnlineRetailOptions: "online-retail",
        ColumnsOptions: "columns",
    }[type(options)]
    frame = SOURCES[name].open(path, options).collect(engine="streaming")
    assert tuple(frame.columns) == CANONICAL_COLUMNS
    assert frame["row"].to_list() == list(range(1, frame.height + 1))
    return frame


def ms(*args):
    return int(dt.datetime(*args, tzinfo=dt.UTC).timestamp() * 1000)


TAOBAO_ROWS = [
    ("1,2,3,pv,1511544070", None),
    ("1,2,3,cart,1511544070\r", None),
    ("1,2,,buy,1511544070", None),
    (" 1 , 2 ,3,fav,1511544070,", None),
    ("", "empty line"),
    ("1,2,3,pv", "wrong number of columns"),
    ("1,2,3,pv,1511544070,9", "wrong number of columns"),
    (",2,3,pv,1511544070", "missing user"),
    ("1,,3,pv,1511544070", "missing item"),
    ("1,2.5,3,pv,1511544070", "item is not a whole number"),
    ("1,99999999999999999999,3,pv,1511544070", "item is not a whole number"),
    ("1,-2,3,pv,1511544070", "negative item id"),
    ("1,2,x,pv,1511544070", "category is not a whole number"),
    ("1,2,-3,pv,1511544070", "negative category id"),
    ("1,2,3,pv,yesterday", "unreadable time"),
    ("1,2,3,pv,-5", "time outside 1970 to 2100"),
    ("1,2,3,pv,9223372036854775807", "time outside 1970 to 2100"),
    ("1,2,3,view,1511544070", "unknown event type"),
    ('1,2,"3,pv,1511544070', "category is not a whole number"),
]


def test_taobao_row_by_row(tmp_path):
    file = write(tmp_path / "u.csv", "\n".join(["1,2,3,pv,1511544070"] * 30 + [row for row, _ in TAOBAO_ROWS]) + "\n")
    frame = read(file, TaobaoOptions())
    assert frame["reason"].to_list()[30:] == [reason for _, reason in TAOBAO_ROWS]
    good = frame[30:34]
    assert good["type"].to_list() == [EventType.CLICK, EventType.CART, EventType.PURCHASE, EventType.FAVORITE]
    assert good["category"].to_list() == [3, 3, None, 3]
    assert good["user"].to_list() == ["1"] * 4
    assert good["time_ms"].to_list() == [1511544070000] * 4
    assert frame.schema["item"] == pl.Int64


def test_tmall(tmp_path):
    header = "user_id,item_id,cat_id,seller_id,brand_id,time_stamp,action_type\n"
    rows = ["328862,323294,833,2882,2661,829,0", "1,2,3,4,,1111,2", "1,2,3,4,5,0101,1", "1,2,3,4,5,0229,3"]
    rows += ["1,2,3,4,5,1340,3", "1,2,3,4,5,11,3", "1,2,3,4,5,1111,7", "1,2,3,4,5,1111"]
    file = write(tmp_path / "log.csv", header + "\n".join(rows))
    frame = read(file, TmallOptions())
    assert frame["reason"].to_list() == [
        *(None, None, None, "unreadable time", "unreadable time", "unreadable time"),
        *("unknown event type", "wrong number of columns"),
    ]
    assert frame["time_ms"].to_list()[:3] == [ms(2015, 8, 29), ms(2015, 11, 11), ms(2015, 1, 1)]
    assert frame["type"].to_list()[:3] == [EventType.CLICK, EventType.PURCHASE, EventType.CART]
    leap = read(file, TmallOptions(year=2016))
    assert (leap["reason"][3], leap["time_ms"][3]) == (None, ms(2016, 2, 29))
    with pytest.raises(ConfigError, match="year must be"):
        TmallOptions(year=15)


def test_online_retail_csv_as_it_is_distributed(tmp_path):
    header = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
    rows = [
        '1,a, CREAM CUPID  COAT HANGER ,6,12/1/2010 8:26,2.55,17850,"United, Kingdom"',
        '1,a,"BAG, 10"" WIDE",6,2010-12-01 08:26:00,2.55,17850.0,UK',
        "1,a,MUG,-1,12/1/2010 8:26,2.55,17850,UK",
        "1,a,MUG,1,12/1/2010 8:26,2.55,,UK",
        "1,a,  ,1,12/1/2010 8:26,2.55,17850,UK",
        "1,a,MUG,many,12/1/2010 8:26,2.55,17850,UK",
        "1,a,MUG,1,13/13/2010 8:26,2.55,17850,UK",
    ]
    latin = write(tmp_path / "r.csv", (header + "\n".join(rows)).encode() + b"\n1,a,\xa3 MUG,1,12/1/2010 8:26,1,C7,UK")
    frame = read(latin, OnlineRetailOptions())
    assert frame["reason"].to_list() == [
        *(None, None, "quantity not positive", "missing user", "missing item"),
        *("unreadable quantity", "unreadable time", None),
    ]
    assert frame["item"].to_list()[:2] == ["CREAM CUPID  COAT HANGER", 'BAG, 10" WIDE']
    assert frame["category"].to_list()[:2] == ["HANGER", "WIDE"]
    assert frame["user"].to_list()[:2] == ["17850", "17850"]
    assert (frame["user"][7], frame["category"][7]) == ("C7", "MUG")
    assert frame["time_ms"].to_list()[:2] == [ms(2010, 12, 1, 8, 26)] * 2
    assert set(frame["type"]) == {EventType.PURCHASE}


def test_online_retail_as_spreadsheets_write_years(tmp_path):
    moments = ["12/1/2010 8:26", "12/1/10 8:26", "12/13/11 18:26", "2010-12-01 08:26:00"]
    text = "Description,Quantity,InvoiceDate,CustomerID\n" + "".join(f"MUG,1,{moment},1\n" for moment in moments)
    frame = read(write(tmp_path / "r.csv", text), OnlineRetailOptions())
    assert frame["reason"].to_list() == [None] * 4
    first = ms(2010, 12, 1, 8, 26)
    assert frame["time_ms"].to_list() == [first, first, ms(2011, 12, 13, 18, 26), first]


def test_online_retail_ii_spelling(tmp_path):
    text = "Description,Quantity,InvoiceDate,Customer ID\nMUG,1,2010-12-01 08:26:00,1\n"
    assert read(write(tmp_path / "r.csv", text), OnlineRetailOptions())["reason"].to_list() == [None]


def test_event_type_names():
    assert (event_type_of(" Buy "), event_type_of("click")) == (EventType.PURCHASE, EventType.CLICK)


HEADERS = {
    "tmall": ("user_id,item_id,cat_id,seller_id,brand_id,time_stamp,action_type", "1,2,3,4,5,1111,0"),
    "online-retail": ("Description,Quantity,InvoiceDate,CustomerID", "MUG,1,2010-12-01 08:26:00,1"),
    "columns": ("user,item,time", "u,7,1511544070"),
}


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("above", ["", "\n", "\n \n\t\n", "\r\n\r\n", "\ufeff\n\n", "\ufeff"], ids=repr)
def test_empty_lines_above_a_header_are_no_rows(tmp_path, name, above):
    header, row = HEADERS[name]
    file = write(tmp_path / "log.csv", f"{above}{header}\n{row}\n\n{row}\n")
    frame = read(file, SOURCES[name].options())
    assert frame.filter(pl.col("reason").is_null())["row"].to_list() == [1, 3]
    assert frame.height == 3


WRONG = {
    "missing": (None, "found no such file"),
    "empty": (b"", "found an empty file"),
    "blank": (b"\n\n\n", "found only empty lines"),
    "gzip": (b"\x1f\x8b\x08abc", "gunzip"),
    "zip": (b"PK\x03\x04abc", "unpack it"),
    "utf-16": ("a,b".encode("utf-16"), "UTF-16"),
    "garbage": (bytes(range(256)) * 40, "found binary data"),
}


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("kind", WRONG)
def test_a_file_of_another_kind(tmp_path, name, kind):
    content, message = WRONG[kind]
    path = tmp_path / "log.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError, match=message) as caught:
        SOURCES[name].open(path, SOURCES[name].options())
    assert str(caught.value).startswith(f"{path}: expected ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", SOURCES)
def test_a_directory(tmp_path, name):
    with pytest.raises(SourceError, match="found a directory"):
        SOURCES[name].open(tmp_path, SOURCES[name].options())


@pytest.mark.parametrize("name", ["online-retail", "columns"])
def test_a_torn_parquet_file(tmp_path, name):
    path = write(tmp_path / "log.parquet", b"PAR1" + bytes(range(256)))
    with pytest.raises(SourceError, match="found a broken Parquet file"):
        SOURCES[name].open(path, SOURCES[name].options())


@pytest.mark.parametrize("name", ["taobao", "tmall"])
def test_parquet_where_csv_is_expected(tmp_path, name):
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "log.csv")
    with pytest.raises(SourceError, match="found a Parquet file; import it with `--format columns`"):
        SOURCES[name].open(tmp_path / "log.csv", SOURCES[name].options())


@pytest.mark.parametrize("name", ["tmall", "online-retail", "columns"])
def test_a_missing_column_is_named_with_a_guess(tmp_path, name):
    columns = [text.strip("-") for text, _ in SOURCES[name].columns if "category" not in text and "type" not in text]
    if name == "tmall":
        columns.append("action_type")
    misspelt = [columns[0].upper() + "_", *columns[1:]]
    path = write(tmp_path / "log.csv", ",".join(misspelt) + "\n" + ",".join("1" for _ in misspelt) + "\n")
    with pytest.raises(SourceError, match=f"found no column '{columns[0]}' among .*did you mean '{misspelt[0]}'"):
        SOURCES[name].open(path, SOURCES[name].options())


def test_taobao_with_another_number_of_columns(tmp_path):
    path = write(tmp_path / "log.csv", "user,item,time\n1,2,3\n")
    with pytest.raises(SourceError, match=r"found 3 column\(s\) in 'user,item,time'.*--format columns"):
        SOURCES["taobao"].open(path, TaobaoOptions())
