"""Each format, row by row, and what is said about a file that is not of it."""

import datetime as dt

import numpy as np
import polars as pl
import pytest

from recsys.data.event_store import EventType
from recsys.data.sources import (
    SOURCES,
    ColumnsOptions,
    OnlineRetailOptions,
    TaobaoOptions,
    TmallOptions,
    columns,
    event_type_of,
)
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


@pytest.mark.parametrize(
    ("values", "unit", "expected"),
    [
        (["1511544070", "1511544071"], "auto", [1511544070000, 1511544071000]),
        (["1511544070123", "1511544071000"], "auto", [1511544070123, 1511544071000]),
        (["1511544070123456", "1511544071000000"], "auto", [1511544070123, 1511544071000]),
        (["1511544070.5", "1511544071"], "auto", [1511544070500, 1511544071000]),
        (["5", "6"], "ms", [5, 6]),
        (["2017-11-24T17:21:10Z", "2017-11-24 17:21"], "auto", [1511544070000, 1511544060000]),
        (["2017-11-24T17:21:10.123+01:00", "2017-11-24"], "iso", [1511540470123, 1511481600000]),
    ],
    ids=["seconds", "milliseconds", "microseconds", "fractions", "told", "ISO", "ISO with zone"],
)
def test_columns_times(tmp_path, values, unit, expected):
    file = write(tmp_path / "c.csv", "user,item,time\n" + "".join(f"u,1,{value}\n" for value in values))
    frame = read(file, ColumnsOptions(time_unit=unit))
    assert (frame["time_ms"].to_list(), frame["reason"].to_list()) == (expected, [None, None])


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        pytest.param([20171125, 20171126, 20180101], "20171125", id="days"),
        pytest.param([20171125134509] * 3, "20171125134509", id="seconds as digits"),
        pytest.param(["", "201711251345"], "201711251345", id="minutes as digits"),
        pytest.param(["soon", "2017", "2018"], "2017", id="years"),
        pytest.param([43064.57], "43064.57", id="spreadsheet"),
        pytest.param([0, 1, 2], "0", id="numbered"),
        pytest.param([-1511544070], "-1511544070", id="negative"),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_numbers_that_are_no_times_are_refused_unless_a_unit_is_told(tmp_path, values, shown, kind):
    path = tmp_path / f"c.{kind}"
    frame = pl.DataFrame({"user": "u", "item": 1, "time": values})
    frame.write_csv(path) if kind == "csv" else frame.write_parquet(path)
    with pytest.raises(SourceError, match=rf"column 'time', found numbers as {shown}, .*--time-format.*--time-unit"):
        read(path, ColumnsOptions())
    told = read(path, ColumnsOptions(time_unit="s"))
    assert told["time_ms"].to_list()[-1] == int(float(values[-1]) * 1000)


@pytest.mark.parametrize("values", [[20171125, 20171126], [20171125.0, None]], ids=["integers", "floats"])
def test_dates_that_are_numbers_are_read_as_their_format_says(tmp_path, values):
    pl.DataFrame({"user": "u", "item": 1, "time": values}).write_parquet(tmp_path / "c.parquet")
    assert read(tmp_path / "c.parquet", ColumnsOptions(time_format="%Y%m%d"))["time_ms"][0] == ms(2017, 11, 25)


@pytest.mark.parametrize("seconds", [631_152_000, 4_102_444_799])
def test_every_time_from_1990_to_2100_is_one_without_a_unit(tmp_path, seconds):
    for in_a_second in (1, 1_000, 1_000_000, 1_000_000_000):
        pl.DataFrame({"user": "u", "item": 1, "time": [seconds * in_a_second]}).write_parquet(tmp_path / "c.parquet")
        assert read(tmp_path / "c.parquet", ColumnsOptions())["time_ms"].to_list() == [seconds * 1_000]


@pytest.mark.parametrize(("unit", "in_a_ms"), [("ms", 1), ("us", 1_000), ("ns", 1_000_000)])
@pytest.mark.parametrize("kind", [pl.Int64, pl.UInt64, pl.String], ids=str)
def test_whole_numbers_keep_every_millisecond(tmp_path, unit, in_a_ms, kind):
    """Also the last moment of each, which a Float64 of nanoseconds rounds up to the next."""
    moments = np.repeat(np.arange(1_700_000_000_000, 1_700_000_001_000), 2)
    last = np.arange(len(moments)) % 2 * (in_a_ms - 1)
    frame = pl.DataFrame({"user": "u", "item": 1, "time": moments * in_a_ms + last})
    frame.with_columns(pl.col("time").cast(kind)).write_parquet(tmp_path / "c.parquet")
    assert read(tmp_path / "c.parquet", ColumnsOptions())["time_ms"].to_list() == moments.tolist()
    frame.write_csv(tmp_path / "c.csv")
    assert read(tmp_path / "c.csv", ColumnsOptions(time_unit=unit))["time_ms"].to_list() == moments.tolist()


