"""What a call costs beyond the model: one after the other over gRPC and, in turns, the model call alone."""

import time
from dataclasses import dataclass

import numpy as np

from recollect.gateway.benchmarks.proxy import APPLICATION
from recollect.gateway.benchmarks.service import BenchedService
from recollect.gateway.workers import use_one_torch_thread
from recollect_api.channel import ChannelConfig, open_channel
from recollect_api.v1.recommender_pb2 import ScoreRequest
from recollect_api.v1.recommender_pb2_grpc import RecommenderStub

WARM_CALLS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Overhead:
    """Medians of calls that nothing else disturbed, milliseconds."""

    call_ms: float
    """Over gRPC, from client to client."""
    model_ms: float
    """The model call with the same history and candidates, in this process."""
    beyond_ms: float
    """Median of the differences of both."""
    proxied_ms: float | None = None
    """The same call through Ray Serve's own gRPC proxy; None where that was not measured."""


def measure_overhead(service: BenchedService, *, calls: int, proxy_port: int | None = None) -> Overhead:
    """`calls` of each, in turns, after a few that are not counted; Ray Serve's proxy listens on `proxy_port`."""
    use_one_torch_thread()
    called, ranked, proxied = [], [], []
    behind = f"127.0.0.1:{proxy_port}" if proxy_port else service.address
    with (
        open_channel(ChannelConfig(target=service.address)) as channel,
        open_channel(ChannelConfig(target=behind)) as proxy_channel,
    ):
        gateway, proxy = RecommenderStub(channel), RecommenderStub(proxy_channel)
        for number in range(calls + WARM_CALLS):
            asked = service.asked[number % len(service.asked)]
            history = service.histories[asked.user_id]
            request = ScoreRequest.FromString(asked.request)
            began = time.perf_counter()
            scores = gateway.Score(request, timeout=30)
            called.append(time.perf_counter() - began)
            assert scores.history_length == len(history), scores.history_length
            began = time.perf_counter()
            service.model.ranker.rank(history, asked.candidates)
            ranked.append(time.perf_counter() - began)
            if proxy_port is not None:
                began = time.perf_counter()
                proxy.Score(request, timeout=30, metadata=(("application", APPLICATION),))
                proxied.append(time.perf_counter() - began)
    of_calls, of_ranks = np.array(called[WARM_CALLS:]), np.array(ranked[WARM_CALLS:])
    return Overhead(
        call_ms=_median_ms(of_calls),
        model_ms=_median_ms(of_ranks),
        beyond_ms=_median_ms(of_calls - of_ranks),
        proxied_ms=_median_ms(np.array(proxied[WARM_CALLS:])) if proxied else None,
    )


def _median_ms(seconds: np.ndarray) -> float:
    return float(np.median(seconds) * 1_000)
