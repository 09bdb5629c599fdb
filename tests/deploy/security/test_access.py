"""Every method with every kind of token: who is let in, who is refused and how, and what is written down of it."""

import json
import logging
from datetime import timedelta

import grpc
import pytest
from google.longrunning import operations_pb2
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from recollect.admin.server import AdminConfig, RunningAdmin
from recollect.security.access import AccessRules
from recollect.security.scopes import SCOPES, Scope
from recollect.security.tokens import TokenFile
from recollect.settings import Settings
from recollect_api import PermissionRefused, RecollectClient
from recollect_api.errors import from_rpc_error
from recollect_api.v1 import (
    classifier_pb2,
    composed_retrieval_pb2,
    descriptor_sets_pb2,
    histories_pb2,
    indexes_pb2,
    models_pb2,
    recommender_pb2,
)

HOUR = timedelta(hours=1)
FILES = (
    classifier_pb2,
    composed_retrieval_pb2,
    descriptor_sets_pb2,
    histories_pb2,
    recommender_pb2,
    indexes_pb2,
    models_pb2,
    operations_pb2,
)
METHODS = {
    f"/{service.full_name}/{method.name}": method
    for file in FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
ADMIN = ("/recollect_api.v1.Indexes/", "/recollect_api.v1.Models/", "/google.longrunning.Operations/")
REFUSED = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)


def test_every_method_of_the_contract_has_a_scope_and_no_other_has():
    import pkgutil

    import recollect_api.v1

    # A file of the contract that is not looked at here would be a file whose methods nobody guards.
    names = {each.name for each in pkgutil.iter_modules(recollect_api.v1.__path__) if each.name.endswith("_pb2_grpc")}
    assert names == {file.__name__.rpartition(".")[2] + "_grpc" for file in FILES if file is not operations_pb2}
    assert set(SCOPES) == set(METHODS)


@pytest.fixture
def tokens(tmp_path):
    return TokenFile(tmp_path / "tokens.json")


@pytest.fixture
def secrets(tokens):
    """A token of each kind, as callers send them."""
    made = {scope.value: tokens.create(f"may {scope}", [scope], lifetime=HOUR).secret for scope in Scope}
    expired = tokens.create("old", list(Scope), lifetime=-HOUR).secret
    revoked = tokens.create("gone", list(Scope), lifetime=None)
    tokens.revoke(revoked.token.id)
    bad = made["read"][:-1] + ("0" if made["read"][-1] != "0" else "1")
    return {**made, "none": None, "bad": bad, "expired": expired, "revoked": revoked.secret}


@pytest.fixture
def guarded(start_gateway, tokens, secrets):
    return start_gateway(access=AccessRules(tokens=tokens.path))


@pytest.fixture
def admin(tokens, secrets, tmp_path):
    settings = Settings(var=tmp_path / "var", tokens=tokens.path)
    with RunningAdmin(AdminConfig(settings=settings, port=0)) as running:
        yield running


def called(channel, method, secret):
    """What an empty request to a method ends with: its code, and its google.rpc.ErrorInfo."""
    descriptor = METHODS[method]
    request = GetMessageClass(descriptor.input_type)()
    kind = "stream" if descriptor.client_streaming else "unary"
    given = iter([request]) if descriptor.client_streaming else request
    call = getattr(channel, f"{kind}_{'stream' if descriptor.server_streaming else 'unary'}")(
        method, request_serializer=lambda message: message.SerializeToString()
    )
    metadata = [] if secret is None else [("authorization", f"Bearer {secret}")]
    try:
        answer = call(given, timeout=30, metadata=metadata)
        if descriptor.server_streaming:
            list(answer)
    except grpc.RpcError as error:
        trailers = dict(error.trailing_metadata())
        status = status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b""))
        info = error_details_pb2.ErrorInfo()
        if status.details:
            status.details[0].Unpack(info)
        return error.code(), info
    return grpc.StatusCode.OK, None


def test_every_method_refuses_every_token_that_does_not_allow_it(guarded, admin, secrets):
    wrong = []
    with grpc.insecure_channel(guarded.address) as gateway, grpc.insecure_channel(admin.address) as administered:
        for method, scope in SCOPES.items():
            channel = administered if method.startswith(ADMIN) else gateway
            for kind, secret in secrets.items():
                code, info = called(channel, method, secret)
                if kind in ("none", "bad", "revoked"):
                    right = code is grpc.StatusCode.UNAUTHENTICATED and info.reason == "TOKEN_REFUSED"
                elif kind == "expired":
                    right = code is grpc.StatusCode.UNAUTHENTICATED and info.reason == "TOKEN_EXPIRED"
                elif kind == scope:
                    right = code not in REFUSED
                else:
                    right = (code, info.reason) == (grpc.StatusCode.PERMISSION_DENIED, "SCOPE_MISSING") and dict(
                        info.metadata
                    ) == {"method": method, "scope": scope.value}
                right = right and (info is None or info.domain in ("recollect", ""))
                if not right:
                    wrong.append((method, kind, code, info))
    assert wrong == []


