"""Wrong requests: every field that is wrong is named at once, with what was given and what to send."""

from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from recollect.gateway.paging import Position, position_of
from recollect.gateway.times import ceil_ms, floor_ms, timestamp
from recollect_api.v1 import histories_pb2, histories_pb2_grpc, recommender_pb2, recommender_pb2_grpc

EVENT = histories_pb2.Event(item_id=1, time=Timestamp(seconds=1), type=1)


@pytest.fixture
def channel(start_gateway) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(start_gateway(max_candidates=3).address) as channel:
        yield channel


def violations_of(call, request):
    """Field → description of what the call is refused with, and its ErrorInfo."""
    with pytest.raises(grpc.RpcError) as refused:
        call(request, timeout=30)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in rpc_status.from_call(refused.value).details:
        detail.Unpack(info)
        detail.Unpack(bad)
    assert (info.reason, info.domain) == ("INVALID_REQUEST", "recollect")
    return {each.field: each.description for each in bad.field_violations}


def score(**fields):
    return recommender_pb2.ScoreRequest(**{"user_id": "u", "item_ids": [1], **fields})


@pytest.mark.parametrize(
    ("request_", "field", "says"),
    [
        pytest.param(score(user_id=""), "user_id", "must not be empty", id="no user"),
        pytest.param(score(user_id="é" * 129), "user_id", "at most 256 bytes, got 258", id="user id too long in bytes"),
        pytest.param(score(item_ids=[]), "item_ids", "must not be empty", id="no candidates"),
        pytest.param(score(item_ids=[1, 2, 3, 4]), "item_ids", "at most 3 candidates, got 4", id="too many candidates"),
        pytest.param(score(item_ids=[1, -7]), "item_ids[1]", "0 or more, got -7", id="negative candidate"),
        pytest.param(
            score(as_of=Timestamp(seconds=-1)), "as_of", "1970 to 9999, got -1 seconds", id="as_of before 1970"
        ),
        pytest.param(score(as_of=Timestamp(seconds=1_700_000_000_000)), "as_of", "check the unit", id="as_of in ms"),
        pytest.param(
            score(as_of=Timestamp(nanos=10**9)), "as_of", "nanos, got 1000000000", id="as_of with wrong nanos"
        ),
        pytest.param(score(request_id="r" * 129), "request_id", "at most 128 bytes, got 129", id="request id too long"),
    ],
)
def test_score_names_the_wrong_field(channel, request_, field, says):
    found = violations_of(recommender_pb2_grpc.RecommenderStub(channel).Score, request_)
    assert list(found) == [field]
    assert says in found[field]


def test_score_names_all_wrong_fields_at_once(channel):
    request = score(user_id="", item_ids=[-1, 2, -3], as_of=Timestamp(seconds=-1), request_id="r" * 200)
    found = violations_of(recommender_pb2_grpc.RecommenderStub(channel).Score, request)
    assert set(found) == {"user_id", "item_ids[0]", "item_ids[2]", "as_of", "request_id"}


def test_a_thousand_wrong_candidates_fit_into_one_answer(start_gateway):
    with grpc.insecure_channel(start_gateway().address) as channel:
        request = score(item_ids=[-(2**63)] * 1_000)
        found = violations_of(recommender_pb2_grpc.RecommenderStub(channel).Score, request)
    assert len(found) == 21
    assert "and 979 more fields" in found["item_ids[20]"]


def test_long_values_are_shortened_in_the_answer(channel):
    found = violations_of(recommender_pb2_grpc.RecommenderStub(channel).Score, score(user_id="x" * 10_000))
    assert len(found["user_id"]) < 150


@pytest.mark.parametrize(
    ("fields", "field", "says"),
    [
        pytest.param({"user_id": ""}, "user_id", "must not be empty", id="no user"),
        pytest.param({"events": []}, "events", "must not be empty", id="no events"),
        pytest.param({"events": [EVENT] * 1_001}, "events", "at most 1000 events, got 1001", id="too many events"),
        pytest.param({"request_id": "r" * 129}, "request_id", "at most 128 bytes", id="request id too long"),
    ],
)
def test_append_names_the_wrong_field(channel, fields, field, says):
    request = histories_pb2.AppendRequest(**{"user_id": "u", "events": [EVENT], **fields})
    found = violations_of(histories_pb2_grpc.HistoriesStub(channel).Append, request)
    assert list(found) == [field]
    assert says in found[field]


@pytest.mark.parametrize(
    ("fields", "field", "says"),
    [
        pytest.param({"user_id": ""}, "user_id", "must not be empty", id="no user"),
        pytest.param({"page_size": -1}, "page_size", "0 to 1000, got -1", id="negative page"),
        pytest.param({"page_size": 1_001}, "page_size", "0 to 1000, got 1001", id="page too large"),
        pytest.param({"page_token": "nonsense"}, "page_token", "got 'nonsense'", id="token of nobody"),
        pytest.param({"page_token": "a" * 9_999}, "page_token", "next_page_token", id="token far too long"),
        pytest.param(
            {"page_token": Position(time_ms=1, listed=1).token("v")},
            "page_token",
            "same user",
            id="another user's token",
        ),
    ],
)
def test_list_names_the_wrong_field(channel, fields, field, says):
    request = histories_pb2.ListRequest(**{"user_id": "u", **fields})
    found = violations_of(histories_pb2_grpc.HistoriesStub(channel).List, request)
    assert list(found) == [field]
    assert says in found[field]


def test_a_page_token_gives_its_position_back_to_its_user_only():
    position = Position(time_ms=1_700_000_000_123, listed=7)
    assert position_of(position.token("u"), "u") == position
    assert position_of(position.token("u"), "v") is None
    assert position_of("é", "u") is None


@pytest.mark.parametrize("nanos", [0, 1, 999_999, 1_000_000, 1_000_001, 999_999_999])
def test_behaviours_before_a_time_are_those_before_its_ceiling_in_ms(nanos):
    time = Timestamp(seconds=12, nanos=nanos)
    exact_ms = 12_000 + nanos / 1e6
    assert floor_ms(time) <= exact_ms <= ceil_ms(time) < exact_ms + 1
    assert floor_ms(timestamp(12_345)) == 12_345
