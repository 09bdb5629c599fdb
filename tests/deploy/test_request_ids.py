"""Every call has a name, whatever the method: the caller's or the service's, in the answer and in the log."""

import grpc
import pytest
from google.longrunning import operations_pb2

from recollect.admin.server import AdminConfig, RunningAdmin
from recollect.gateway.request_ids import request_id
from recollect.settings import Settings
from recollect_api import ClientError, InvalidRequest, ServerFault
from recollect_api.request_ids import METADATA_KEY as KEY
from recollect_api.v1 import (
    classifier_pb2,
    composed_retrieval_pb2,
    descriptor_sets_pb2,
    histories_pb2,
    indexes_pb2,
    models_pb2,
    recommender_pb2,
)

GATEWAY = (recommender_pb2, histories_pb2, classifier_pb2, descriptor_sets_pb2, composed_retrieval_pb2)
ADMIN = (indexes_pb2, models_pb2, operations_pb2)


def methods_of(files):
    """(path, whether requests are a stream, whether answers are) of every method in the descriptors of `files`."""
    services = [service for file in files for service in file.DESCRIPTOR.services_by_name.values()]
    return [
        (f"/{service.full_name}/{method.name}", method.client_streaming, method.server_streaming)
        for service in services
        for method in service.methods
    ]


METHODS = [(*method, False) for method in methods_of(GATEWAY)] + [(*method, True) for method in methods_of(ADMIN)]


@pytest.fixture(scope="module")
def admin(tmp_path_factory):
    settings = Settings(var=tmp_path_factory.mktemp("admin"), build_niceness=0)
    with RunningAdmin(AdminConfig(settings=settings, port=0)) as admin:
        yield admin


def names_of(address, path, requests, *, request=b"", streams=False, answers_stream=False, metadata=()):
    """The names that came back with an answer or a refusal; none comes before, which would end gRPC's retries."""
    kind = f"{'stream' if streams else 'unary'}_{'stream' if answers_stream else 'unary'}"
    given = iter([request] * requests) if streams else request
    with grpc.insecure_channel(address) as channel:
        method = getattr(channel, kind)(path)
        if answers_stream:
            call = method(given, timeout=30, metadata=metadata)
            try:
                list(call)
            except grpc.RpcError as error:
                call = error
        else:
            try:
                _, call = method.with_call(given, timeout=30, metadata=metadata)
            except grpc.RpcError as error:
                call = error
        assert KEY not in dict(call.initial_metadata() or ())
        return [value for key, value in call.trailing_metadata() if key == KEY]


@pytest.mark.parametrize(("path", "streams", "answers_stream", "on_admin"), METHODS, ids=[each[0] for each in METHODS])
def test_every_method_sends_the_callers_name_back_and_makes_one_where_there_is_none(
    gateway, admin, path, streams, answers_stream, on_admin
):
    address = admin.address if on_admin else gateway.address

    def ask(*metadata):
        return names_of(address, path, 1, streams=streams, answers_stream=answers_stream, metadata=metadata)

    assert ask((KEY, "my call/7")) == ["my call/7"]
    first, second = ask(), ask()
    assert len({*first, *second}) == 2
    assert all(len(name) == 32 for name in (*first, *second))


def test_the_name_in_the_request_comes_first(gateway):
    score = recommender_pb2.ScoreRequest(user_id="u", item_ids=[1], request_id="in the request")
    path, metadata = "/recollect_api.v1.Recommender/Score", [(KEY, "in the metadata")]
    found = names_of(gateway.address, path, 1, request=score.SerializeToString(), metadata=metadata)
    assert found == ["in the request"]


@pytest.mark.parametrize("name", ["n" * 129, "é", "two\nlines"], ids=["too long", "no ASCII", "two lines"])
def test_what_a_log_would_not_take_is_replaced(gateway, name):
    request = recommender_pb2.ScoreRequest(user_id="u", item_ids=[1], request_id=name).SerializeToString()
    (found,) = names_of(gateway.address, "/recollect_api.v1.Recommender/Score", 1, request=request)
    assert len(found) == 32


def test_refusals_have_it_and_the_clients_errors_tell_it(client):
    with pytest.raises(InvalidRequest) as refused:
        client.score("u", [], request_id="mine")
    assert refused.value.request_id == "mine"
    with pytest.raises(ClientError) as refused:
        client.list_history("")
    assert len(refused.value.request_id) == 32


def test_an_incident_is_logged_under_it(client, caplog):
    with pytest.raises(ServerFault) as failed:
        client.score("u", [100_001])
    assert f"request_id '{failed.value.request_id}'" in caplog.text


def test_outside_of_calls_there_is_none():
    assert request_id.get() == ""