def test_health_needs_no_token_and_reflection_any(guarded, secrets):
    with grpc.insecure_channel(guarded.address) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)

        def listed(secret):
            metadata = [] if secret is None else [("authorization", f"bearer {secret}")]
            requests = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
            return len(list(stub.ServerReflectionInfo(requests, timeout=30, metadata=metadata)))

        for kind in ("read", "write", "admin"):
            assert listed(secrets[kind]) == 1
        for kind in ("none", "bad", "expired"):
            with pytest.raises(grpc.RpcError) as refused:
                listed(secrets[kind])
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_method_that_is_not_there_is_unknown_to_callers_with_a_token_alone(guarded, secrets):
    with grpc.insecure_channel(guarded.address) as channel:
        for kind, code in (("read", grpc.StatusCode.UNIMPLEMENTED), ("none", grpc.StatusCode.UNAUTHENTICATED)):
            metadata = [("authorization", f"Bearer {secrets[kind]}")]
            with pytest.raises(grpc.RpcError) as refused:
                channel.unary_unary("/recollect_api.v1.Recommender/Guess")(b"", timeout=30, metadata=metadata)
            assert refused.value.code() is code


def test_a_stream_is_refused_before_it_is_read(guarded, secrets):
    from queue import Queue

    with grpc.insecure_channel(guarded.address) as channel:
        call = channel.stream_unary("/recollect_api.v1.Histories/AppendStream").future(
            iter(Queue().get, None), timeout=30, metadata=[("authorization", f"Bearer {secrets['read']}")]
        )
        assert call.exception(30).code() is grpc.StatusCode.PERMISSION_DENIED


def test_what_is_no_bearer_is_refused(guarded, secrets):
    with grpc.insecure_channel(guarded.address) as channel:
        call = channel.unary_unary("/recollect_api.v1.Histories/List")
        for value in (secrets["read"], f"Basic {secrets['read']}", "Bearer", "Bearer  " + secrets["read"], ""):
            with pytest.raises(grpc.RpcError) as refused:
                call(b"", timeout=30, metadata=[("authorization", value)])
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED, value


def test_a_token_that_is_used_too_often_is_told_when_to_come_back(start_gateway, tokens, user):
    slow = tokens.create("slow", [Scope.READ], lifetime=HOUR, rate=0.001, burst=2)
    usual = tokens.create("usual", [Scope.READ], lifetime=HOUR)
    gateway = start_gateway(access=AccessRules(tokens=tokens.path, rate=1_000.0))
    with grpc.insecure_channel(gateway.address) as channel:
        call = channel.unary_unary(
            "/recollect_api.v1.Recommender/Score", request_serializer=recommender_pb2.ScoreRequest.SerializeToString
        )
        request = recommender_pb2.ScoreRequest(user_id=user, item_ids=[1])

        def score(secret):
            return call(request, timeout=30, metadata=[("authorization", f"Bearer {secret}")])

        score(slow.secret)
        score(slow.secret)
        with pytest.raises(grpc.RpcError) as refused:
            score(slow.secret)
        # One token's calls are not another's.
        for _ in range(5):
            score(usual.secret)
    error = from_rpc_error(refused.value, target="")
    assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_EXCEEDED")
    assert slow.token.id in error.message
    trailers = dict(refused.value.trailing_metadata())
    details = status_pb2.Status.FromString(trailers["grpc-status-details-bin"]).details
    retry = error_details_pb2.RetryInfo()
    assert [each.Unpack(retry) for each in details] == [False, True]
    assert 900 < retry.retry_delay.seconds <= 1_000
    assert int(trailers["grpc-retry-pushback-ms"]) >= 900_000


def test_a_token_that_is_revoked_or_made_while_serving_counts_at_once(start_gateway, tokens, authority, user):
    from recollect.security.certificates import TlsFiles

    pair = authority.issue("server")
    first = tokens.create("first", [Scope.READ], lifetime=HOUR)
    tls = TlsFiles(certificate=pair.certificate, key=pair.key)
    gateway = start_gateway(access=AccessRules(tokens=tokens.path), tls=tls)

    def score(secret):
        options = {"tls": True, "root_certificates": authority.roots, "token": secret}
        with RecollectClient(f"localhost:{gateway.port}", timeout_s=30, **options) as client:
            return client.score(user, [1]).items[0].score

    assert score(first.secret) == 1.0
    second = tokens.rotate(first.token.id, keep=HOUR, lifetime=HOUR)
    assert score(first.secret) == score(second.secret) == 1.0
    tokens.revoke(first.token.id)
    with pytest.raises(PermissionRefused) as refused:
        score(first.secret)
    assert (refused.value.code, refused.value.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_REFUSED")
    assert score(second.secret) == 1.0


def test_the_audit_log_says_whose_token_it_was_and_never_the_token(admin, tokens, secrets, caplog):
    caplog.set_level(logging.DEBUG)
    with grpc.insecure_channel(admin.address) as channel:
        for kind in ("admin", "read", "bad"):
            called(channel, "/recollect_api.v1.Models/RemoveUnneeded", secrets[kind])
    lines = [record.getMessage() for record in caplog.records if record.name == "recollect.audit"]
    token = next(each for each in tokens.read() if each.name == "may admin")
    (changed,) = [line for line in lines if line.startswith("Models.RemoveUnneeded ->")]
    told = json.loads(changed[changed.index("{") :])
    assert (told["token"], told["token_name"]) == (token.id, "may admin")
    for secret in filter(None, secrets.values()):
        assert secret not in caplog.text
        assert secret.rpartition("_")[2] not in caplog.text
