"""TLS and tokens of gateways as Ray Serve runs them: every replica has them, and takes what changes."""

from datetime import timedelta

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from recollect import serve_app
from recollect.security.scopes import Scope
from recollect.security.tokens import TokenFile
from recollect.settings import Settings
from recollect_api import PermissionRefused, RecollectClient, Unavailable

HOUR = timedelta(hours=1)
PID_ITEM = 100_003


@pytest.mark.slow
def test_replicas_are_guarded_and_take_renewals(
    ray_node, counting_models, history_redis_url, authority, make_authority, tmp_path, eventually
):
    pair, tokens = authority.issue("server"), TokenFile(tmp_path / "tokens.json")
    first = tokens.create("shop", [Scope.READ], lifetime=HOUR)
    settings = Settings(
        port=0,
        replicas=2,
        var=tmp_path / "var",
        classification=False,
        tls_cert=pair.certificate,
        tls_key=pair.key,
        tls_client_ca=authority.path,
        tokens=tokens.path,
    )
    models = counting_models(tmp_path)
    caller = dict(zip(("client_certificate", "client_key"), authority.issue("caller").read(), strict=True))
    with serve_app.run(
        settings, "counting/1", redis_url=history_redis_url, models=models, application="guarded"
    ) as started:
        target = f"localhost:{started.port}"

        def pid(secret, *, roots=authority.roots, **options):
            """Which replica answered, over a connection of its own."""
            given = {"tls": True, "root_certificates": roots, "token": secret, **caller, **options}
            with RecollectClient(target, timeout_s=10, connections=1, **given) as client:
                return int(client.score("nobody", [PID_ITEM]).items[0].score)

        seen = set()
        eventually(lambda: len(seen.add(pid(first.secret)) or seen) == 2)
        for refused, options in (
            (PermissionRefused, {"secret": None}),
            (Unavailable, {"secret": first.secret, "client_certificate": None, "client_key": None}),
            (Unavailable, {"secret": first.secret, "roots": make_authority("others").roots}),
        ):
            for _ in range(6):
                with pytest.raises(refused):
                    pid(**options)
        second = tokens.rotate(first.token.id, keep=timedelta(0), lifetime=HOUR)
        authority.issue("server")
        again = set()
        eventually(lambda: len(again.add(pid(second.secret)) or again) == 2)
        assert again == seen
        for _ in range(6):
            with pytest.raises(PermissionRefused):
                pid(first.secret)
        with grpc.secure_channel(target, channel_credentials(authority, caller)) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


def channel_credentials(authority, caller):
    return grpc.ssl_channel_credentials(authority.roots, caller["client_key"], caller["client_certificate"])
