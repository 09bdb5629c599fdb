"""Channels to the service: connections over which nothing comes any more, and what cannot be an address or a token."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from recollect_api import DeadlineExceeded, RecollectClient, Unavailable
from recollect_api.channel import OPTIONS
from recollect_api.v1 import recommender_pb2, recommender_pb2_grpc

PINGS = ("grpc.keepalive_time_ms", "grpc.keepalive_timeout_ms", "grpc.http2.ping_timeout_ms")
OFTEN = 40
"""How many times as often clients ask here whether somebody is still there."""


class Service(recommender_pb2_grpc.RecommenderServicer):
    def Score(self, request, _context):
        return recommender_pb2.ScoreResponse(scores=[0.5] * len(request.item_ids))


class Silenceable:
    """Passes connections on to `port`; those that are open when it is told so stay open and pass on nothing."""

    def __init__(self, port):
        self._port, self._silent, self._ends = port, set(), []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def silence(self):
        self._silent.update(self._ends)

    def close(self):
        for end in (self._listening, *self._ends):
            end.close()

    def _accept(self):
        try:
            while True:
                near, far = self._listening.accept()[0], socket.create_connection(("127.0.0.1", self._port))
                self._ends += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=pair, daemon=True).start()
        except OSError:
            pass  # closed

    def _pass_on(self, source, sink):
        try:
            while data := source.recv(1 << 16):
                if source not in self._silent:
                    sink.sendall(data)
        except OSError:
            pass


@pytest.fixture
def proxy():
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.http2.min_recv_ping_interval_without_data_ms", 10)])
    recommender_pb2_grpc.add_RecommenderServicer_to_server(Service(), server)
    proxy = Silenceable(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    yield proxy
    proxy.close()
    server.stop(None).wait(30)


def test_connections_over_which_nothing_comes_any_more_are_replaced(proxy, monkeypatch):
    often = tuple((name, value // OFTEN if name in PINGS else value) for name, value in OPTIONS)
    monkeypatch.setattr("recollect_api.channel.OPTIONS", often)
    with RecollectClient(proxy.address, timeout_s=30) as client:
        for _ in range(4):
            client.score("u", [1])
        proxy.silence()
        with pytest.raises((DeadlineExceeded, Unavailable)):
            client.score("u", [1], timeout_s=0.1)
        until = time.monotonic() + 20
        while True:
            try:
                assert client.score("u", [1], timeout_s=0.5).items[0].score == 0.5
                break
            except (DeadlineExceeded, Unavailable):
                assert time.monotonic() < until, "calls go on over connections that are dead"


@pytest.mark.parametrize(
    "token",
    ["secret\n", "secret ", "se cret", "sécret", "secret\x00", ""],
    ids=["line break", "blank at the end", "blank within", "not ASCII", "NUL", "empty"],
)
def test_what_cannot_be_a_token_is_refused_and_not_shown(token):
    with pytest.raises(ValueError, match="token must be printable ASCII without blanks") as refused:
        RecollectClient("localhost:1", tls=True, token=token)
    assert "cret" not in str(refused.value)


@pytest.mark.parametrize(
    "target", ["localhost:65536", "dns:///localhost:99999", "[::1]:99999", "ipv4:1.2.3.4:1,5.6.7.8:70000"]
)
def test_a_port_that_there_is_not_is_refused(target):
    with pytest.raises(ValueError, match="target must have a port of at most 65535, got"):
        RecollectClient(target)


@pytest.mark.parametrize(
    "target", ["localhost", "localhost:65535", "2001:db8::9999", "unix:/run/a:99999", "dns://[::1]:53/a:1"]
)
def test_other_targets_are_taken(target):
    with RecollectClient(target) as client:
        assert client.target == target
