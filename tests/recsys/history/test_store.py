"""What a history promises, against a list in Python that keeps the same promises, on real servers."""

import asyncio
from collections.abc import Callable, Coroutine
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis

from recsys.data.event_store import EventType
from recsys.history import Append, AppendResult, EventBatch, History, HistoryConfig, HistoryStore
from recsys.history.scripts import APPEND

T = TypeVar("T")
NOW = 1_700_000_000_000
Event = tuple[int, int, int, str]
"""Time, item, type, event id."""


def run(scenario: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(scenario)


def open_store(url: str, **config: Any) -> HistoryStore:
    config.setdefault("timeout_s", 60.0)  # many TLS handshakes at once take a busy machine seconds
    return HistoryStore(url, config=HistoryConfig(**config), clock=lambda: NOW)


def batch_of(events: list[Event]) -> EventBatch:
    return EventBatch.of(
        [item for _, item, _, _ in events],
        [time for time, _, _, _ in events],
        [kind for _, _, kind, _ in events],
        [event_id for _, _, _, event_id in events],
    )


def rows(history: History) -> list[tuple[int, int, int]]:
    return list(zip(history.times_ms.tolist(), history.item_ids.tolist(), history.types.tolist(), strict=True))


class ListOfEvents:
    """The rules of a history, in the plainest form."""

    def __init__(self, cap: int) -> None:
        self.cap = cap
        self.events: list[Event] = []
        self.version = 0

    def append(self, batch: list[Event]) -> tuple[int, int, list[int]]:
        floor = self.events[0][0] if len(self.events) == self.cap else -1
        before, fresh, duplicates, late = set(self.events), [], 0, []
        seen: set[Event] = set()
        for index, event in enumerate(batch):
            if event in seen or event in before:
                duplicates += 1
            elif event[0] <= floor:
                late.append(index)
            else:
                fresh.append(event)
            seen.add(event)
        if fresh:
            self.events = sorted(self.events + fresh, key=lambda event: event[0])[-self.cap :]
            self.version += 1
        return len(fresh), duplicates, late


@pytest.mark.parametrize("longest", [4, 25], ids=["small-batches", "large-batches"])
def test_histories_behave_as_a_list_of_events(
    each_redis_server: Any, admin_of: Callable[[str], Any], longest: int
) -> None:
    event = st.tuples(st.integers(0, 12), st.integers(0, 2), st.integers(0, 1), st.sampled_from(["", "a"]))
    batches = st.lists(st.lists(event, max_size=longest), max_size=10)

    @settings(deadline=None, max_examples=60)
    @given(cap=st.sampled_from([1, 2, 3, 5, 8, 17, 40]), batches=batches, before=st.integers(0, 14))
    def check(cap: int, batches: list[list[Event]], before: int) -> None:
        async def scenario() -> None:
            model = ListOfEvents(cap)
            with admin_of(each_redis_server.url) as admin:
                admin.flushall()
            async with open_store(each_redis_server.url, cap=cap, prefix="model:") as store:
                for batch in batches:
                    accepted, duplicates, late = model.append(batch)
                    result = await store.append("u", batch_of(batch))
                    assert (result.accepted, result.duplicates) == (accepted, duplicates)
                    assert [index for index, _ in result.rejected] == late
                    assert (result.version, result.length) == (model.version, len(model.events))
                    history = await store.read("u", limit=100)
                    assert rows(history) == [kept[:3] for kept in model.events]
                    assert (history.version, history.length) == (model.version, len(model.events))
                for limit in (1, 3, 100):
                    earlier = [kept[:3] for kept in model.events if kept[0] < before]
                    assert rows(await store.read("u", limit=limit, before_ms=before)) == earlier[-limit:]

        run(scenario())

    check()


def test_a_retry_is_applied_once_even_when_its_events_were_trimmed_since(each_redis_url: str) -> None:
    async def scenario() -> None:
        async with open_store(each_redis_url, cap=4) as store:
            first = EventBatch.of([1, 2], [10, 10])
            await store.append("u", first)
            assert (await store.append("u", first)).duplicates == 2
            await store.append("u", EventBatch.of([3, 4, 5], [10, 10, 10]))  # pushes event 1 out, at its own time
            retried = await store.append("u", first)
            assert (retried.accepted, retried.duplicates) == (0, 1)
            assert retried.rejected == [(0, "too late: not later than the oldest of the 4 events that are kept")]
            assert (await store.read("u", limit=9)).item_ids.tolist() == [2, 3, 4, 5]

    run(scenario())


def test_bad_events_are_rejected_and_the_good_ones_of_the_call_are_stored(each_redis_url: str) -> None:
    async def scenario() -> AppendResult:
        async with open_store(each_redis_url, max_clock_skew_ms=1_000) as store:
            items, times = [1, -1, 3, 4, 5], [NOW + 1_000, 10, NOW + 1_001, 10, 2**50]
            result = await store.append("u", EventBatch.of(items, times, [1, 1, 1, 77, 1]))
            assert rows(await store.read("u", limit=9)) == [(NOW + 1_000, 1, 1)]
            return result

    result = run(scenario())
    assert (result.accepted, result.version, result.length) == (1, 1, 1)
    reasons = dict(result.rejected)
    assert list(reasons) == [1, 2, 3, 4]
    assert "item_id" in reasons[1]
    assert str(NOW + 1_001) in reasons[2]
    assert "77" in reasons[3]
    assert "2^48" in reasons[4]


def test_an_unknown_user_and_an_empty_batch(each_redis_url: str) -> None:
    async def scenario() -> None:
        async with open_store(each_redis_url) as store:
            nobody = await store.read("nobody", limit=5)
            assert (len(nobody), nobody.version, nobody.length) == (0, 0, 0)
            assert nobody.item_ids.dtype == np.int64
            assert await store.append("nobody", EventBatch.of([], [])) == AppendResult(
                accepted=0, duplicates=0, rejected=[], version=0, length=0
            )
            assert (await store.delete("nobody")).behaviours == 0

    run(scenario())


def test_append_many_gives_every_user_their_own_result(each_redis_url: str) -> None:
    async def scenario() -> None:
        async with open_store(each_redis_url) as store:
            await store.append("b", EventBatch.of([1], [1]))
            appends = [("a}{b", [1, 2]), ("b", [1]), ("ü", [-1]), ("b", [1, 2])]
            results = await store.append_many(
                [Append(user_id=user, events=EventBatch.of(items, range(1, len(items) + 1))) for user, items in appends]
            )
            told = [(r.accepted, r.duplicates, len(r.rejected)) for r in results if isinstance(r, AppendResult)]
            assert told == [(2, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0)]
            assert (await store.read("a}{b", limit=5)).item_ids.tolist() == [1, 2]
            assert await store.append_many([]) == []

    run(scenario())


def test_concurrent_appends_lose_nothing_and_repeat_nothing(each_redis_url: str) -> None:
    """Six connections send overlapping parts of the same 300 events, in any order."""
    generator = np.random.default_rng(7)
    parts = [generator.permutation(300)[:150] for _ in range(11)] + [np.arange(300)]

    async def send(part: np.ndarray) -> int:
        async with open_store(each_redis_url) as store:
            results = [await store.append("u", EventBatch.of(some, some // 3)) for some in np.array_split(part, 15)]
            return sum(result.accepted for result in results)

    async def scenario() -> None:
        accepted = await asyncio.gather(*map(send, parts))
        assert sum(accepted) == 300
        async with open_store(each_redis_url) as store:
            history = await store.read("u", limit=1_000)
        assert sorted(history.item_ids.tolist()) == list(range(300))
        assert all(a <= b for a, b in pairwise(history.times_ms.tolist()))

    run(scenario())


def test_reads_beside_appends_are_whole(each_redis_url: str) -> None:
    """Event n takes version n: whatever is read belongs to one version."""

    async def write() -> None:
        async with open_store(each_redis_url, cap=200) as store:
            for version in range(1, 501):
                await store.append("u", EventBatch.of([version], [version]))

    async def read(reads: int) -> set[int]:
        async with open_store(each_redis_url, cap=200) as store:
            seen = set()
            for _ in range(reads):
                history = await store.read("u", limit=50)
                newest = history.version
                assert history.item_ids.tolist() == list(range(max(1, newest - 49), newest + 1))
                assert history.length == min(200, newest)
                seen.add(newest)
            return seen

    async def scenario() -> None:
        _, *seen = await asyncio.gather(write(), read(300), read(300))
        assert len(set.union(*seen)) > 1

    run(scenario())


def test_a_read_that_an_append_came_between_is_read_again(each_redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with open_store(each_redis_url) as store:
            await store.append("u", EventBatch.of([1, 2], [1, 2]))

            async def torn(*commands: Any) -> list[Any]:
                head = b"\2\1\0\0\0\0\0\0\1\0\0\0"
                return [head, 30, b"torn", head.replace(b"\2\1", b"\2\2")]

            monkeypatch.setattr(store._connection, "together", torn)
            assert (await store.read("u", limit=1)).item_ids.tolist() == [2]

    run(scenario())


def test_a_retry_while_connections_are_lost_is_applied_once(redis_url: str) -> None:
    async def scenario() -> None:
        async with open_store(redis_url) as store:
            await store.append("u", EventBatch.of([1], [1]))
            with Redis.from_url(redis_url) as admin:
                admin.client_kill_filter(_type="normal", skipme=True)
            assert (await store.append("u", EventBatch.of([1], [1]))).duplicates == 1

    run(scenario())


def test_scripts_come_back_after_a_script_flush(each_redis_url: str, admin_of: Any) -> None:
    async def scenario() -> None:
        async with open_store(each_redis_url) as store:
            with admin_of(each_redis_url) as admin:
                await store.append("u", EventBatch.of([1], [1]))
                admin.script_flush()
                assert (await store.read("u", limit=5)).length == 1
                admin.script_flush()
                appends = [Append(user_id=user, events=EventBatch.of([2], [2])) for user in ("u", "v")]
                results = await store.append_many(appends)
                assert [r.length for r in results if isinstance(r, AppendResult)] == [2, 1]
                assert admin.script_exists(APPEND.digest) == [True]

    run(scenario())


def test_an_operators_expiry_outlives_appends_and_trims(each_redis_url: str, admin_of: Any) -> None:
    async def scenario() -> None:
        async with open_store(each_redis_url, cap=2) as store:
            await store.append("u", EventBatch.of([1], [1]))
            with admin_of(each_redis_url) as admin:
                admin.expire(store.key_of("u"), 1_000)
                for time in range(2, 9):
                    await store.append("u", EventBatch.of([time], [time]))
                assert admin.ttl(store.key_of("u")) > 0

    run(scenario())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param({"cap": 0}, "cap must be positive, got 0", id="cap"),
        pytest.param({"prefix": "a{b"}, "prefix must be some text", id="prefix"),
        pytest.param({"max_clock_skew_ms": -1}, "max_clock_skew_ms must be 0 or more", id="skew"),
    ],
)
def test_settings_that_cannot_work_are_refused(make: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HistoryConfig(**make)


def test_arguments_that_cannot_work_are_refused(redis_url: str) -> None:
    async def scenario() -> None:
        async with open_store(redis_url) as store:
            with pytest.raises(ValueError, match="limit must be 1 or more, got 0"):
                await store.read("u", limit=0)
            with pytest.raises(ValueError, match="user_id must not be empty"):
                await store.read("", limit=1)

    run(scenario())


@pytest.mark.parametrize("batch", [10_000, 20, 1], ids=["at-once", "in-parts", "one-by-one"])
def test_ten_thousand_events_take_at_most_20_bytes_each(each_redis_url: str, admin_of: Any, batch: int) -> None:
    """However they came in: a string that grows would be given twice its size by Redis."""
    count = 10_000

    async def scenario() -> float:
        async with open_store(each_redis_url) as store:
            whole = 9_000 if batch == 1 else 0  # the rest shows what growing one by one takes
            await store.append("u", EventBatch.of(range(whole), range(whole)))
            for begin in range(whole, count, batch):
                some = np.arange(begin, begin + batch)
                await store.append("u", EventBatch.of(some, some))
            for request in range(200):  # what is remembered of requests is part of what a user takes
                await store.append("u", EventBatch.of([count - 1], [count - 1]), request_id=f"r{request}")
            assert (await store.read("u", limit=count)).item_ids.tolist() == list(range(count))
            with admin_of(each_redis_url) as admin:
                keys = store.config.keys_of("u")
                return sum(int(admin.memory_usage(key, samples=0) or 0) for key in keys) / count

    assert 18 <= run(scenario()) <= 20


def test_reading_by_type_gives_the_latest_of_these_types(each_redis_url: str) -> None:
    async def scenario() -> None:
        async with open_store(each_redis_url) as store:
            await store.append("u", EventBatch.of(range(9), range(9), [index % 3 for index in range(9)]))
            carts = await store.read("u", limit=2, types=[EventType.CART])
            assert (carts.item_ids.tolist(), carts.length) == ([5, 8], 9)
            early = await store.read("u", limit=3, types={EventType.CART, EventType.CLICK}, before_ms=7)
            assert early.item_ids.tolist() == [2, 4, 5]
            assert len(await store.read("u", limit=3, types=[EventType.PURCHASE])) == 0

    run(scenario())


def test_stats_say_what_a_user_has(each_redis_url: str) -> None:
    async def scenario() -> None:
        async with open_store(each_redis_url) as store:
            await store.append("u", EventBatch.of([1, 2, 3], [10, 20, 30], [1, 4, 1]))
            stats = await store.stats("u")
            assert (stats.version, stats.length, stats.first_ms, stats.last_ms) == (1, 3, 10, 30)
            assert stats.by_type == {EventType.CLICK: 2, EventType.PURCHASE: 1}
            assert 3 * 18 < stats.memory_bytes < 400
            assert stats.deletion is None
            await store.delete("u")
            stats = await store.stats("u")
            assert (stats.length, stats.by_type, stats.first_ms, stats.memory_bytes) == (0, {}, None, 0)
            assert stats.deletion is not None
            assert stats.deletion.time_ms == NOW

    run(scenario())
