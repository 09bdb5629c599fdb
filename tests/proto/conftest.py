"""A real server of gRPC for the `service` that a module of tests plays."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from recollect_api.v1 import histories_pb2_grpc, recommender_pb2_grpc

_ADDED = {
    recommender_pb2_grpc.RecommenderServicer: recommender_pb2_grpc.add_RecommenderServicer_to_server,
    histories_pb2_grpc.HistoriesServicer: histories_pb2_grpc.add_HistoriesServicer_to_server,
}


@pytest.fixture
def target(service: Any) -> Iterator[str]:
    """Where `service` answers, for each of the contract's services that it is."""
    server = grpc.server(ThreadPoolExecutor(4))
    for kind, add in _ADDED.items():
        if isinstance(service, kind):
            add(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait(30)