@pytest.mark.parametrize("per_s", [1, 1_000, 1_000_000, 1_000_000_000])
def test_floats_keep_the_milliseconds_that_they_hold(tmp_path, per_s):
    moments = np.random.default_rng(0).integers(1_000_000_000_000, 2_000_000_000_000, 10_000)
    times = moments / 1000 if per_s == 1 else moments * (per_s // 1000)
    pl.DataFrame({"user": "u", "item": 1, "time": times.astype(np.float64)}).write_parquet(tmp_path / "c.parquet")
    assert read(tmp_path / "c.parquet", ColumnsOptions())["time_ms"].to_list() == moments.tolist()


def test_numbers_that_no_time_can_be_are_bad_rows(tmp_path):
    values = ["1511544070", "9223372036854775807", "-9223372036854775808", "99999999999999999999", "nan", "-1", "0"]
    file = write(tmp_path / "c.csv", "user,item,time\n" + "".join(f"u,1,{value}\n" for value in values))
    frame = read(file, ColumnsOptions(time_unit="s"))
    outside = "time outside 1970 to 2100"
    assert frame["reason"].to_list() == [None, outside, outside, "unreadable time", "unreadable time", outside, None]


@pytest.mark.parametrize(
    ("pattern", "value", "expected"),
    [
        ("%-m/%-d/%Y %-H:%M", "3/5/2017 7:45", (2017, 3, 5, 7, 45)),
        ("%Y-%m-%d %_H:%M", "2017-11-25  7:45", (2017, 11, 25, 7, 45)),
        ("%F %R", "2017-11-25 13:45", (2017, 11, 25, 13, 45)),
        ("%F %X", "2017-11-25 13:45:09", (2017, 11, 25, 13, 45, 9)),
        ("%F %r", "2017-11-25 01:45:09 PM", (2017, 11, 25, 13, 45, 9)),
        ("%d.%m.%Y %k:%M", "25.11.2017  7:45", (2017, 11, 25, 7, 45)),
        ("%d/%m/%Y %l:%M %p", "25/11/2017  1:45 PM", (2017, 11, 25, 13, 45)),
        ("%c", "Sat Nov 25 13:45:09 2017", (2017, 11, 25, 13, 45, 9)),
        ("%+", "2017-11-25T13:45:09+01:00", (2017, 11, 25, 12, 45, 9)),
        ("%s", "1511617509", (2017, 11, 25, 13, 45, 9)),
        ("%Y%m%d%H%M%S", "20171125134509", (2017, 11, 25, 13, 45, 9)),
        ("%Y%m%d", "20171125", (2017, 11, 25)),
        ("%d.%m.%y", "25.11.17", (2017, 11, 25)),
        ("%Y-%m", "2017-11", (2017, 11, 1)),
    ],
)
def test_columns_time_formats_keep_the_time_of_day(tmp_path, pattern, value, expected):
    file = write(tmp_path / "c.csv", f"user,item,time\nu,1,{value}\n")
    frame = read(file, ColumnsOptions(time_format=pattern))
    assert (frame["time_ms"].to_list(), frame["reason"].to_list()) == ([ms(*expected)], [None])


def test_columns_mapping(tmp_path):
    text = "﻿when;row;what;who\n24/11/2017 17:21;mug;SEEN;ann\n24/11/2017 17:22; ;pv;bob\n2017;mug;x;bob\n;;;\n"
    options = ColumnsOptions(
        user="who",
        item="row",
        time="when",
        type="what",
        time_format="%d/%m/%Y %H:%M",
        type_values={"seen": "favourite"},
    )
    frame = read(write(tmp_path / "c.csv", text), options)
    assert frame["reason"].to_list() == [None, "missing item", "unreadable time", "empty line"]
    assert frame.row(0, named=True) | {"row": 0} == {
        "row": 0,
        "user": "ann",
        "item": "mug",
        "category": None,
        "time_ms": ms(2017, 11, 24, 17, 21),
        "type": EventType.FAVORITE,
        "reason": None,
    }


def test_columns_parquet_keeps_integers_and_reads_datetimes(tmp_path):
    berlin = dt.timezone(dt.timedelta(hours=1))
    frame = pl.DataFrame(
        {
            "user": [17.0, 18.0, None],
            "item": [3, 4, 5],
            "category": ["x", None, ""],
            "time": [dt.datetime(2020, 1, 1, 1, tzinfo=berlin)] * 3,
        }
    )
    frame.write_parquet(tmp_path / "c.parquet")
    got = read(tmp_path / "c.parquet", ColumnsOptions(category="category"))
    assert got["user"].to_list() == ["17", "18", None]
    assert got["item"].to_list() == [3, 4, 5]
    assert got["category"].to_list() == ["x", None, None]
    assert got["time_ms"].to_list() == [ms(2020, 1, 1)] * 3
    assert got["reason"].to_list() == [None, None, "missing user"]


@pytest.mark.parametrize(("ids", "expected"), [("auto", [7, 8]), ("integer", [7, 8]), ("text", ["7", "8"])])
def test_columns_ids(tmp_path, ids, expected):
    file = write(tmp_path / "c.csv", "user,item,time\nu,7,1511544070\nu,8,1511544071\n")
    assert read(file, ColumnsOptions(ids=ids))["item"].to_list() == expected


def test_one_odd_id_among_many_numbers_is_a_bad_row(tmp_path):
    file = write(tmp_path / "c.csv", "user,item,time\n" + "u,7,1511544070\n" * 200 + "u,seven,1511544070\n")
    frame = read(file, ColumnsOptions())
    assert frame.filter(pl.col("reason").is_not_null())[["row", "reason"]].rows() == [
        (201, "item is not a whole number")
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"time_unit": "hours"}, "time_unit must be one of"),
        ({"ids": "uuid"}, "ids must be one of"),
        ({"delimiter": "ab"}, "delimiter must be one"),
        ({"default_type": "wink"}, "unknown event type 'wink'"),
        ({"type_values": {"a": "wink"}}, "unknown event type 'wink'"),
        ({"time_format": "%Y", "time_unit": "s"}, "time_format is for dates"),
        ({"time_format": "%Y-%m-%d %H"}, "time_format '%Y-%m-%d %H' cannot be used: .* both hour and minute"),
        ({"time_format": "%Y-%m-%d %T.%f"}, "time_format .* cannot be used: .* Use `%.f` instead"),
    ],
)
def test_columns_options_that_cannot_work(options, message):
    with pytest.raises(ConfigError, match=message):
        ColumnsOptions(**options)


