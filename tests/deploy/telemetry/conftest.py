"""What the tests of telemetry share: counts before and after, a certificate's authority, a collector that is real."""

import importlib.util
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from recollect.telemetry.metrics import REGISTRY


class Counts:
    """How much samples of this process have grown since it was made."""

    def __init__(self) -> None:
        self._before = self._now()

    def grown(self, name: str, **labels: str) -> float:
        key = (name, frozenset(labels.items()))
        return self._now().get(key, 0.0) - self._before.get(key, 0.0)

    @staticmethod
    def _now() -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in REGISTRY.collect()
            for sample in family.samples
        }


@pytest.fixture
def counts() -> Counts:
    return Counts()


@pytest.fixture
def make_authority(tmp_path: Path) -> Callable[[str], Any]:
    """As the tests of `security` have it."""
    return lambda name: _security().Authority(tmp_path / name, name)


@pytest.fixture
def authority(make_authority: Callable[[str], Any]) -> Any:
    return make_authority("authority")


def _security() -> ModuleType:
    path = Path(__file__).parent.parent / "security/conftest.py"
    name = "tests_deploy_security_conftest"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


class Collector:
    """Takes spans by OTLP over HTTP."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.resources: list[dict[str, str]] = []
        self.wrong: list[str] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.path != "/v1/traces" or self.headers["content-type"] != "application/x-protobuf":
                    collector.wrong.append(f"{self.path} {self.headers['content-type']}")
                for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                    told = {each.key: each.value.string_value for each in group.resource.attributes}
                    for scope in group.scope_spans:
                        collector.spans += scope.spans
                        collector.resources += [told] * len(scope.spans)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def named(self, name: str) -> list[Any]:
        return [span for span in self.spans if span.name == name]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def collector() -> Iterator[Collector]:
    started = Collector()
    yield started
    started.close()


@pytest.fixture
def call_with() -> Callable[..., Any]:
    """Score over a bare channel, with metadata; returns the answer and its trailers: `call_with(address, request)`."""
    import grpc

    from recollect_api.v1 import recommender_pb2_grpc

    def call(address: str, request: Any, **metadata: str) -> tuple[Any, dict[str, Any]]:
        with grpc.insecure_channel(address) as channel:
            sent = tuple((key.replace("_", "-"), value) for key, value in metadata.items())
            stub = recommender_pb2_grpc.RecommenderStub(channel)
            try:
                response, done = stub.Score.with_call(request, timeout=30, metadata=sent)
            except grpc.RpcError as error:
                return error, dict(error.trailing_metadata())
            return response, dict(done.trailing_metadata())

    return call
