"""The client: what it sends, what it makes of answers and errors, when it repeats a call, and what it depends on."""

import asyncio
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone

import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from recollect_api import (
    Append,
    AsyncRecollectClient,
    Behaviour,
    Cancelled,
    ClientError,
    DeadlineExceeded,
    Event,
    EventType,
    InvalidRequest,
    ItemMetadata,
    PermissionRefused,
    RecollectClient,
    ServerFault,
    Unavailable,
    Violation,
)
from recollect_api.v1 import histories_pb2, histories_pb2_grpc, metadata_pb2, recommender_pb2, recommender_pb2_grpc

TIME = datetime(2024, 1, 1, tzinfo=UTC)
EARLY = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))
"""No time of UTC's years."""


class Service(recommender_pb2_grpc.RecommenderServicer, histories_pb2_grpc.HistoriesServicer):
    """Fails with the statuses in `failures`, one a call, then answers; keeps what it was asked."""

    def __init__(self):
        self.failures, self.requests, self.peers = [], [], set()

    def _take(self, request, context):
        self.requests.append(request)
        self.peers.add(context.peer())
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, grpc.StatusCode):
                context.abort(failure, "not now")
            context.abort_with_status(rpc_status.to_status(failure))

    def Score(self, request, context):
        self._take(request, context)
        return recommender_pb2.ScoreResponse(scores=[0.5] * len(request.item_ids), degraded=[1, 77])

    def Recommend(self, request, context):
        self._take(request, context)
        told = metadata_pb2.ItemMetadata(name="a", availability=77, columns={"brand": "b"})
        items = [recommender_pb2.RecommendedItem(item_id=1, metadata=told), recommender_pb2.RecommendedItem(item_id=2)]
        return recommender_pb2.RecommendResponse(items=items, catalogue_name="shop", catalogue_version="v")

    def Append(self, request, context):
        self._take(request, context)
        rejected = [histories_pb2.RejectedEvent(index=1, reason="why")]
        return histories_pb2.AppendResponse(accepted=1, rejected=rejected, history_version=3, history_length=9)

    def List(self, request, context):
        self._take(request, context)
        at = int(request.page_token or 0)
        behaviour = histories_pb2.Behaviour(item_id=at, time={"seconds": int(TIME.timestamp())}, type=42)
        return histories_pb2.ListResponse(behaviours=[behaviour], next_page_token=str(at + 1) if at < 2 else "")


@pytest.fixture
def service():
    return Service()


@pytest.fixture
def client(target):
    with RecollectClient(target, timeout_s=30) as client:
        yield client


def detailed(code, message, *details):
    packed = []
    for detail in details:
        packed.append(Any())
        packed[-1].Pack(detail)
    return status_pb2.Status(code=code.value[0], message=message, details=packed)


def test_a_score_call_carries_everything(service, client):
    eastern = timezone(timedelta(hours=-5))
    as_of = datetime(2023, 12, 31, 19, 0, 0, 500_000, tzinfo=eastern)
    scores = client.score("u", [3, 1], as_of=as_of, explain=True, request_id="r")
    (request,) = service.requests
    assert (request.user_id, list(request.item_ids), request.explain, request.request_id) == ("u", [3, 1], True, "r")
    assert request.as_of.ToDatetime(UTC) == TIME + timedelta(milliseconds=500)
    assert [(item.item_id, item.score, item.known) for item in scores.items] == [(3, 0.5, True), (1, 0.5, True)]


def test_a_recommend_call_carries_a_filter_where_there_is_one_and_brings_back_what_is_displayed(service, client):
    found = client.recommend("u", display=["name"])
    client.recommend("u", in_stock=False)
    client.recommend("u", min_price=0, max_price=2.5, currency="EUR", categories=["x"], filters={"brand": ["b", "c"]})
    plain, any_stock, filtered = service.requests
    assert (plain.HasField("filter"), list(plain.display)) == (False, ["name"])
    assert (any_stock.filter.HasField("in_stock"), any_stock.filter.in_stock) == (True, False)
    asked = filtered.filter
    assert (asked.HasField("min_price"), asked.min_price, asked.max_price, asked.currency) == (True, 0, 2.5, "EUR")
    assert not asked.HasField("in_stock")
    assert (list(asked.categories), asked.columns[0].column, list(asked.columns[0].values)) == (
        ["x"],
        "brand",
        ["b", "c"],
    )
    told = ItemMetadata(name="a", availability=77, columns={"brand": "b"})
    assert [item.metadata for item in found.items] == [told, None]
    assert (found.catalogue_name, found.catalogue_version, found.matching_items) == ("shop", "v", None)


def test_without_as_of_none_is_sent(service, client):
    client.score("u", [1])
    assert not service.requests[0].HasField("as_of")