def test_categories_that_begin_with_unknown_ones_are_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(columns, "SAMPLE_ROWS", 2)
    pl.DataFrame(
        {"user": ["u"] * 3, "item": [1, 2, 3], "category": [None, None, 70], "time": [dt.datetime(2020, 1, 1)] * 3}
    ).write_parquet(tmp_path / "c.parquet")
    got = read(tmp_path / "c.parquet", ColumnsOptions(category="category"))
    assert got["category"].to_list() == [None, None, 70]


def test_event_type_names():
    assert (event_type_of(" Buy "), event_type_of("click")) == (EventType.PURCHASE, EventType.CLICK)


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


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param(pl.Series([dt.timedelta(1)]), "column 'time' holds Duration.*; expected text", id="durations"),
        pytest.param(pl.Series([dt.time(8)]), "column 'time' holds times of day", id="times of day"),
    ],
)
def test_a_parquet_column_that_holds_no_moments(tmp_path, values, message):
    path = tmp_path / "log.parquet"
    pl.DataFrame({"user": ["u"], "item": [1], "time": values}).write_parquet(path)
    with pytest.raises(SourceError, match=message):
        read(path, ColumnsOptions())


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(pl.Series([None], dtype=pl.Null), id="nulls"),
        pytest.param(pl.Series([None], dtype=pl.Int64), id="no integers"),
        pytest.param(pl.Series([True]), id="booleans"),
    ],
)
def test_a_parquet_column_without_a_time_makes_bad_rows(tmp_path, values):
    path = tmp_path / "log.parquet"
    pl.DataFrame({"user": ["u"], "item": [1], "time": values}).write_parquet(path)
    assert read(path, ColumnsOptions())["reason"].to_list() == ["unreadable time"]


def test_categorical_texts_of_times(tmp_path):
    times = pl.Series(["1511544070123456789", "1511544070123456789"], dtype=pl.Categorical)
    pl.DataFrame({"user": ["u", "v"], "item": [1, 2], "time": times}).write_parquet(tmp_path / "log.parquet")
    assert read(tmp_path / "log.parquet", ColumnsOptions())["time_ms"].to_list() == [1511544070123] * 2


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
