"""The Redis and the Ray that Recollect starts for itself are for itself alone."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

PROBE = """
import http.client, json, sys
import grpc, psutil
from recollect.embedded.ray import ray_cluster
from recollect.settings import Settings

CALLS = (
    "/ray.rpc.JobInfoGcsService/GetAllJobInfo",
    "/ray.rpc.InternalKVGcsService/InternalKVKeys",
    "/ray.rpc.NodeManagerService/RequestWorkerLease",
    "/ray.rpc.CoreWorkerService/PushTask",
)


def told(host, port):
    codes = []
    with grpc.insecure_channel(f"{host}:{port}") as channel:
        for call in CALLS:
            try:
                channel.unary_unary(call)(b"", timeout=10)
                codes.append("OK")
            except grpc.RpcError as error:
                codes.append(error.code().name)
    if set(codes) != {"UNAVAILABLE"}:
        return codes
    web = http.client.HTTPConnection(host, port, timeout=10)
    web.request("GET", "/")
    answer = web.getresponse()
    return [answer.status, answer.read(40).decode()]


with ray_cluster(Settings()):
    import ray

    found = {}
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        for each in process.net_connections(kind="inet"):
            if each.status == psutil.CONN_LISTEN:
                host = "127.0.0.1" if each.laddr.ip in ("::", "0.0.0.0") else each.laddr.ip
                found[each.laddr.port] = (process.name(), told(host, each.laddr.port))
    names = sorted({each.name() for each in me.children(recursive=True)})
    print("FOUND", json.dumps({"ports": list(found.values()), "processes": names}))
"""


@pytest.mark.slow
def test_every_port_of_the_private_ray_asks_for_its_token() -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        env=clean | {"RAY_worker_niceness": "0"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    found = json.loads(line.removeprefix("FOUND "))
    answers = [answer for _, answer in found["ports"]]
    assert len(answers) > 3
    # The control plane, the node and its workers are among them, and each refuses to do anything.
    assert sum("UNAUTHENTICATED" in answer for answer in answers) >= 3
    assert not any("OK" in answer for answer in answers)
    # What HTTP tells without a token are figures of Ray itself, in the form of Prometheus; there is no dashboard.
    told = [answer[1] for answer in answers if answer[0] == 200]
    assert all(text.startswith("# HELP ") for text in told)
    assert not any(name.startswith(("ray::dashboard", "dashboard")) for name in found["processes"])


def test_the_private_redis_has_no_port_and_a_socket_for_this_user_alone(redis_server) -> None:
    server = psutil.Process(redis_server.pid)
    listening = [each for each in server.net_connections(kind="inet") if each.status == psutil.CONN_LISTEN]
    assert listening == []
    assert stat.S_IMODE(Path(redis_server.socket).stat().st_mode) & 0o077 == 0
    assert redis_server.url.startswith("unix://")