def test_an_append_carries_its_events_and_brings_back_what_was_rejected(service, client):
    result = client.append("u", [Event(item_id=4, time=TIME, type=EventType.CART, event_id="e")])
    (event,) = service.requests[0].events
    assert (event.item_id, event.time.seconds, event.type, event.event_id) == (4, int(TIME.timestamp()), 2, "e")
    assert [(each.index, each.reason) for each in result.rejected] == [(1, "why")]


def test_history_goes_through_all_pages(service, client):
    behaviours = list(client.history("u", page_size=1))
    assert [behaviour.item_id for behaviour in behaviours] == [0, 1, 2]
    assert [(request.page_size, request.page_token) for request in service.requests] == [(1, ""), (1, "1"), (1, "2")]


def test_members_that_a_newer_service_knows_do_not_break_an_older_client(client):
    assert client.score("u", [1]).degraded == (1, 77)
    assert client.list_history("u").behaviours == (Behaviour(item_id=0, time=TIME, type=42),)


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda client, naive: client.score("u", [1], as_of=naive), id="as_of"),
        pytest.param(lambda client, naive: client.append("u", [Event(item_id=1, time=naive)]), id="event time"),
    ],
)
def test_a_time_without_a_zone_is_refused_before_it_is_sent(service, client, call):
    with pytest.raises(ValueError, match="must have a time zone"):
        call(client, datetime(2024, 1, 1))
    assert service.requests == []


@pytest.mark.parametrize(
    ("call", "field", "says"),
    [
        (
            lambda client: client.score("u", [1, 10**20]),
            "item_ids[1]",
            "to 9223372036854775807, got 100000000000000000000",
        ),
        (
            lambda client: client.recommend("u", 3 * 10**9),
            "count",
            "must be from -2147483648 to 2147483647, got 3000000000",
        ),
        (lambda client: client.recommend("u", 1, category_ids=[2**63]), "category_ids[0]", "got 9223372036854775808"),
        (lambda client: client.recommend("u", 1, max_per_category=3 * 10**9), "max_per_category", "got 3000000000"),
        (lambda client: client.explain("u", [1], max_behaviours=2**32), "max_behaviours", "got 4294967296; send"),
        (
            lambda client: client.list_history("u", page_size=2**31),
            "page_size",
            "must be from -2147483648 to 2147483647",
        ),
        (lambda client: client.list_history("u", types=[2**40]), "types[0]", "got 1099511627776"),
        (
            lambda client: client.append("u", [Event(item_id=2**63, time=TIME)]),
            "events[0].item_id",
            "to 9223372036854775807",
        ),
        (
            lambda client: client.append_many([Append(user_id="u", events=[Event(item_id=-(2**64), time=TIME)])]),
            "appends[0].events[0].item_id",
            "got -18446744073709551616",
        ),
        (
            lambda client: client.score("u", [1], as_of=EARLY),
            "as_of",
            "the years 1 to 9999 of UTC, got 0001-01-01T00:00:00+14",
        ),
        (lambda client: client.list_descriptor_sets(page_size=2**31), "page_size", "got 2147483648"),
        (lambda client: client.search_composed("x", gallery="g", image_id="1", k=2**40), "k", "got 1099511627776"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_number_that_no_message_holds_is_refused_before_it_is_sent(service, client, call, field, says):
    with pytest.raises(InvalidRequest) as refused:
        call(client)
    (violation,) = refused.value.violations
    assert violation.field == field
    assert says in violation.description
    assert f"{field}: {violation.description}" in str(refused.value)
    assert service.requests == []


def test_what_is_no_time_is_refused_by_name(service, client):
    with pytest.raises(TypeError, match="as_of must be a datetime, got '2024-01-01'"):
        client.score("u", [1], as_of="2024-01-01")
    assert service.requests == []


def test_unavailable_is_repeated_within_one_call(service, client):
    service.failures = [grpc.StatusCode.UNAVAILABLE] * 2
    assert client.score("u", [1]).items[0].score == 0.5
    assert len(service.requests) == 3


def test_a_service_that_stays_unavailable_ends_as_unavailable(service, client, target):
    service.failures = [grpc.StatusCode.UNAVAILABLE] * 9
    with pytest.raises(Unavailable, match=f"{target}: not now"):
        client.append("u", [Event(item_id=1, time=TIME)])
    assert len(service.requests) == 4


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidRequest),
        (grpc.StatusCode.UNAUTHENTICATED, PermissionRefused),
        (grpc.StatusCode.PERMISSION_DENIED, PermissionRefused),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Unavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, DeadlineExceeded),
        (grpc.StatusCode.CANCELLED, Cancelled),
        (grpc.StatusCode.INTERNAL, ServerFault),
        (grpc.StatusCode.UNIMPLEMENTED, ServerFault),
    ],
    ids=lambda value: value.name if isinstance(value, grpc.StatusCode) else value.__name__,
)
def test_no_other_status_is_repeated_and_each_has_its_exception(service, client, code, error):
    service.failures = [code]
    with pytest.raises(ClientError) as raised:
        client.score("u", [1])
    assert type(raised.value) is error
    assert raised.value.code is code
    assert len(service.requests) == 1


