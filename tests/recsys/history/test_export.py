"""Histories written back to Parquet, and the sample of what serving scored."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import polars as pl
import pytest

from recsys.data.catalogue import Catalogue
from recsys.data.event_store import EventStore
from recsys.data.ingest import ingest
from recsys.errors import DataError, HistoryError
from recsys.history import EventBatch, ExportResult, HistoryConfig, HistoryStore, export
from recsys.history.serving_log import (
    SCHEMA,
    ServedCall,
    ServingLog,
    ServingLogConfig,
    erase_served,
    export_served,
    parts,
)

NOW = 1_700_000_000_000


def open_store(url: str, **config: Any) -> HistoryStore:
    return HistoryStore(url, config=HistoryConfig(timeout_s=10.0, **config), clock=lambda: NOW)


def test_every_user_is_exported_once_and_in_order(
    each_redis_url: str, tmp_path: Path, make_event_store: Callable[..., EventStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "USERS_A_TRIP", 7)
    path = tmp_path / "new" / "histories.parquet"
    catalogue = make_event_store({"u": [(1, 10, 1)]}).catalogue

    async def scenario() -> ExportResult:
        async with open_store(each_redis_url, cap=4, prefix="a[b*:") as store:
            for user in range(30):
                await store.append(f"}}%7Du{{{user}", EventBatch.of([101, 999], [2, 1], [4, 0]), request_id="r")
            await store.append("full", EventBatch.of(range(6), range(6)))
            await store.append("left", EventBatch.of([1], [1]))
            await store.delete("left")
        async with open_store(each_redis_url, prefix="another:") as other:
            await other.append("u", EventBatch.of([1], [1]))
        done: list[int] = []
        async with open_store(each_redis_url, cap=4, prefix="a[b*:") as store:
            result = await store.export(path, catalogue=catalogue, progress=done.append)
            assert done == [7, 14, 21, 28, 31]
            return result

    result = asyncio.run(scenario())
    assert (result.users, result.events) == (31, 64)
    rows = pl.read_parquet(path)
    assert rows.schema == {
        "user_id": pl.String,
        "item_id": pl.Int64,
        "category_id": pl.Int64,
        "time": pl.Datetime("ms", "UTC"),
        "type": pl.String,
    }
    one = rows.filter(pl.col("user_id") == "}%7Du{3")
    assert one["item_id"].to_list() == [999, 101]
    assert one["category_id"].to_list() == [None, 5]
    assert one["time"].dt.epoch("ms").to_list() == [1, 2]
    assert one["type"].to_list() == ["unspecified", "purchase"]
    assert rows.filter(pl.col("user_id") == "full")["item_id"].to_list() == [2, 3, 4, 5]
    assert [each.name for each in path.parent.iterdir()] == ["histories.parquet"]


def test_an_empty_redis_is_exported_as_no_rows(redis_url: str, tmp_path: Path) -> None:
    async def scenario() -> ExportResult:
        async with open_store(redis_url) as store:
            return await store.export(tmp_path / "none.parquet")

    assert asyncio.run(scenario()).events == 0
    assert pl.read_parquet(tmp_path / "none.parquet").columns == ["user_id", "item_id", "time", "type"]


def test_an_import_takes_all_that_an_export_has(redis_url: str, tmp_path: Path) -> None:
    """Items that the catalogue does not have or does not place, and every type, are there and back."""
    catalogue = Catalogue(
        item_ids=np.array([-1, 7, 8, 9]),
        category_rows=np.array([0, 1, 2, 0], dtype=np.int32),
        category_ids=np.array([-1, 0, 70]),
    )
    events = EventBatch.of([7, 8, 9, 10, 7], [NOW - 5, NOW - 4, NOW - 3, NOW - 2, NOW - 1], [0, 1, 2, 3, 4])

    async def scenario() -> None:
        async with open_store(redis_url) as store:
            await store.append("u", events)
            await store.export(tmp_path / "histories.parquet", catalogue=catalogue)

    asyncio.run(scenario())
    columns = {"user": "user_id", "item": "item_id", "category": "category_id", "type": "type"}
    report = ingest("columns", tmp_path / "histories.parquet", tmp_path / "again", **columns)
    assert (report.rows_kept, report.rejections, report.items_without_category) == (5, (), 2)
    assert report.event_types == {"unspecified": 1, "click": 1, "cart": 1, "favorite": 1, "purchase": 1}
    again = EventStore(tmp_path / "again")
    assert again.catalogue.item_ids[again.items].tolist() == events.item_ids.tolist()
    assert again.times.tolist() == events.times_ms.tolist()
    assert again.types.tolist() == events.types.tolist()
    categories = again.catalogue.category_ids[again.catalogue.category_rows[again.items]]
    assert categories.tolist() == [0, 70, -1, -1, 0]


def test_a_shop_that_tells_no_categories_is_exported_and_imported(redis_url: str, tmp_path: Path) -> None:
    catalogue = Catalogue(
        item_ids=np.array([-1, 7]), category_rows=np.zeros(2, dtype=np.int32), category_ids=np.array([-1])
    )

    async def scenario() -> None:
        async with open_store(redis_url) as store:
            await store.append("u", EventBatch.of([7, 8], [NOW - 2, NOW - 1]))
            await store.export(tmp_path / "histories.parquet", catalogue=catalogue)

    asyncio.run(scenario())
    columns = {"user": "user_id", "item": "item_id", "category": "category_id", "type": "type"}
    report = ingest("columns", tmp_path / "histories.parquet", tmp_path / "again", **columns)
    assert (report.rows_kept, report.n_items, report.n_categories) == (2, 2, 0)


def test_what_cannot_be_exported_leaves_no_file(redis_url: str, admin_of: Any, tmp_path: Path) -> None:
    async def scenario(path: Path) -> None:
        async with open_store(redis_url) as store:
            with admin_of(redis_url) as admin:
                admin.set(store.key_of("u"), "something else, of more than twelve bytes")
            await store.export(path)

    with pytest.raises(HistoryError, match=r"key recollect:history:\{u\}: HISTORYFORMAT"):
        asyncio.run(scenario(tmp_path / "x.parquet"))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write"):
        asyncio.run(scenario(tmp_path / "file" / "x.parquet"))


def served(
    user: str = "u", *, time_ms: int = NOW, candidates: int = 2, history: tuple[int, int] = (5, 6)
) -> ServedCall:
    """For every candidate the last of two behaviours was found, for the first also the other, with more weight."""
    positions, weights = np.full((candidates, 3), -1), np.zeros((candidates, 3), dtype=np.float32)
    positions[:, 1], weights[:, 1] = 1, 1
    positions[0, 2], weights[0] = 0, [0, 0.25, 0.75]
    return ServedCall(
        time_ms=time_ms,
        call="score",
        request_id="r",
        user_id=user,
        as_of_ms=None,
        model="dare/1",
        index=None,
        history_version=3,
        history_item_ids=np.array([11, 12]),
        history_times_ms=np.array(history),
        history_types=np.array([1, 4], dtype=np.uint8),
        item_ids=np.arange(candidates) + 100,
        scores=np.linspace(0, 1, candidates, dtype=np.float32),
        found_positions=positions,
        found_weights=weights,
    )


def open_log(directory: Path, *, rate: float = 1.0, max_bytes: int = 1 << 20) -> ServingLog:
    config = ServingLogConfig(directory=directory, rate=rate, max_bytes=max_bytes)
    return ServingLog(config, random=Random(0))


def test_a_served_call_keeps_what_was_retrieved_for_each_candidate(tmp_path: Path) -> None:
    log = open_log(tmp_path / "log")
    log.add(served())
    assert parts(tmp_path / "log") == []
    log.close()
    log.close()
    assert export_served(tmp_path / "log", tmp_path / "out" / "served.parquet") == 2
    rows = pl.read_parquet(tmp_path / "out" / "served.parquet")
    assert rows.schema == pl.Schema(SCHEMA)
    first, second = rows.rows(named=True)
    assert (first["item_id"], first["user_id"], first["model"], first["history_version"]) == (100, "u", "dare/1", 3)
    assert first["time"].timestamp() * 1_000 == NOW
    assert (first["retrieved_item_ids"], first["retrieved_weights"]) == ([11, 12], [0.75, 0.25])
    assert (first["retrieved_times_ms"], first["retrieved_types"]) == ([5, 6], [1, 4])
    assert (second["retrieved_item_ids"], second["score"], second["as_of"]) == ([12], 1.0, None)


def test_a_call_for_which_nothing_was_retrieved_is_kept_too(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    nothing = served()
    empty = {
        "found_positions": np.empty((2, 0), dtype=np.int64),
        "found_weights": np.empty((2, 0), dtype=np.float32),
    }
    log.add(replace(nothing, **empty))
    log.close()
    assert pl.read_parquet(parts(tmp_path)[0])["retrieved_item_ids"].to_list() == [[], []]


def test_files_are_of_some_size_or_some_age_and_the_oldest_go_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recsys.history.serving_log.PART_ROWS", 10)
    log = open_log(tmp_path)
    for call in range(6):
        log.add(served(time_ms=NOW + call))
    (first,) = parts(tmp_path)
    assert len(pl.read_parquet(first)) == 10
    log.write_old(NOW + 60_004)
    assert len(parts(tmp_path)) == 1
    log.write_old(NOW + 60_005)  # the one that waits is a minute old
    assert len(parts(tmp_path)) == 2
    limit = 2 * first.stat().st_size
    limited = open_log(tmp_path, max_bytes=limit)
    for call in range(20):
        limited.add(served(time_ms=NOW + 100_000 + call))
    limited.close()
    left = parts(tmp_path)
    assert first not in left
    assert 0 < sum(path.stat().st_size for path in left) <= limit


def test_the_share_of_calls_that_are_kept() -> None:
    for rate, expected in ((0.0, 0), (1.0, 1_000)):
        log = open_log(Path("unused"), rate=rate)
        assert sum(log.samples() for _ in range(1_000)) == expected
    log = open_log(Path("unused"), rate=0.1)
    assert 70 < sum(log.samples() for _ in range(1_000)) < 130
    with pytest.raises(ValueError, match=r"rate must be in \[0, 1\], got 2"):
        open_log(Path("unused"), rate=2)


def test_deleted_users_are_taken_out_of_the_log(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    for user, time_ms in (("u", NOW), ("v", NOW)):
        log.add(served(user, time_ms=time_ms))
    log.add(served("u", time_ms=NOW + 5, history=(NOW + 3, NOW + 4)))
    log.close()
    assert erase_served(tmp_path, {"u": NOW, "nobody": NOW}) == 2
    assert export_served(tmp_path, tmp_path / "x.parquet") == 4
    rows = pl.read_parquet(tmp_path / "x.parquet")
    assert sorted(rows["user_id"].to_list()) == ["u", "u", "v", "v"]
    assert rows.filter(pl.col("user_id") == "u")["time"].dt.epoch("ms").unique().to_list() == [NOW + 5]
    assert erase_served(tmp_path / "none", {"u": NOW}) == 0


def test_what_a_call_had_read_before_a_deletion_goes_with_it(tmp_path: Path) -> None:
    """It was answered after the deletion."""
    log = open_log(tmp_path)
    log.add(served("u", time_ms=NOW + 1, history=(NOW - 1, NOW + 1)))
    log.close()
    assert erase_served(tmp_path, {"u": NOW}) == 1
    (kept,) = pl.read_parquet(parts(tmp_path)[0]).rows(named=True)
    assert kept["retrieved_times_ms"] == [NOW + 1]


def test_a_file_that_is_pruned_while_the_deleted_are_taken_out_stays_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, gone = pl.read_parquet, []

    def pruned_meanwhile(path: Path, **options: bool) -> pl.DataFrame:
        """The first before it is read, the second after that."""
        gone.append(path)
        if len(gone) == 1:
            path.unlink()
        rows = read(path, **options)
        if len(gone) == 2:
            path.unlink()
        return rows

    for at in range(3):
        log = open_log(tmp_path)
        log.add(served("u", time_ms=NOW + at))
        log.close()
    *_, last = parts(tmp_path)
    monkeypatch.setattr(pl, "read_parquet", pruned_meanwhile)
    assert erase_served(tmp_path, {"u": NOW + 10}) == 2
    assert parts(tmp_path) == [last]
