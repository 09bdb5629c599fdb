"""Appends of many users, deletion and statistics over gRPC, on a real Redis."""

import asyncio
import json
import threading
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from redis import Redis

from recollect.embedded.redis import EmbeddedRedis
from recollect_api import (
    Append,
    AppendResult,
    AsyncRecollectClient,
    DegradedReason,
    ErasureState,
    Event,
    EventType,
    InvalidRequest,
    RecollectClient,
    ServerFault,
    Unavailable,
)
from recsys.data import event_store
from recsys.data.catalogue import Catalogue
from recsys.data.event_store import StoreManifest
from recsys.history import EventSource

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
BEGIN_MS = int(BEGIN.timestamp() * 1000)


def event(item_id, seconds=0, **fields):
    return Event(item_id=item_id, time=BEGIN + timedelta(seconds=seconds), **fields)


def items(page):
    return [behaviour.item_id for behaviour in page.behaviours]


@pytest.fixture
def events(tmp_path):
    """An event store in which ann clicked item 7 and bought item 8, a second apart."""
    directory = tmp_path / "shop"
    directory.mkdir()
    np.save(directory / event_store.OFFSETS_FILE, np.array([0, 2]))
    np.save(directory / event_store.ITEMS_FILE, np.array([1, 2], dtype=np.int32))
    np.save(directory / event_store.TIMES_FILE, np.array([BEGIN_MS, BEGIN_MS + 1_000]))
    np.save(directory / event_store.TYPES_FILE, np.array([1, 4], dtype=np.uint8))
    pl.DataFrame({"user_id": ["ann"]}).write_parquet(directory / event_store.USERS_FILE)
    Catalogue(
        item_ids=np.array([-1, 7, 8], dtype=np.int64),
        category_rows=np.array([0, 1, 1], dtype=np.int32),
        category_ids=np.array([-1, 5], dtype=np.int64),
    ).save(directory)
    manifest = StoreManifest(
        n_users=1, n_items=2, n_categories=1, n_events=2, first_time_ms=BEGIN_MS, last_time_ms=BEGIN_MS + 1_000
    )
    (directory / event_store.MANIFEST_FILE).write_text(json.dumps(asdict(manifest)))
    return directory


def test_a_repeated_request_id_changes_nothing_and_says_so(client, user):
    first = client.append(user, [event(1, 1)], request_id="r")
    again = client.append(user, [event(1, 1)], request_id="r")
    assert (first.already_applied, again.already_applied, again.accepted, again.duplicates) == (False, True, 0, 0)
    other = client.append(user, [event(2, 2)], request_id="r")
    assert "was used for other events" in other.rejected[0].reason
    assert items(client.list_history(user)) == [1]


def test_many_users_each_with_an_outcome(client, user):
    other = f"{user} other"
    outcomes = client.append_many(
        [
            Append(user_id=user, events=[event(1, 1), event(-2, 2)], request_id="a"),
            Append(user_id="", events=[event(1, 1)], request_id="b"),
            Append(user_id=other, events=[event(3, 3)]),
            Append(user_id=user, events=[event(1, 1), event(4, 4)]),
            Append(user_id=other, events=[]),
        ]
    )
    first, nobody, third, fourth, empty = outcomes
    assert isinstance(first, AppendResult)
    assert (first.accepted, first.rejected[0].index, first.request_id) == (1, 1, "a")
    assert isinstance(nobody, InvalidRequest)
    assert (nobody.reason, nobody.request_id) == ("INVALID_REQUEST", "b")
    assert [violation.field for violation in nobody.violations] == ["user_id"]
    assert (third.accepted, fourth.accepted, fourth.duplicates) == (1, 1, 1)
    assert "events: must not be empty" in str(empty)
    assert (items(client.list_history(user)), items(client.list_history(other))) == ([4, 1], [3])


@pytest.mark.parametrize(
    ("appends", "says"),
    [
        pytest.param([], "must not be empty", id="none"),
        pytest.param([Append(user_id="u", events=[])] * 1_001, "at most 1,000, got 1,001", id="too many"),
        pytest.param([Append(user_id="u", events=[event(1)] * 1_000)] * 11, "10,000 events, got 11,000", id="events"),
    ],
)
def test_too_many_at_once_are_refused_whole(client, appends, says):
    with pytest.raises(InvalidRequest, match=says):
        client.append_many(appends)


