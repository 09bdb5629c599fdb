"""From log to store: nothing lost, nothing twice, nothing half done, and not in memory."""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.data import ingest as ingest_module
from recsys.data import staging
from recsys.data.catalogue import key_to_id
from recsys.data.event_store import EventStore, EventType
from recsys.data.ingest import Rejection, describe_source, ingest, store_for
from recsys.data.shop import taobao_scale, write_taobao_csv
from recsys.data.store_writer import build_catalogue
from recsys.errors import ConfigError, SourceError, StoreError

ARRAYS = ("offsets.npy", "items.npy", "times.npy", "types.npy")


def log(path, rows):
    """A Taobao log of (user, item, category, behaviour, seconds)."""
    path.write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    return path


def events_of(store):
    """Every event as (user, item id, category id, ms, type), user by user."""
    catalogue = store.catalogue
    users = np.repeat(np.array(store.user_ids.to_list(), dtype=object), np.diff(store.offsets))
    categories = catalogue.category_ids[catalogue.category_rows[store.items]]
    columns = (users, catalogue.item_ids[store.items], categories, store.times, store.types)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def test_a_log_worked_by_hand(tmp_path):
    rows = [
        ("10", 5, 1, "pv", 300),
        ("9", 5, 1, "pv", 100),
        ("10", 6, 2, "buy", 100),
        ("10", 5, 3, "pv", 300),
        ("10", 6, 2, "wink", 100),
        ("9", 7, "", "cart", 50),
        ("", 7, 1, "pv", 50),
        ("9", 5, 1, "fav", 100),
    ]
    report = ingest("taobao", log(tmp_path / "l.csv", rows), tmp_path / "s")
    store = EventStore(tmp_path / "s")
    assert events_of(store) == [
        ("10", 6, 2, 100_000, EventType.PURCHASE),
        ("10", 5, 1, 300_000, EventType.CLICK),
        ("10", 5, 1, 300_000, EventType.CLICK),
        ("9", 7, -1, 50_000, EventType.CART),
        ("9", 5, 1, 100_000, EventType.CLICK),
        ("9", 5, 1, 100_000, EventType.FAVORITE),
    ]
    assert (report.rows_read, report.rows_kept, report.rows_filtered, report.rows_rejected) == (8, 6, 0, 2)
    assert set(report.rejections) == {
        Rejection(reason="unknown event type", rows=1, examples=(5,)),
        Rejection(reason="missing user", rows=1, examples=(7,)),
    }
    assert report.event_types == {"click": 3, "cart": 1, "favorite": 1, "purchase": 1}
    # Category 3 is nobody's own: item 5 has category 1 three times and 3 once.
    assert (report.items_with_several_categories, report.items_without_category, report.n_categories) == (1, 1, 2)
    assert (report.first_time_ms, report.last_time_ms) == (50_000, 300_000)
    assert store.manifest.report["rows_read"] == 8
    assert store.manifest.source == describe_source("taobao", tmp_path / "l.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["l.csv", "s"]


@pytest.mark.parametrize(
    ("seen", "expected", "several"),
    [
        ([(1, 4, 2), (1, 3, 2)], 3, 1),
        ([(1, 4, 3), (1, 3, 2)], 4, 1),
        ([(1, None, 9), (1, 3, 1)], 3, 0),
        ([(1, None, 9)], -1, 0),
        ([(1, 9, 1), (1, 8, 1), (1, 7, 1)], 7, 1),
    ],
    ids=["tie to the lowest", "most often", "unknown does not count", "unknown only", "three"],
)
def test_an_item_has_one_category(seen, expected, several):
    pairs = pl.DataFrame(seen, schema={"item": pl.Int64, "category": pl.Int64, "events": pl.Int64}, orient="row")
    catalogue, rows, n_several = build_catalogue(pairs)
    assert catalogue.category_ids[catalogue.category_rows[1]] == expected
    assert (rows.rows(), n_several) == ([(1, 1)], several)


def test_string_keys_become_ids_and_stay_for_display(tmp_path):
    path = tmp_path / "l.csv"
    path.write_text("user,item,kind,time\nu,walnut bowl,bowls,1\nu,mug,mugs,2\nu,walnut bowl,bowls,3\n")
    ingest("columns", path, tmp_path / "s", category="kind", time_unit="s")
    store = EventStore(tmp_path / "s")
    catalogue = store.catalogue
    assert catalogue.item_ids[store.items].tolist() == [key_to_id(k) for k in ("walnut bowl", "mug", "walnut bowl")]
    assert (np.diff(catalogue.item_ids) > 0).all()
    assert catalogue.name_of(key_to_id("mug")) == "mug"
    assert catalogue.category_name_of(key_to_id("walnut bowl")) == "bowls"


def test_event_types_are_filtered_and_counted(tmp_path):
    path = log(tmp_path / "l.csv", [("1", 2, 3, "pv", 1), ("1", 2, 3, "buy", 2), ("1", 4, 3, "cart", 3)])
    report = ingest("taobao", path, tmp_path / "s", event_types=[EventType.PURCHASE, EventType.CLICK])
    assert (report.rows_kept, report.rows_filtered, report.n_items) == (2, 1, 1)
    with pytest.raises(SourceError, match="none of its 3 good rows is of type favorite"):
        ingest("taobao", path, tmp_path / "t", event_types=[EventType.FAVORITE])


def test_a_log_without_a_usable_row(tmp_path):
    path = log(tmp_path / "l.csv", [("1", 2, 3, "wink", 1)] * 5)
    with pytest.raises(SourceError, match=r"none of its 5 rows can be used: unknown event type: 5 \(row 1, 2, 3, …\)"):
        ingest("taobao", path, tmp_path / "s")
    header = tmp_path / "h.csv"
    header.write_text("user,item,time\n")
    with pytest.raises(SourceError, match="found no rows"):
        ingest("columns", header, tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_an_open_quote_is_one_clear_error(tmp_path):
    path = tmp_path / "l.csv"
    path.write_text('user,item,time\nu,"open,1\n' + "u,mug,2\n" * 100)
    with pytest.raises(SourceError, match="--no-quote"):
        ingest("columns", path, tmp_path / "s")
    report = ingest("columns", path, tmp_path / "s", quote=False, time_unit="s")
    assert report.rows_kept == 101


@pytest.mark.parametrize("before", [0, 20_000], ids=["in the sample", "after it"])
def test_a_broken_quote_is_one_clear_error_wherever_it_is(tmp_path, before):
    path = tmp_path / "l.csv"
    path.write_text("user,item,time\n" + "u,mug,1511544070\n" * before + 'u"x,mug,1511544070\nv,"mug,1511544070\n')
    with pytest.raises(SourceError, match=r"cannot be read as columns: .*--no-quote") as caught:
        ingest("columns", path, tmp_path / "s")
    assert "\n" not in str(caught.value)
    report = ingest("columns", path, tmp_path / "s", quote=False)
    assert report.rows_kept == before + 2


def test_a_parquet_file_that_breaks_off_is_not_told_of_quotes(tmp_path):
    path = tmp_path / "l.parquet"
    times = np.random.default_rng(0).integers(1_600_000_000, 1_700_000_000, 100_000)
    pl.DataFrame({"user": "u", "item": 1, "time": times}).write_parquet(path)
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 4)
        file.write(b"x" * (path.stat().st_size // 2))
    with pytest.raises(SourceError, match=r"cannot be read as columns: .*; is it whole\?"):
        ingest("columns", path, tmp_path / "s")


def test_unknown_format_and_option(tmp_path):
    path = log(tmp_path / "l.csv", [("1", 2, 3, "pv", 1)])
    with pytest.raises(ConfigError, match="unknown format 'movielens'; use one of taobao, tmall"):
        ingest("movielens", path, tmp_path / "s")
    with pytest.raises(ConfigError, match="format taobao has no option year; it has none"):
        ingest("taobao", path, tmp_path / "s", year=2015)


# Users whose names are prefixes of one another, few items and categories, and times that differ in each row.
ROWS = st.lists(
    st.tuples(
        st.sampled_from(["1", "10", "2", "02", "é", "z"]),
        st.integers(0, 6),
        st.integers(0, 3),
        st.sampled_from(["pv", "buy", "cart", "fav"]),
    ),
    min_size=1,
    max_size=60,
)


@settings(max_examples=40, deadline=None)
@given(rows=ROWS, seed=st.integers(0, 2**16), partition_events=st.integers(1, 70))
def test_any_order_of_rows_and_any_partition_give_the_same_store(rows, seed, partition_events):
    rows = [(*row, second) for second, row in enumerate(rows)]
    shuffled = random.Random(seed).sample(rows, len(rows))
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        first = ingest("taobao", log(directory / "a.csv", rows), directory / "a")
        second = ingest(
            "taobao", log(directory / "b.csv", shuffled), directory / "b", partition_events=partition_events
        )
        assert asdict(first) == asdict(second)
        for file in ARRAYS:
            assert (directory / "a" / file).read_bytes() == (directory / "b" / file).read_bytes(), file
        a, b = EventStore(directory / "a"), EventStore(directory / "b")
        assert a.user_ids.to_list() == b.user_ids.to_list() == sorted({row[0] for row in rows})
        assert np.array_equal(a.catalogue.item_ids, b.catalogue.item_ids)
        assert np.array_equal(a.catalogue.category_rows, b.catalogue.category_rows)


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4), st.integers(0, 9)), min_size=1, max_size=50))
def test_every_event_is_there_once_and_ties_keep_the_order_of_the_log(rows):
    with tempfile.TemporaryDirectory() as name:
        path = log(Path(name) / "a.csv", [(user, item, 1, "pv", second) for user, item, second in rows])
        ingest("taobao", path, Path(name) / "s", partition_events=7)
        store = EventStore(Path(name) / "s")
        expected = sorted(rows, key=lambda row: (row[0], row[2]))
        assert [(user, item, time // 1000) for user, item, _, time, _ in events_of(store)] == expected


def test_batches_and_partitions_keep_the_order_of_ties(tmp_path, monkeypatch):
    """More rows than one batch, all at one time: what decides is the row number."""
    monkeypatch.setattr(ingest_module, "BATCH_ROWS", 1000)
    rows = [(f"u{n % 3}", n, 1, "pv", 7) for n in range(20_000)]
    ingest("taobao", log(tmp_path / "l.csv", rows), tmp_path / "s", partition_events=5000)
    store = EventStore(tmp_path / "s")
    for user in range(3):
        ids = store.catalogue.item_ids[store.items[store.history(user)]]
        assert ids.tolist() == list(range(user, 20_000, 3))


def test_an_existing_store_needs_overwrite_and_survives_failure(tmp_path):
    good = log(tmp_path / "l.csv", [("1", 2, 3, "pv", 1)])
    ingest("taobao", good, tmp_path / "s")
    with pytest.raises(StoreError, match="--overwrite"):
        ingest("taobao", good, tmp_path / "s")
    bad = log(tmp_path / "b.csv", [("1", 2, 3, "wink", 1)])
    with pytest.raises(SourceError):
        ingest("taobao", bad, tmp_path / "s", overwrite=True)
    assert len(EventStore(tmp_path / "s")) == 1
    two = log(tmp_path / "two.csv", [("1", 2, 3, "pv", 1)] * 2)
    ingest("taobao", two, tmp_path / "s", overwrite=True)
    assert len(EventStore(tmp_path / "s")) == 2
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_is_not_a_store_is_never_replaced(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("meow")
    path = log(tmp_path / "l.csv", [("1", 2, 3, "pv", 1)])
    with pytest.raises(StoreError, match="is not an event store"):
        ingest("taobao", path, tmp_path / "photos", overwrite=True)
    with pytest.raises(StoreError, match="is not an event store"):
        ingest("taobao", path, path, overwrite=True)
    assert (tmp_path / "photos" / "cat.jpg").read_text() == "meow"


def test_a_failed_swap_puts_the_old_store_back(tmp_path, monkeypatch):
    path = log(tmp_path / "l.csv", [("1", 2, 3, "pv", 1)])
    ingest("taobao", path, tmp_path / "s")
    rename = Path.rename

    def fails_once(self, target):
        if self.name.endswith(".importing"):
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails_once)
    with pytest.raises(StoreError, match="No space left on device"):
        ingest("taobao", path, tmp_path / "s", overwrite=True)
    assert len(EventStore(tmp_path / "s")) == 1


def test_a_death_between_the_two_renames_is_mended_by_the_next_import(tmp_path):
    path = log(tmp_path / "l.csv", [("1", 2, 3, "pv", 1)])
    ingest("taobao", path, tmp_path / "s")
    (tmp_path / "s").rename(tmp_path / ".s.previous")
    with pytest.raises(StoreError, match="already holds an event store"):
        ingest("taobao", path, tmp_path / "s")
    assert len(EventStore(tmp_path / "s")) == 1


def test_two_imports_into_one_place(tmp_path):
    path = log(tmp_path / "l.csv", [("1", 2, 3, "pv", 1)])
    with staging.staged_directory(tmp_path / "s", overwrite=False) as directory:
        (directory / "marker").write_text("")
        with pytest.raises(StoreError, match=r"another import into .* is running"):
            ingest("taobao", path, tmp_path / "s")
    assert list((tmp_path / "s").iterdir()) == [tmp_path / "s" / "marker"]


def test_a_killed_import_leaves_no_half_store(tmp_path):
    path = log(tmp_path / "l.csv", [("1", 2, 3, "pv", 1)])
    program = (
        "import sys, time; from recsys.data.ingest import ingest\n"
        "def stop(stage, done, total):\n"
        "    if stage == 'writing the store': print('half', flush=True); time.sleep(60)\n"
        "ingest('taobao', sys.argv[1], sys.argv[2], progress=stop)"
    )
    command = [sys.executable, "-c", program, str(path), str(tmp_path / "s")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "half\n"
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "s").exists()
    assert (tmp_path / ".s.importing").is_dir()
    ingest("taobao", path, tmp_path / "s")
    assert len(EventStore(tmp_path / "s")) == 1
    assert not (tmp_path / ".s.importing").exists()


def test_store_for_imports_only_what_changed(tmp_path):
    path = log(tmp_path / "l.csv", [("1", 2, 3, "pv", 1), ("1", 2, 3, "buy", 1)])
    calls = []

    def count(stage, done, total):
        calls.append(stage)

    def imported(**options):
        calls.clear()
        assert store_for("taobao", path, tmp_path / "s", progress=count, **options) == tmp_path / "s"
        return bool(calls)

    assert imported()
    assert not imported()
    assert imported(event_types=[EventType.CLICK])
    assert not imported(event_types=[EventType.CLICK])
    os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns + 10**9))
    assert imported(event_types=[EventType.CLICK])
    (tmp_path / "s" / "items.npy").unlink()
    assert imported(event_types=[EventType.CLICK])
    with pytest.raises(SourceError, match="no such file"):
        store_for("taobao", tmp_path / "none.csv", tmp_path / "s")


