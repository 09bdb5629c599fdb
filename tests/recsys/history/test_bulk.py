"""Filling Redis from an event store: whole, twice, after an interruption, and beside live events."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recsys.data.event_store import EventStore
from recsys.data.ingest import ingest
from recsys.errors import DataError
from recsys.history import EventBatch, HistoryConfig, HistoryStore, bulk

MakeStore = Callable[..., EventStore]
NOW = 10_000


def open_store(url: str, cap: int = 50_000) -> HistoryStore:
    config = HistoryConfig(cap=cap, timeout_s=10.0, max_clock_skew_ms=0)
    return HistoryStore(url, config=config, clock=lambda: NOW)


def test_every_user_gets_the_items_of_their_events(each_redis_url: str, make_event_store: MakeStore) -> None:
    events = make_event_store({"ann": [(1, 10, 1), (2, 20, 4)], "bob": [(3, 5, 2)], "cy": []})

    async def scenario() -> None:
        async with open_store(each_redis_url) as store:
            seen: list[tuple[int, int]] = []
            result = await store.load(events, progress=lambda done, total: seen.append((done, total)))
            assert (result.users, result.accepted, result.duplicates, result.resumed_at) == (3, 3, 0, 0)
            assert seen == [(0, 3), (3, 3)]
            ann = await store.read("ann", limit=9)
            assert (ann.item_ids.tolist(), ann.times_ms.tolist(), ann.types.tolist()) == ([101, 102], [10, 20], [1, 4])
            assert (await store.read("cy", limit=9)).version == 0

    asyncio.run(scenario())


def test_loading_twice_changes_nothing(each_redis_url: str, make_event_store: MakeStore) -> None:
    events = make_event_store({f"u{u}": [(1 + e % 9, e // 2, 1) for e in range(40)] for u in range(5)})

    async def scenario() -> None:
        async with open_store(each_redis_url, cap=30) as store:
            first = await store.load(events)
            before = [await store.read(f"u{u}", limit=99) for u in range(5)]
            again = await store.load(events)
            after = [await store.read(f"u{u}", limit=99) for u in range(5)]
        assert (first.accepted, again.accepted, again.duplicates) == (150, 0, 150)
        assert [history.version for history in after] == [1] * 5
        assert [h.item_ids.tolist() for h in before] == [h.item_ids.tolist() for h in after]
        assert before[0].times_ms.tolist() == [e // 2 for e in range(10, 40)]

    asyncio.run(scenario())


def test_live_events_stay_and_are_joined_in_order(each_redis_url: str, make_event_store: MakeStore) -> None:
    events = make_event_store({"u": [(1, 10, 1), (2, 20, 1), (3, 30, 1), (4, 40, 1)]})

    async def scenario() -> None:
        async with open_store(each_redis_url, cap=4) as store:
            await store.append("u", EventBatch.of([900, 102, 901], [15, 20, 50]))  # 102 is in the store, too
            result = await store.load(events)
            assert (result.accepted, result.duplicates) == (3, 1)
            history = await store.read("u", limit=9)
            assert history.item_ids.tolist() == [102, 103, 104, 901]
            assert (await store.load(events)).expired == 1
            assert (await store.read("u", limit=9)).version == history.version

    asyncio.run(scenario())


def test_an_interrupted_load_goes_on_where_it_stopped(
    each_redis_url: str, make_event_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "USERS_A_TRIP", 2)
    events = make_event_store({f"u{u}": [(1, 10, 1)] for u in range(7)})

    def interrupt(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    async def scenario() -> None:
        async with open_store(each_redis_url) as store:
            with pytest.raises(KeyboardInterrupt):
                await store.load(events, progress=interrupt)
            assert (await store.read("u4", limit=1)).length == 0
            rest = await store.load(events)
            assert (rest.resumed_at, rest.users, rest.accepted) == (4, 3, 3)
            assert (await store.load(events)).resumed_at == 0  # a load that ended leaves no mark

    async def other_load() -> None:
        async with open_store(each_redis_url) as store:
            with pytest.raises(KeyboardInterrupt):
                await store.load(events, progress=interrupt)
            assert (await store.load(events, users=["u6", "u0"])).resumed_at == 0  # a mark is that of one load
            assert (await store.load(events, resume=False)).resumed_at == 0

    asyncio.run(scenario())
    asyncio.run(other_load())


def test_trips_are_bounded_by_events_and_users(
    redis_url: str, make_event_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "EVENTS_A_TRIP", 10)
    sizes = {"a": 4, "b": 6, "c": 1, "d": 25, "e": 0, "f": 3}
    events = make_event_store({user: [(1, time, 1) for time in range(size)] for user, size in sizes.items()})

    async def scenario() -> list[int]:
        done: list[int] = []
        async with open_store(redis_url) as store:
            await store.load(events, progress=lambda now, _: done.append(now))
            lengths = {user: (await store.read(user, limit=99)).length for user in sizes}
        assert lengths == sizes
        return done

    assert asyncio.run(scenario()) == [0, 2, 3, 4, 6]  # {a b} {c} {d} {e f}: d alone exceeds a trip


def test_what_cannot_be_loaded_is_counted(each_redis_url: str, make_event_store: MakeStore) -> None:
    log = [(0, 5, 1), (1, -3, 1), (1, 7, 1), (1, 7, 1), (2, 7, 1), (1, 8, 200), (3, NOW + 1, 1)]
    events = make_event_store({"a": [(1, 7, 1)], "u": log})

    async def scenario() -> None:
        async with open_store(each_redis_url) as store:
            result = await store.load(events)
            assert (result.unknown, result.rejected, result.duplicates, result.accepted) == (1, 3, 0, 4)
            assert result.first_rejection is not None
            assert result.first_rejection.startswith("user 'u': time_ms must be in [0, 2^48), got -3")
            assert (await store.read("u", limit=9)).item_ids.tolist() == [101, 101, 102]

    asyncio.run(scenario())


def test_events_that_a_log_repeats_are_all_loaded_and_loaded_once(
    each_redis_url: str, make_event_store: MakeStore
) -> None:
    events = make_event_store({"a": [(1, 7, 1)] * 3, "b": [(1, 7, 1), (2, 7, 1), (1, 7, 1), (1, 7, 4), (1, 9, 1)]})

    async def scenario() -> None:
        async with open_store(each_redis_url) as store:
            await store.append("a", EventBatch.of([101], [7]))  # came in live before: the first of the three
            first, again = await store.load(events), await store.load(events)
            assert (first.accepted, first.duplicates, again.accepted, again.duplicates) == (7, 1, 0, 8)
            assert (await store.read("a", limit=9)).item_ids.tolist() == [101, 101, 101]
            history = await store.read("b", limit=9)
            assert history.item_ids.tolist() == [101, 102, 101, 101, 101]
            assert history.types.tolist() == [1, 1, 1, 4, 1]

    asyncio.run(scenario())


def test_a_user_whom_the_store_does_not_have_is_named(redis_url: str, make_event_store: MakeStore) -> None:
    events = make_event_store({"u": [(1, 5, 1)]})

    async def scenario(users: list[str]) -> Any:
        async with open_store(redis_url) as store:
            return await store.load(events, users=users)

    with pytest.raises(DataError, match=r"1 of 2 users are not in event store .*'ghost'"):
        asyncio.run(scenario(["u", "ghost"]))
    assert asyncio.run(scenario(["u"])).users == 1


def test_real_histories_are_loaded_event_for_event(redis_url: str, online_retail: Path, tmp_path: Path) -> None:
    """Invoices repeat lines within a minute: a served history that dropped them would not be the model's."""
    ingest("online-retail", online_retail, tmp_path / "store")
    events = EventStore(tmp_path / "store")
    ids = events.catalogue.item_ids[events.items]

    async def scenario() -> None:
        async with HistoryStore(redis_url, config=HistoryConfig(timeout_s=10.0)) as store:
            assert (await store.load(events)).accepted == len(events)
            for user in range(0, events.n_users, 10):
                history, expected = await store.read(events.user_ids[user], limit=50_000), events.history(user)
                assert history.item_ids.tolist() == ids[expected].tolist()
                assert history.times_ms.tolist() == events.times[expected].tolist()

    asyncio.run(scenario())