def test_one_history_that_cannot_be_written_harms_no_other(client, gateway, user):
    gateway.run(gateway.store._connection.command("SET", gateway.store.key_of(user), b"not a history"))
    bad, good = client.append_many([Append(user_id=name, events=[event(1)]) for name in (user, f"{user} other")])
    assert isinstance(bad, ServerFault)
    assert bad.incident
    assert "not a history" not in str(bad)
    assert good.accepted == 1


def test_what_a_stream_brings_is_stored_while_it_is_open(client, user, eventually):
    stored = threading.Event()

    def appends():
        yield Append(user_id=user, events=[event(1, 1)], request_id="a")
        assert stored.wait(30)
        yield Append(user_id="", events=[event(1, 1)])
        for item in range(2, 500):
            yield Append(user_id=user, events=[event(item, item)])

    def watch():
        eventually(lambda: items(client.list_history(user)) == [1])
        stored.set()

    watching = threading.Thread(target=watch)
    watching.start()
    outcomes = client.append_stream(appends(), timeout_s=60)
    watching.join()
    assert [isinstance(each, AppendResult) for each in outcomes] == [True, False, *[True] * 498]
    assert outcomes[-1].history_length == 499


def test_a_stream_is_answered_after_ten_thousand_appends(client, user, monkeypatch):
    monkeypatch.setattr("recollect.gateway.histories.STREAM_APPENDS", 3)
    outcomes = client.append_stream(Append(user_id=user, events=[event(item, item)]) for item in range(9))
    assert [outcome.accepted for outcome in outcomes] == [1, 1, 1]
    assert items(client.list_history(user)) == [2, 1, 0]


def test_what_a_stream_has_stored_is_told_however_much_of_it_is_refused(client, user, monkeypatch):
    """The answer would pass what a message may hold, and a good append would look as if it were lost."""
    monkeypatch.setattr("recollect.gateway.appends.DETAILED_BYTES", 20_000)
    monkeypatch.setattr("recollect.gateway.appends.OUTCOMES_BYTES", 60_000)
    ahead = [Event(item_id=1, time=datetime(2100, 1, 1, tzinfo=UTC))] * 100
    bad = [Append(user_id=user, events=ahead), Append(user_id="", events=[event(1)])]
    outcomes = client.append_stream([Append(user_id=user, events=[event(7)]), *bad * 3_000])
    stored, first, second = outcomes[:3]
    assert (stored.accepted, len(first.rejected)) == (1, 100)
    assert "correct the clock" in first.rejected[0].reason
    assert [each.field for each in second.violations] == ["user_id"]
    *_, rejected = (each for each in outcomes if isinstance(each, AppendResult))
    *_, refused = (each for each in outcomes if isinstance(each, InvalidRequest))
    assert [each.index for each in rejected.rejected] == list(range(100))
    assert {each.reason for each in rejected.rejected} == {"refused; reason left out"}
    assert (refused.reason, refused.violations) == ("INVALID_REQUEST", ())
    assert 3 < len(outcomes) < 6_001  # no more are taken


def test_a_second_stream_goes_on_where_the_first_one_was_full(client, gateway, user, monkeypatch):
    monkeypatch.setattr("recollect_api.history_calls.MAX_STREAMED", 3)
    appends = (Append(user_id=user, events=[event(item, item)]) for item in range(7))
    assert [len(client.append_stream(appends)) for _ in range(2)] == [3, 3]

    async def scenario():
        async with AsyncRecollectClient(gateway.address, timeout_s=30) as client:
            return [len(await client.append_stream(appends)) for _ in range(2)]

    assert asyncio.run(scenario()) == [1, 0]
    assert items(client.list_history(user)) == [6, 5, 4, 3, 2, 1, 0]


