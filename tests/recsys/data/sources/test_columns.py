"""Files of any columns: which is which, what items are called by, and options that cannot work."""

import datetime as dt

import polars as pl
import pytest

from recsys.data.event_store import EventType
from recsys.data.sources import COLUMNS, ColumnsOptions, columns
from recsys.data.sources.canonical import CANONICAL_COLUMNS
from recsys.errors import ConfigError


def write(path, text):
    path.write_bytes(text.encode())
    return path


def read(path, options):
    frame = COLUMNS.open(path, options).collect(engine="streaming")
    assert tuple(frame.columns) == CANONICAL_COLUMNS
    assert frame["row"].to_list() == list(range(1, frame.height + 1))
    return frame


def ms(*args):
    return int(dt.datetime(*args, tzinfo=dt.UTC).timestamp() * 1000)


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


PADDED = ["007", "+7", "00", "-0", "-07"]


@pytest.mark.parametrize("padded", PADDED)
def test_ids_that_are_not_written_as_numbers_are_texts(tmp_path, padded):
    rows = [f"u,{n},{n},1511544070" for n in [padded, *range(200)]]
    file = write(tmp_path / "c.csv", "\n".join(["user,item,kind,time", *rows]))
    frame = read(file, ColumnsOptions(category="kind"))
    assert frame["reason"].null_count() == 201
    assert frame["item"].to_list() == frame["category"].to_list() == [padded, *map(str, range(200))]


@pytest.mark.parametrize("padded", PADDED)
def test_a_number_written_otherwise_after_the_sample_is_a_bad_row(tmp_path, monkeypatch, padded):
    monkeypatch.setattr(columns, "SAMPLE_ROWS", 2)
    rows = [f"u,{item},{kind},1511544070" for item, kind in [(7, 1), (0, 10), (padded, 1), (7, padded), (7, 1)]]
    file = write(tmp_path / "c.csv", "\n".join(["user,item,kind,time", *rows]))
    frame = read(file, ColumnsOptions(category="kind"))
    assert frame["reason"].to_list() == [
        *(None, None, "item has a plus or leading zeros", "category has a plus or leading zeros", None),
    ]
    assert frame.filter(pl.col("reason").is_null())["item"].to_list() == [7, 0, 7]


def test_whoever_says_that_ids_are_numbers_means_one_item(tmp_path):
    file = write(tmp_path / "c.csv", "user,item,time\n" + "".join(f"u,{n},1511544070\n" for n in ("007", "+7", "7")))
    frame = read(file, ColumnsOptions(ids="integer"))
    assert (frame["item"].to_list(), frame["reason"].to_list()) == ([7, 7, 7], [None] * 3)


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