def test_progress_counts_up_to_the_total(tmp_path):
    path = log(tmp_path / "l.csv", [("1", n, 3, "pv", n) for n in range(1000)])
    last = {}
    ingest("taobao", path, tmp_path / "s", progress=lambda stage, done, total: last.update({stage: (done, total)}))
    assert list(last) == [
        *("reading the log", "counting users and items", "sorting events by user", "writing the store")
    ]
    assert all(done == 1000 and total >= 1000 for done, total in last.values())


def test_online_retail_as_published(tmp_path, online_retail):
    path = online_retail
    report = ingest("online-retail", path, tmp_path / "s")
    store = EventStore(tmp_path / "s")
    assert (report.rows_read, report.rows_kept) == (541_909, 397_924)
    assert [(r.reason, r.rows) for r in report.rejections] == [
        ("missing user", 135_080),
        ("quantity not positive", 8_905),
    ]
    assert (store.n_users, store.catalogue.n_items, store.catalogue.n_categories) == (4_339, 3_866, 860)
    assert report.items_with_several_categories == 0
    # Against a plain sort of the file, event by event.
    raw = pl.read_parquet(path).with_row_index().filter(pl.col("CustomerID").is_not_null() & (pl.col("Quantity") > 0))
    raw = raw.filter(pl.col("Description").is_not_null()).with_columns(
        pl.col("CustomerID").cast(pl.Int64).cast(pl.String)
    )
    raw = raw.sort("CustomerID", "InvoiceDate", "index")
    assert Counter(np.diff(store.offsets).tolist()) == Counter(raw.group_by("CustomerID").len()["len"].to_list())
    assert store.times[:].tolist() == raw["InvoiceDate"].dt.epoch("ms").to_list()
    keys = store.catalogue.item_keys.gather(store.items[:])
    assert keys.to_list() == raw["Description"].str.strip_chars().to_list()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_log(tmp_path):
    """Three times the rows of the same users and items, 8 and 24 million: only polars' read-ahead may still fill up.

    A step that collects rows, such as a `replace_strict` or a streaming group-by of many groups, more than doubles the
    peak. VmHWM and not ru_maxrss, which a child inherits from the test runner.
    """
    config = replace(taobao_scale(), users=20_000, items=20_000, categories=200)
    once = tmp_path / "once.csv"
    lines = write_taobao_csv(config, once)
    assert lines > 1_800_000
    program = (
        "import sys; from recsys.data.ingest import ingest\n"
        "report = ingest('taobao', sys.argv[1], sys.argv[2])\n"
        "status = dict(line.split(':') for line in open('/proc/self/status'))\n"
        "print(report.rows_kept, status['VmHWM'].split()[0])"
    )
    peaks = []
    for copies in (4, 12):
        path = tmp_path / "log.csv"
        with path.open("wb") as file:
            for _ in range(copies):
                file.write(once.read_bytes())
        command = [sys.executable, "-c", program, str(path), str(tmp_path / f"s{copies}")]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        rows, peak = map(int, done.stdout.split())
        assert rows == lines * copies
        peaks.append(peak)
    assert peaks[1] < 1.7 * peaks[0], peaks