def test_a_second_stream_goes_on_where_the_first_one_had_had_its_time(client, gateway, user, monkeypatch):
    monkeypatch.setattr("recollect_api.history_calls.STREAMED_S", 0.0)
    appends = (Append(user_id=user, events=[event(item, item)]) for item in range(4))
    assert [len(client.append_stream(appends)) for _ in range(2)] == [1, 1]

    async def scenario():
        async with AsyncRecollectClient(gateway.address, timeout_s=30) as client:
            return [len(await client.append_stream(appends)) for _ in range(3)]

    assert asyncio.run(scenario()) == [1, 1, 0]
    assert items(client.list_history(user)) == [3, 2, 1, 0]


def test_the_asynchronous_client_streams_from_either_kind_of_iterator(gateway, user):
    async def scenario():
        async def arriving():
            yield Append(user_id=user, events=[event(1, 1)])

        async with AsyncRecollectClient(gateway.address, timeout_s=30) as client:
            outcomes = await client.append_stream(arriving())
            outcomes += await client.append_stream([Append(user_id=user, events=[event(2, 2)])])
            outcomes += await client.append_many([Append(user_id=user, events=[event(3, 3)])])
            assert [outcome.history_length for outcome in outcomes] == [1, 2, 3]
            assert [each.item_id async for each in client.history(user, types=[EventType.CLICK])] == [3, 2, 1]
            assert (await client.history_stats(user)).history.length == 3
            assert (await client.delete_history(user)).deleted_behaviours == 3

    asyncio.run(scenario())


