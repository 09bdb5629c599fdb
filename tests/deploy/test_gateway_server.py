"""The server around the services: health, reflection, incidents, deadlines, limits, tokens, draining."""

import asyncio
import gc
import logging
import threading
from contextlib import ExitStack

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from recollect.errors import SetupError
from recollect.gateway.handlers import WrappingInterceptor
from recollect.gateway.listener import ListenerConfig, _options
from recollect.gateway.server import RECOMMENDER_SERVICES, SERVICES
from recollect.security.access import AccessRules
from recollect.security.scopes import Scope
from recollect.security.tokens import TokenFile
from recollect_api import DeadlineExceeded, RecollectClient, ServerFault, Unavailable
from recollect_api.channel import OPTIONS
from recollect_api.errors import from_rpc_error
from recollect_api.v1 import recommender_pb2, recommender_pb2_grpc

ALWAYS = (*RECOMMENDER_SERVICES, *SERVICES)
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
FAILING_ITEM, WAITING_ITEM = 100_001, 100_002
CONNECTIONS = 12
"""So many that no server of a process, each of which takes some of them, is left out."""
SECRET = "the text that nobody may see"


def health_of(channel, service):
    return health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service), timeout=30).status


def test_the_server_and_each_service_report_serving(gateway):
    with grpc.insecure_channel(gateway.address) as channel:
        assert {name: health_of(channel, name) for name in ("", *ALWAYS)} == dict.fromkeys(("", *ALWAYS), SERVING)
        with pytest.raises(grpc.RpcError) as unknown:
            health_of(channel, "nobody")
        listed = health_pb2_grpc.HealthStub(channel).List(health_pb2.HealthListRequest(), timeout=30).statuses
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
    assert {name: each.status for name, each in listed.items()} == dict.fromkeys(("", *ALWAYS), SERVING)


