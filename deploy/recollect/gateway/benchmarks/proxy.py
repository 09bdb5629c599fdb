"""The same contract through Ray Serve's own gRPC proxy, to be measured beside gateways that listen themselves."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from recollect.gateway.admission import Admission
from recollect.gateway.benchmarks.service import BenchedService
from recollect.gateway.models import ModelSlot, ServedModel
from recollect.gateway.recommender import RecommenderServicer
from recollect.gateway.score_stream import StreamLimits
from recollect.gateway.trial import ModelTrial
from recollect.gateway.workers import Workers, use_one_torch_thread
from recollect.serve_app import DEPLOYMENT_OPTIONS
from recollect_api.v1 import recommender_pb2
from recsys.history import HistoryConfig, HistoryStore
from recsys.ranking import Ranker

APPLICATION = "recollect-proxied"


class _Waiting:
    """A context of a caller who waits for ever: the proxy hands none on that knows a deadline."""

    def time_remaining(self) -> None:
        return None


class ProxiedReplica:
    """What Serve calls for each request that its proxy has read; the answer is that of the gateway."""

    def __init__(self, model: Path, redis_url: str) -> None:
        use_one_torch_thread()
        ranker = Ranker.load(model)
        workers = Workers(1)
        served = ServedModel(name="random", version="1", ranker=ranker, catalogue=ranker.catalogue)
        self._servicer = RecommenderServicer(
            trial=ModelTrial(ModelSlot(served), workers),
            histories=HistoryStore(redis_url, config=HistoryConfig(timeout_s=5.0)),
            workers=workers,
            admission=Admission(most_wait_s=10.0, threads=1),
            history_limit=50_000,
            max_candidates=1_000,
            streams=StreamLimits(rows=1, seconds=5.0),
        )

    async def Score(  # noqa: N802 - gRPC's name
        self, request: recommender_pb2.ScoreRequest
    ) -> recommender_pb2.ScoreResponse:
        """Score as the gateway does."""
        return await self._servicer.Score(request, cast(Any, _Waiting()))


def start_proxy(port: int) -> None:
    """Have Serve listen for gRPC on this machine. Call it before any gateway runs: Serve starts once."""
    from ray import serve
    from ray.serve.config import gRPCOptions

    serve.start(
        proxy_location="HeadOnly",
        http_options={"host": "127.0.0.1", "port": free_port()},
        grpc_options=gRPCOptions(
            port=port,
            grpc_servicer_functions=["recollect_api.v1.recommender_pb2_grpc.add_RecommenderServicer_to_server"],
        ),
        logging_config={"log_level": "WARNING", "enable_access_log": False},
    )


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


@contextmanager
def proxied(service: BenchedService) -> Iterator[None]:
    """A replica behind the proxy, with the model and the histories of `service`."""
    from ray import serve

    deployment = serve.deployment(name="Proxied", num_replicas=1, **DEPLOYMENT_OPTIONS)(ProxiedReplica)
    serve.run(
        deployment.bind(model=service.model_directory, redis_url=service.redis_url),
        name=APPLICATION,
        route_prefix=f"/{APPLICATION}",  # its proxy knows no application without one
    )
    try:
        yield
    finally:
        serve.delete(APPLICATION)