def test_listing_by_type_and_time_page_by_page(client, user):
    kinds = (EventType.CLICK, EventType.PURCHASE)
    client.append(user, [event(item, item // 4, type=kinds[item % 2]) for item in range(20)])
    bought = client.history(user, page_size=2, types=[EventType.PURCHASE], as_of=BEGIN + timedelta(seconds=3))
    assert sorted(each.item_id for each in bought) == [1, 3, 5, 7, 9, 11]
    token = client.list_history(user, page_size=1, types=[EventType.PURCHASE]).next_page_token
    for other in ({}, {"types": [EventType.CLICK]}, {"types": [EventType.PURCHASE], "as_of": BEGIN}):
        with pytest.raises(InvalidRequest, match="of the same user, types and as_of"):
            client.list_history(user, page_token=token, **other)
    with pytest.raises(InvalidRequest, match=r"types\[1\]: must be one of"):
        client.list_history(user, types=[1, 9])


def test_deleting_takes_a_user_out_of_redis_and_its_file(start_gateway, tmp_path, user):
    with EmbeddedRedis(tmp_path / "redis") as server, Redis.from_url(server.url) as admin:
        admin.config_set("rdbcompression", "no")

        def on_disk():
            files = [path for path in (tmp_path / "redis").rglob("*") if path.is_file()]
            return any(b"HGFEDCBA" in path.read_bytes() for path in files)

        with RecollectClient(start_gateway(redis_url=server.url).address, timeout_s=30) as client:
            client.append(user, [event(0x4142434445464748, 1)], request_id="r")
            assert on_disk()
            gone = client.delete_history(user, wait=True, request_id="d")
            assert (gone.deleted_behaviours, gone.request_id) == (1, "d")
            assert gone.deletion.redis_log is ErasureState.ERASED
            assert gone.deletion.event_store is ErasureState.NOT_USED
            assert not on_disk()
            assert client.list_history(user).behaviours == ()
            late = client.append(user, [event(0x4142434445464748, 1)], request_id="r")
            assert "deletion" in late.rejected[0].reason
            stats = client.history_stats(user).history
            assert (stats.length, stats.deletion) == (0, gone.deletion)
            client.append(user, [Event(item_id=5, time=datetime.now(UTC))])
            assert items(client.list_history(user)) == [5]


def test_a_rewrite_that_was_not_waited_for_is_done_in_the_background(client, user, eventually):
    client.append(user, [event(1, 1)])
    client.delete_history(user)
    eventually(lambda: client.history_stats(user).history.deletion.redis_log is ErasureState.ERASED)


def test_stats_of_a_user_and_of_the_store(client, user):
    client.append(user, [event(1, 1), event(2, 2, type=EventType.PURCHASE)])
    stats = client.history_stats(user)
    assert (stats.history.version, stats.history.length) == (1, 2)
    assert stats.history.by_type == {EventType.CLICK: 1, EventType.PURCHASE: 1}
    assert (stats.history.first_time, stats.history.last_time) == (
        BEGIN + timedelta(seconds=1),
        BEGIN + timedelta(seconds=2),
    )
    assert stats.history.memory_bytes > 36
    assert stats.store.persistence == "append-only file, fsync everysec"
    assert stats.store.memory_bytes > 0
    assert client.history_stats().history is None


def test_a_user_whom_redis_does_not_have_is_scored_and_listed_from_the_event_store(
    start_gateway, tmp_path, events, user
):
    with EmbeddedRedis(tmp_path / "redis") as server:
        gateway = start_gateway(redis_url=server.url, source=EventSource(events))
        with RecollectClient(gateway.address, timeout_s=30) as client:
            scores = client.score("ann", [7, 9], explain=True)
            assert (scores.history_length, scores.degraded) == (2, ())
            assert items(client.list_history("ann")) == [8, 7]
            gone = client.delete_history("ann").deletion
            assert gone.event_store is ErasureState.PENDING
            Redis.from_url(server.url).flushall()
            assert client.score("ann", [7]).history_length == 0
            assert client.list_history("ann").behaviours == ()


def test_an_event_store_that_cannot_be_used_degrades_scores_and_refuses_what_must_be_whole(
    start_gateway, tmp_path, events, user
):
    with EmbeddedRedis(tmp_path / "redis") as server:
        source = EventSource(events)
        gateway = start_gateway(redis_url=server.url, source=source)
        with RecollectClient(gateway.address, timeout_s=30) as client:
            source.deletions.path.mkdir()
            for length in (0, 1):
                scores = client.score("ann", [7])
                assert (scores.history_length, scores.degraded) == (length, (DegradedReason.HISTORY_UNAVAILABLE,))
                for call in (client.list_history, client.delete_history):
                    with pytest.raises(Unavailable) as refused:
                        call("ann")
                    assert refused.value.reason == "HISTORY_UNAVAILABLE"
                client.append("ann", [event(1)])
            assert client.score(user, [7]).degraded == (DegradedReason.HISTORY_EMPTY,)  # whom the event store has not
            source.deletions.path.rmdir()
            assert set(items(client.list_history("ann"))) == {1, 7, 8}
            client.delete_history("ann")


def test_a_lost_redis_refuses_every_append_and_deletion(start_gateway, tmp_path, user):
    server = EmbeddedRedis(tmp_path / "redis")
    server.start()
    try:
        with RecollectClient(start_gateway(redis_url=server.url).address, timeout_s=30) as client:
            append = Append(user_id=user, events=[event(1)], request_id="r")
            client.append_many([append])
            server.stop()
            for call in (
                lambda: client.append_many([append]),
                lambda: client.delete_history(user),
                lambda: client.history_stats(user),
            ):
                with pytest.raises(Unavailable) as refused:
                    call()
                assert refused.value.reason == "HISTORY_UNAVAILABLE"
            (outcome,) = client.append_stream([append])
            assert isinstance(outcome, Unavailable)
            assert (outcome.reason, outcome.request_id) == ("HISTORY_UNAVAILABLE", "r")
            server.start()
            (outcome,) = client.append_stream([append])
            assert outcome.already_applied
    finally:
        server.stop()


def test_a_full_redis_refuses_appends_and_still_answers(start_gateway, tmp_path, user):
    with EmbeddedRedis(tmp_path / "redis") as server, Redis.from_url(server.url) as admin:
        client = RecollectClient(start_gateway(redis_url=server.url).address, timeout_s=5)
        client.append(user, [event(1)])
        admin.config_set("maxmemory", 1)
        with pytest.raises(Unavailable, match="nothing was stored"):
            client.append(user, [event(2)])
        (outcome,) = client.append_many([Append(user_id=user, events=[event(2)])])
        assert isinstance(outcome, Unavailable)
        assert outcome.reason == "HISTORY_UNAVAILABLE"
        assert client.score(user, [1]).history_length == 1
        client.close()