def test_reflection_names_the_services_and_gives_their_contract(gateway):
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="recollect_api.v1.Recommender"),
    ]
    with grpc.insecure_channel(gateway.address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        listing, file = stub.ServerReflectionInfo(iter(requests), timeout=30)
    assert {each.name for each in listing.list_services_response.service} >= {*ALWAYS, "grpc.health.v1.Health"}
    descriptor = FileDescriptorProto.FromString(file.file_descriptor_response.file_descriptor_proto[0])
    assert [method.name for method in descriptor.service[0].method] == ["Score", "ScoreStream", "Explain", "Recommend"]


def test_the_service_takes_pings_as_often_as_our_clients_send_them():
    """It ends connections over which they come more often."""
    taken = dict(_options(ListenerConfig()))["grpc.http2.min_recv_ping_interval_without_data_ms"]
    assert dict(OPTIONS)["grpc.keepalive_time_ms"] > taken


def test_an_unforeseen_error_reaches_the_log_whole_and_the_caller_as_an_incident(client, user, caplog):
    with caplog.at_level(logging.ERROR), pytest.raises(ServerFault) as failure:
        client.score(user, [FAILING_ITEM], request_id="call-9")
    error = failure.value
    assert error.code is grpc.StatusCode.INTERNAL
    assert error.reason == "INTERNAL_ERROR"
    assert SECRET not in str(error)
    assert SECRET not in str(error.__cause__.trailing_metadata())
    assert "Traceback" not in str(error)
    assert error.incident
    assert error.incident in caplog.text
    assert "call-9" in caplog.text
    assert SECRET in caplog.text


def test_methods_that_callers_make_up_leave_nothing_behind(start_gateway, tmp_path):
    TokenFile(tmp_path / "tokens.json").create("shop", [Scope.READ], lifetime=None)
    gateway = start_gateway(access=AccessRules(tokens=tmp_path / "tokens.json"))

    def kept():
        return sum(len(each._made) for each in gc.get_objects() if issubclass(type(each), WrappingInterceptor))

    def call(name):
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary(f"/{name}")(b"", timeout=30)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED

    with grpc.insecure_channel(gateway.address) as channel:
        call("nobody/Nothing")
        before = kept()
        for number in range(20):
            call(f"nobody/Nothing{number}")
    assert kept() == before


def test_a_message_that_is_no_protobuf_leaks_nothing(gateway):
    with grpc.insecure_channel(gateway.address) as channel:
        call = channel.unary_unary("/recollect_api.v1.Recommender/Score")
        with pytest.raises(grpc.RpcError) as refused:
            call(b"\xff\xff\xff", timeout=30)
    assert "Traceback" not in refused.value.details()
    assert ".py" not in refused.value.details()


def test_work_whose_caller_has_gone_is_not_begun(start_gateway, eventually, user, monkeypatch):
    gateway = start_gateway(ranking_threads=1)
    workers, given_up = gateway.gateway._workers, []
    run = workers.run

    async def observed(work, **options):
        try:
            return await run(work, **options)
        except asyncio.CancelledError:
            given_up.append(work)
            raise

    monkeypatch.setattr(workers, "run", observed)
    with RecollectClient(gateway.address, timeout_s=30) as client:
        first = threading.Thread(target=client.score, args=(user, [WAITING_ITEM]))
        first.start()
        eventually(lambda: any(gateway.directory.glob("waiting.*")))
        with pytest.raises(DeadlineExceeded):
            client.score(user, [1], timeout_s=1.0)
        # The caller's clock may be ahead of the gateway's: only once it has given the work up is it let on.
        eventually(lambda: given_up)
        gateway.release()
        first.join(30)
        client.score(user, [2])
    assert gateway.ranker.ranked == [WAITING_ITEM, 2]


def test_calls_past_the_limit_are_refused_over_whatever_connection(start_gateway, eventually, user):
    gateway = start_gateway(max_calls=2)
    request = recommender_pb2.ScoreRequest(user_id=user, item_ids=[1])
    waiting = recommender_pb2.ScoreRequest(user_id=user, item_ids=[WAITING_ITEM])
    own = [("grpc.use_local_subchannel_pool", 1)]  # or all channels would share one connection
    with ExitStack() as stack:
        channels = [stack.enter_context(grpc.insecure_channel(gateway.address, own)) for _ in range(CONNECTIONS)]
        stubs = [recommender_pb2_grpc.RecommenderStub(channel) for channel in channels]
        answered, given_up = (stub.Score.future(waiting, timeout=30) for stub in stubs[:2])
        eventually(lambda: gateway.gateway._admission.inside == 2)
        for channel, stub in zip(channels, stubs, strict=True):
            with pytest.raises(grpc.RpcError) as refused:
                stub.Score(request, timeout=30)
            error = from_rpc_error(refused.value, target=gateway.address)
            assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS")
            assert error.retry_after_s == pytest.approx(0.1)
            assert health_of(channel, "") == SERVING  # who is busy is alive
        given_up.cancel()
        gateway.release()
        assert answered.result().model_name
        eventually(lambda: gateway.gateway._admission.inside == 0)
        for stub in stubs:  # neither what was answered nor what was given up keeps its place
            assert stub.Score(request, timeout=30).model_name


def test_streams_of_health_take_no_calls_place_nor_any_number(start_gateway, eventually, user, monkeypatch):
    monkeypatch.setattr("recollect.gateway.limiting.MOST_WATCHES", 3)
    gateway = start_gateway(max_calls=2)
    with grpc.insecure_channel(gateway.address) as channel:
        stub, health = recommender_pb2_grpc.RecommenderStub(channel), health_pb2_grpc.HealthStub(channel)

        def watch():
            return health.Watch(health_pb2.HealthCheckRequest(service=""), timeout=30)

        watches = [watch() for _ in range(3)]
        assert [next(each).status for each in watches] == [SERVING] * 3
        with pytest.raises(grpc.RpcError) as refused:
            next(watch())
        assert from_rpc_error(refused.value, target=gateway.address).reason == "TOO_MANY_CALLS"
        assert "3 streams of health" in refused.value.details()
        assert stub.Score(recommender_pb2.ScoreRequest(user_id=user, item_ids=[1]), timeout=30).model_name
        watches[0].cancel()

        def has_room():
            try:
                return next(watch()).status == SERVING
            except grpc.RpcError:
                return False

        eventually(has_room)


def test_a_request_past_the_size_limit_is_refused(start_gateway):
    with RecollectClient(start_gateway(max_request_bytes=10_000).address, timeout_s=30) as client:
        with pytest.raises(Unavailable) as refused:
            client.score("x" * 20_000, [1])
        assert refused.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_draining_answers_what_is_in_flight_and_takes_nothing_new(gateway, eventually, user):
    with grpc.insecure_channel(gateway.address) as channel, grpc.insecure_channel(gateway.address) as watching:
        watch = health_pb2_grpc.HealthStub(watching).Watch(health_pb2.HealthCheckRequest(service=""), timeout=30)
        states = [next(watch).status]
        stub = recommender_pb2_grpc.RecommenderStub(channel)
        inside = stub.Score.future(recommender_pb2.ScoreRequest(user_id=user, item_ids=[WAITING_ITEM]), timeout=30)
        eventually(lambda: any(gateway.directory.glob("waiting.*")))
        stopping = gateway.begin(gateway.gateway.stop(30))
        states += [told.status for told in watch]  # which ends, and holds up no one

        def refused():
            with grpc.insecure_channel(gateway.address, options=[("grpc.use_local_subchannel_pool", 1)]) as late:
                try:
                    recommender_pb2_grpc.RecommenderStub(late).Score(
                        recommender_pb2.ScoreRequest(user_id=user, item_ids=[1]), timeout=1
                    )
                except grpc.RpcError as error:
                    return error.code() is grpc.StatusCode.UNAVAILABLE
            return False

        eventually(refused)
        assert not stopping.done()
        gateway.release()
        assert list(inside.result(timeout=30).scores) == [1.0]
        stopping.result(30)
    assert states == [SERVING, NOT_SERVING]


def test_gateways_share_a_port_and_another_machines_address_is_refused(start_gateway):
    first = start_gateway()
    assert start_gateway(port=first.port).port == first.port
    with pytest.raises(SetupError, match=r"cannot listen on 203\.0\.113\.1:1"):
        start_gateway(host="203.0.113.1", port=1)