def test_field_violations_are_read_from_the_status(service, client):
    bad = error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(field="user_id", description="must not be empty"),
            error_details_pb2.BadRequest.FieldViolation(field="item_ids[3]", description="must be 0 or more"),
        ]
    )
    info = error_details_pb2.ErrorInfo(reason="INVALID_REQUEST", domain="recollect")
    service.failures = [detailed(grpc.StatusCode.INVALID_ARGUMENT, "2 fields are wrong", info, bad)]
    with pytest.raises(InvalidRequest) as refused:
        client.score("", [1])
    assert refused.value.violations == (
        Violation(field="user_id", description="must not be empty"),
        Violation(field="item_ids[3]", description="must be 0 or more"),
    )
    assert refused.value.reason == "INVALID_REQUEST"
    assert str(refused.value) == "2 fields are wrong\n  user_id: must not be empty\n  item_ids[3]: must be 0 or more"


def test_an_incident_is_read_from_the_status(service, client):
    info = error_details_pb2.ErrorInfo(reason="INTERNAL_ERROR", metadata={"incident": "abc"})
    service.failures = [detailed(grpc.StatusCode.INTERNAL, "failed", info)]
    with pytest.raises(ServerFault) as failure:
        client.score("u", [1])
    assert (failure.value.reason, failure.value.incident) == ("INTERNAL_ERROR", "abc")


def test_an_address_where_nobody_listens_is_unavailable_and_named():
    with RecollectClient("127.0.0.1:1", timeout_s=30) as client, pytest.raises(Unavailable, match=r"^127\.0\.0\.1:1: "):
        client.score("u", [1])


def test_connections_are_used_in_turn(service, target):
    with RecollectClient(target, timeout_s=30, connections=3) as client:
        for _ in range(6):
            client.score("u", [1])
    assert len(service.peers) == 3


@pytest.mark.parametrize(
    ("options", "says"),
    [
        pytest.param({"token": "t"}, "unencrypted", id="token without TLS"),
        pytest.param({"root_certificates": b"x"}, "tls=True", id="roots without TLS"),
        pytest.param({"connections": 0}, "at least 1", id="no connection"),
    ],
)
def test_options_that_cannot_work_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        RecollectClient("localhost:1", **options)


def test_the_async_client_gives_the_same_answers_and_errors(service, target):
    async def use():
        async with AsyncRecollectClient(target, timeout_s=30) as client:
            service.failures = [grpc.StatusCode.UNAVAILABLE]
            scores = await client.score("u", [3, 1], as_of=TIME)
            result = await client.append("u", [Event(item_id=1, time=TIME)])
            listed = [behaviour.item_id async for behaviour in client.history("u", page_size=1)]
            service.failures = [grpc.StatusCode.INTERNAL]
            with pytest.raises(ServerFault):
                await client.score("u", [1])
            return scores, result, listed

    scores, result, listed = asyncio.run(use())
    with RecollectClient(target, timeout_s=30) as client:
        assert scores == client.score("u", [3, 1], as_of=TIME)
        assert result == client.append("u", [Event(item_id=1, time=TIME)])
    assert listed == [0, 1, 2]


BARE_INSTALL = """
import sys
from importlib.abc import MetaPathFinder

ALLOWED = {"grpc", "google", "recollect_api", "typing_extensions"}

class Fence(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if name.startswith("google.") and not name.startswith(("google.protobuf", "google._upb")):
            raise ImportError(f"{name} is not part of the bare install")
        if top not in ALLOWED and top not in sys.stdlib_module_names:
            raise ImportError(f"{name} is not part of the bare install")
        return None

sys.meta_path.insert(0, Fence())
from recollect_api import InvalidRequest, RecollectClient
with RecollectClient(sys.argv[1], timeout_s=30) as client:
    print(client.score("u", [1, 2]).items[1].score)
    try:
        client.score("", [])
    except InvalidRequest as error:
        print(error.violations[0].field)
"""


def test_the_admin_client_says_what_it_needs_besides():
    fence = BARE_INSTALL.partition("from recollect_api import")[0] + "import recollect_api.admin"
    done = subprocess.run([sys.executable, "-c", fence], capture_output=True, text=True, timeout=60, check=False)
    assert "the admin client needs google.longrunning: pip install 'recollect[admin]'" in done.stderr


def test_the_client_needs_grpcio_and_protobuf_only(service, target):
    bad = error_details_pb2.BadRequest(
        field_violations=[error_details_pb2.BadRequest.FieldViolation(field="user_id", description="empty")]
    )

    original = service._take

    def take(request, context):
        if not request.user_id:
            service.failures = [detailed(grpc.StatusCode.INVALID_ARGUMENT, "wrong", bad)]
        original(request, context)

    service._take = take
    done = subprocess.run(
        [sys.executable, "-c", BARE_INSTALL, target], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout.split()) == (0, ["0.5", "user_id"]), done.stderr
