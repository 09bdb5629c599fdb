"""Append and List over gRPC, on a real Redis."""

from datetime import UTC, datetime, timedelta

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from recollect.embedded.redis import EmbeddedRedis
from recollect_api import Event, EventType, InvalidRequest, RecollectClient, Unavailable
from recollect_api.v1 import histories_pb2, histories_pb2_grpc

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)


def event(item_id, seconds=0, **fields):
    return Event(item_id=item_id, time=BEGIN + timedelta(seconds=seconds), **fields)


def items(page):
    return [behaviour.item_id for behaviour in page.behaviours]


def test_what_is_appended_is_listed_newest_first(client, user):
    result = client.append(user, [event(1, 1), event(3, 3, type=EventType.PURCHASE), event(2, 2)], request_id="call-1")
    assert (result.accepted, result.duplicates, result.rejected) == (3, 0, ())
    assert (result.history_version, result.history_length, result.request_id) == (1, 3, "call-1")
    page = client.list_history(user)
    assert items(page) == [3, 2, 1]
    assert (page.behaviours[0].type, page.behaviours[0].time) == (EventType.PURCHASE, BEGIN + timedelta(seconds=3))
    assert (page.history_version, page.history_length, page.next_page_token) == (1, 3, "")


def test_a_repeated_append_stores_nothing_twice(client, user):
    events = [event(1, event_id="a"), event(1, event_id="b")]
    assert client.append(user, events).accepted == 2
    again = client.append(user, events)
    assert (again.accepted, again.duplicates, again.history_version, again.history_length) == (0, 2, 1, 2)


def test_events_that_cannot_be_stored_come_back_with_reasons_and_the_others_are_stored(gateway, user):
    good = Timestamp(seconds=1_700_000_000)
    request = histories_pb2.AppendRequest(
        user_id=user,
        events=[
            histories_pb2.Event(item_id=1, time=good, type=1),
            histories_pb2.Event(item_id=2, type=1),
            histories_pb2.Event(item_id=-3, time=good, type=1),
            histories_pb2.Event(item_id=4, time=good, type=99),
            histories_pb2.Event(item_id=5, time=Timestamp(seconds=4_000_000_000), type=1),
            histories_pb2.Event(item_id=6, time=Timestamp(seconds=2**62), type=1),
            histories_pb2.Event(item_id=7, time=good, type=1, event_id="e" * 129),
            histories_pb2.Event(item_id=8, time=good, type=4),
        ],
    )
    with grpc.insecure_channel(gateway.address) as channel:
        response = histories_pb2_grpc.HistoriesStub(channel).Append(request, timeout=30)
    assert (response.accepted, response.duplicates, response.history_length) == (2, 0, 2)
    reasons = {each.index: each.reason for each in response.rejected}
    assert list(reasons) == [1, 2, 3, 4, 5, 6]
    says = ["time is missing", "got -3", "got 99", "correct the clock", "1970 to 9999", "at most 128 bytes, got 129"]
    for reason, expected in zip(reasons.values(), says, strict=True):
        assert expected in reason


def test_a_batch_without_one_good_event_reports_the_history_as_it_is(client, gateway, user):
    client.append(user, [event(1)])
    request = histories_pb2.AppendRequest(user_id=user, events=[histories_pb2.Event(item_id=2, type=1)])
    with grpc.insecure_channel(gateway.address) as channel:
        response = histories_pb2_grpc.HistoriesStub(channel).Append(request, timeout=30)
    assert (response.accepted, response.history_version, response.history_length) == (0, 1, 1)


@pytest.mark.parametrize("page_size", [1, 2, 3, 6, 7, 100])
def test_pages_list_every_behaviour_once_even_within_one_millisecond(client, user, page_size):
    stored = [event(item, seconds=0 if 2 <= item <= 5 else item) for item in range(1, 8)]
    client.append(user, stored)
    listed = [behaviour.item_id for behaviour in client.history(user, page_size=page_size)]
    assert sorted(listed) == list(range(1, 8))
    assert listed == [7, 6, 1, 5, 4, 3, 2]


def test_pages_go_on_where_they_stopped_while_new_behaviours_arrive(client, user):
    client.append(user, [event(item, item) for item in range(1, 6)])
    first = client.list_history(user, page_size=2)
    client.append(user, [event(99, 99)])
    second = client.list_history(user, page_size=2, page_token=first.next_page_token)
    third = client.list_history(user, page_size=2, page_token=second.next_page_token)
    assert (items(first), items(second), items(third)) == ([5, 4], [3, 2], [1])
    assert third.next_page_token == ""
    assert (first.history_version, second.history_version) == (1, 2)


def test_a_page_that_ends_with_the_history_has_no_next_page(client, user):
    client.append(user, [event(item, item) for item in range(1, 5)])
    first = client.list_history(user, page_size=2)
    second = client.list_history(user, page_size=2, page_token=first.next_page_token)
    assert (items(second), second.next_page_token) == ([2, 1], "")


def test_a_user_without_a_history_has_an_empty_page(client, user):
    page = client.list_history(user)
    assert (page.behaviours, page.history_version, page.history_length) == ((), 0, 0)


def test_another_users_page_token_is_refused(client, user):
    client.append(user, [event(item, item) for item in range(3)])
    token = client.list_history(user, page_size=1).next_page_token
    with pytest.raises(InvalidRequest) as refused:
        client.list_history("somebody else", page_token=token)
    assert [violation.field for violation in refused.value.violations] == ["page_token"]


def test_a_lost_redis_refuses_append_and_list(start_gateway, tmp_path, user):
    server = EmbeddedRedis(tmp_path / "redis")
    server.start()
    try:
        with RecollectClient(start_gateway(redis_url=server.url).address, timeout_s=30) as client:
            client.append(user, [event(1)])
            server.stop()
            with pytest.raises(Unavailable, match="nothing was stored") as append:
                client.append(user, [event(2)])
            with pytest.raises(Unavailable) as listing:
                client.list_history(user)
            assert append.value.reason == listing.value.reason == "HISTORY_UNAVAILABLE"
            server.start()
            assert items(client.list_history(user)) == [1]
    finally:
        server.stop()
