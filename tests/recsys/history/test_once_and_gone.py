"""A request is applied once, and who was deleted stays deleted: whatever is repeated, late or loaded afterwards."""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from redis import Redis

from recollect.embedded.redis import EmbeddedRedis
from recsys.data.deletions import Deletions
from recsys.data.event_store import EventStore
from recsys.errors import StoreError
from recsys.history import EventBatch, EventSource, HistoryConfig, HistoryStore, LogState

T = TypeVar("T")
MakeStore = Callable[..., EventStore]
NOW = 1_700_000_000_000
GONE = "not later than the deletion of the user's history"


def run(scenario: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(scenario)


def open_store(url: str, *, source: EventSource | None = None, now: int = NOW, **config: Any) -> HistoryStore:
    config.setdefault("timeout_s", 60.0)  # many TLS handshakes at once take a busy machine seconds
    return HistoryStore(url, config=HistoryConfig(**config), clock=lambda: now, source=source)


def test_a_repeated_request_changes_nothing_and_says_so(each_redis_url: str) -> None:
    async def scenario() -> None:
        async with open_store(each_redis_url) as store:
            first = await store.append("u", EventBatch.of([1, -1], [1, 1]), request_id="a")
            assert (first.repeated, first.accepted, first.version) == (False, 1, 1)
            again = await store.append("u", EventBatch.of([1, -1], [1, 1]), request_id="a")
            assert (again.repeated, again.accepted, again.duplicates, again.version) == (True, 0, 0, 1)
            assert [index for index, _ in again.rejected] == [1]
            other = await store.append("v", EventBatch.of([1], [1]), request_id="a")  # another user's is another
            assert other.accepted == 1

    run(scenario())


def test_the_memory_of_requests_is_bounded_and_expires(each_redis_url: str, admin_of: Any) -> None:
    """Three at least and five at most are remembered of a user."""

    async def scenario() -> None:
        async with open_store(each_redis_url, requests_kept=3) as store:
            for number in range(9):
                await store.append("u", EventBatch.of([2], [number]), request_id=f"{number}")
                with admin_of(each_redis_url) as admin:
                    requests = store.config.keys_of("u").requests
                    assert int(admin.strlen(requests)) < 6 * 16
                    assert 0 < int(admin.ttl(requests)) <= store.config.requests_s
            for number in (8, 7, 6):
                assert (await store.append("u", EventBatch.of([2], [number]), request_id=f"{number}")).repeated
            assert not (await store.append("u", EventBatch.of([2], [0]), request_id="0")).repeated

    run(scenario())


def test_a_repeated_request_is_known_after_its_events_were_trimmed(each_redis_url: str) -> None:
    async def scenario() -> None:
        async with open_store(each_redis_url, cap=1) as store:
            await store.append("u", EventBatch.of([1], [1]), request_id="a")
            await store.append("u", EventBatch.of([2], [2]), request_id="b")
            again = await store.append("u", EventBatch.of([1], [1]), request_id="a")
            assert (again.repeated, again.rejected) == (True, [])

    run(scenario())


def test_a_request_id_with_other_events_loses_none_silently(each_redis_url: str) -> None:
    async def scenario() -> None:
        async with open_store(each_redis_url) as store:
            await store.append("u", EventBatch.of([1], [1]), request_id="trace-7")
            other = await store.append("u", EventBatch.of([2, 3], [2, 3]), request_id="trace-7")
            assert (other.repeated, other.accepted, other.length) == (False, 0, 1)
            assert [index for index, _ in other.rejected] == [0, 1]
            assert "request_id 'trace-7' was used for other events" in other.rejected[0][1]

    run(scenario())


def test_one_request_sent_by_many_at_once_is_applied_once(each_redis_url: str) -> None:
    async def scenario() -> None:
        async with open_store(each_redis_url) as store:
            results = await asyncio.gather(
                *(store.append("u", EventBatch.of([1], [1]), request_id="a") for _ in range(40))
            )
            assert sorted(result.repeated for result in results) == [False] + [True] * 39
            assert (await store.read("u", limit=9)).version == 1

    run(scenario())


def test_what_was_deleted_stays_away_and_the_version_goes_on(each_redis_url: str, admin_of: Any) -> None:
    async def scenario() -> None:
        async with open_store(each_redis_url) as store:
            await store.append("u", EventBatch.of([1, 2], [1, NOW + 1_000]), request_id="a")
            await store.append("u", EventBatch.of([3], [3]))
            deletion = await store.delete("u")
            assert (deletion.behaviours, deletion.time_ms, deletion.log) == (3, NOW + 1_000, LogState.PENDING)
            assert len(await store.read("u", limit=5)) == 0
            with admin_of(each_redis_url) as admin:
                assert admin.keys("*") == [store.config.keys_of("u").deletion.encode()]
            late = await store.append("u", EventBatch.of([2, 9, 1], [NOW + 1_000, NOW + 1_001, 1]), request_id="a")
            assert (late.accepted, late.version, late.length) == (1, 3, 1)
            assert late.rejected == [(0, GONE), (2, GONE)]
            assert (await store.read("u", limit=5)).item_ids.tolist() == [9]
            assert (await store.delete("u")).behaviours == 1

    run(scenario())


def test_a_history_that_cannot_be_read_can_be_deleted(each_redis_url: str, admin_of: Any) -> None:
    async def scenario() -> None:
        async with open_store(each_redis_url) as store:
            with admin_of(each_redis_url) as admin:
                admin.set(store.key_of("noted"), "something else, of more than twelve bytes")
                admin.rpush(store.key_of("listed"), "x")
                for user in ("noted", "listed"):
                    assert (await store.delete(user)).behaviours == 0
                    assert not admin.exists(store.key_of(user))

    run(scenario())


def test_a_rewrite_takes_the_deleted_out_of_the_append_only_file(redis_binary: Path, tmp_path: Path) -> None:
    marked = EventBatch.of([0x4142434445464748], [1])  # on the disk: HGFEDCBA
    kept = EventBatch.of([0x6162636465666768], [1])

    def logged(word: bytes) -> bool:
        return any(word in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())

    async def scenario(server: EmbeddedRedis) -> None:
        async with open_store(server.url) as store:
            with Redis.from_url(server.url) as admin:
                admin.config_set("rdbcompression", "no")  # so that bytes can be looked for
            await store.append("u", marked)
            await store.append("v", kept)
            await store.delete("u")
            assert logged(b"HGFEDCBA")
            await store.erase_log(["u"], timeout_s=60)
            assert not logged(b"HGFEDCBA")
            assert logged(b"hgfedcba")
            assert (await store.delete("u")).log is LogState.ERASED  # asking again says how far it is
            await store.append("u", EventBatch.of([5], [NOW + 1]))
            assert (await store.delete("u")).log is LogState.PENDING

    with EmbeddedRedis(tmp_path, binary=redis_binary) as server:
        run(scenario(server))


def test_rewrites_that_two_replicas_ask_for_at_once_erase_for_both(redis_binary: Path, tmp_path: Path) -> None:
    async def scenario(server: EmbeddedRedis) -> None:
        async with open_store(server.url) as one, open_store(server.url) as other:
            for user in ("u", "v"):
                await one.append(user, EventBatch.of([1], [1]))
                await one.delete(user)
            await other.ping()  # both are connected, so that both ask before a rewrite can end
            await asyncio.gather(one.erase_log(["u"], timeout_s=60), other.erase_log(["v"], timeout_s=60))
            assert [(await one.delete(user)).log for user in ("u", "v")] == [LogState.ERASED] * 2

    with EmbeddedRedis(tmp_path, binary=redis_binary) as server:
        run(scenario(server))


def test_a_redis_that_holds_still_while_it_rewrites_is_waited_for(redis_binary: Path, tmp_path: Path) -> None:
    async def scenario(server: EmbeddedRedis) -> None:
        assert server.pid is not None
        async with open_store(server.url, timeout_s=0.25) as store:
            await store.append("u", EventBatch.of([1], [1]))
            await store.delete("u")
            os.kill(server.pid, signal.SIGSTOP)
            try:
                erasing = asyncio.ensure_future(store.erase_log(["u"], timeout_s=60))
                await asyncio.sleep(0.6)
            finally:
                os.kill(server.pid, signal.SIGCONT)
            await erasing
            assert (await store.delete("u")).log is LogState.ERASED

    with EmbeddedRedis(tmp_path, binary=redis_binary) as server:
        run(scenario(server))


def test_a_miss_is_completed_from_the_event_store_once(each_redis_url: str, make_event_store: MakeStore) -> None:
    events = make_event_store({"u": [(1, 10, 1), (2, 20, 1), (2, 20, 1)], "v": [(3, 5, 1)]})

    async def scenario() -> None:
        async with open_store(each_redis_url, source=EventSource(events.directory)) as store:
            history = await store.read("u", limit=2)
            assert (history.item_ids.tolist(), history.length, history.version) == ([102, 102], 3, 1)
            assert (await store.read("u", limit=9, before_ms=20)).item_ids.tolist() == [101]
            assert (await store.read("u", limit=9)).version == 1
            assert (await store.read("nobody", limit=9)).version == 0
            assert (await store.append("u", EventBatch.of([7], [15]))).length == 4
            assert (await store.read("u", limit=9)).item_ids.tolist() == [101, 7, 102, 102]

    run(scenario())


def test_what_came_in_live_after_a_loss_does_not_hide_the_event_store(
    each_redis_url: str, make_event_store: MakeStore
) -> None:
    """The live events carry ids that the log does not have: they are the same events all the same."""
    events = make_event_store({"u": [(1, 10, 1), (2, 20, 1), (3, 20, 1)]})

    async def scenario() -> None:
        async with open_store(each_redis_url, source=EventSource(events.directory)) as store:
            await store.append("u", EventBatch.of([102, 900], [20, 30], [1, 1], ["order-1", "order-2"]))
            assert (await store.read("u", limit=9)).item_ids.tolist() == [101, 102, 103, 900]
            loaded = await store.load(events)
            assert (loaded.accepted, loaded.duplicates) == (0, 3)
            await store.append("live only", EventBatch.of([1], [1]))
            for _ in range(2):
                assert (await store.read("live only", limit=9)).version == 1

    run(scenario())


def test_a_miss_does_not_overwrite_what_is_appended_meanwhile(each_redis_url: str, make_event_store: MakeStore) -> None:
    """Many read a user whom Redis lost while events of that user arrive: nothing is missing and nothing twice."""
    events = make_event_store({"u": [(1, 10 * index, 1) for index in range(200)]})

    async def scenario() -> None:
        async with open_store(each_redis_url, source=EventSource(events.directory)) as store:

            async def append(index: int) -> None:
                assert (await store.append("u", EventBatch.of([index], [10 * index + 5]))).accepted == 1

            async def read() -> None:
                history = await store.read("u", limit=999)
                assert np.count_nonzero(history.times_ms % 10 == 0) == 200

            await asyncio.gather(*(append(index) if index % 2 else read() for index in range(100)))
            assert (await store.read("u", limit=999)).length == 250

    run(scenario())


def test_the_deleted_come_back_neither_by_a_miss_nor_by_a_load_nor_after_a_loss(
    each_redis_url: str, admin_of: Any, make_event_store: MakeStore
) -> None:
    events = make_event_store({"u": [(1, 10, 1), (2, 20, 1)], "v": [(3, 5, 1)]})

    async def scenario() -> None:
        async with open_store(each_redis_url, source=EventSource(events.directory), now=15) as store:
            assert (await store.read("u", limit=9)).length == 2
            await store.append("u", EventBatch.of([9], [18]))
            assert (await store.delete("u")).time_ms == 20
            for lost in (False, True):
                if lost:
                    with admin_of(each_redis_url) as admin:
                        admin.flushall()
                assert len(await store.read("u", limit=9)) == 0
                assert (await store.load(events, resume=False)).deleted == 2
                assert (await store.read("v", limit=9)).length == 1

    run(scenario())


@pytest.mark.parametrize("damage", ["torn", "unreadable"])
def test_a_history_that_the_event_store_cannot_complete_is_what_redis_has(
    each_redis_url: str, make_event_store: MakeStore, damage: str
) -> None:
    """Nothing of the event store is served while nobody knows what of it is deleted."""
    events = make_event_store({"u": [(1, 10, 1)], "v": [(2, 10, 1)]})
    source = EventSource(events.directory)

    async def scenario() -> None:
        async with open_store(each_redis_url, source=source) as store:
            await store.append("u", EventBatch.of([7], [20]))
            if damage == "torn":
                source.deletions.path.write_text("<<<<<<< HEAD\n")
            else:
                source.deletions.path.mkdir()
            for user, expected in (("u", [7]), ("v", [])):
                history = await store.read(user, limit=9)
                assert (history.item_ids.tolist(), history.complete) == (expected, False)
            if damage == "torn":
                source.deletions.path.unlink()
            else:
                source.deletions.path.rmdir()
            for user, expected in (("u", [101, 7]), ("v", [102]), ("nobody", [])):
                history = await store.read(user, limit=9)
                assert (history.item_ids.tolist(), history.complete) == (expected, True)

    run(scenario())


@pytest.mark.parametrize(("store_mode", "mode"), [(0o700, 0o600), (0o750, 0o640), (0o775, 0o664)])
def test_deletions_are_read_by_whoever_reads_the_store(tmp_path: Path, store_mode: int, mode: int) -> None:
    store = tmp_path / "shop"
    store.mkdir()
    store.chmod(store_mode)
    deletions = Deletions(store)
    deletions.path.touch(mode=0o600)  # as they were made before
    deletions.add("u", 1)
    assert deletions.path.stat().st_mode & 0o777 == mode


def test_deletions_outlive_a_torn_line_and_a_replaced_store(tmp_path: Path) -> None:
    store = tmp_path / "shop"
    deletions = Deletions(store)
    assert deletions.times_ms == {}
    deletions.add("ü\n", 5)
    deletions.add("v", 7)
    deletions.add("v", 6)
    with deletions.path.open("ab") as torn:
        torn.write(b'{"user_id": "w", "ti')
    assert Deletions(store).times_ms == {"ü\n": 5, "v": 7}
    deletions.add("w", 8)
    assert deletions.time_of("w") == 8
    assert Deletions(store).times_ms == {"ü\n": 5, "v": 7, "w": 8}
    deletions.path.write_text("nonsense\n")
    with pytest.raises(StoreError, match=r"shop\.deletions\.jsonl, line 1 is no deletion"):
        _ = deletions.times_ms
