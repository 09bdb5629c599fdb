"""Times as logs write them, to the millisecond; numbers that are none are refused."""

import datetime as dt

import numpy as np
import polars as pl
import pytest

from recsys.data.sources import COLUMNS, ColumnsOptions
from recsys.errors import SourceError


def write(path, text):
    path.write_bytes(text.encode())
    return path


def read(path, options):
    return COLUMNS.open(path, options).collect(engine="streaming")


def ms(*args):
    return int(dt.datetime(*args, tzinfo=dt.UTC).timestamp() * 1000)


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
