"""What a call costs beyond the model: one after the other over gRPC and, in turns, the model call alone; then, likewise
in turns, the same call through Ray Serve's own gRPC proxy.

Not all three in turns: the processes of the proxy take the caches of whoever comes next, which no service has beside
it that runs without one.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import grpc  # type: ignore[import-untyped]
import numpy as np
import numpy.typing as npt

from recollect.gateway.benchmarks.proxy import APPLICATION
from recollect.gateway.benchmarks.service import Asked, BenchedService
from recollect.gateway.workers import use_one_torch_thread
from recollect_api.channel import ChannelConfig, open_channel
from recollect_api.v1.recommender_pb2 import ScoreRequest
from recollect_api.v1.recommender_pb2_grpc import RecommenderStub

WARM_CALLS = 20

Call = Callable[[Asked], object]


@dataclass(frozen=True, kw_only=True, slots=True)
class Overhead:
    """Medians of calls that nothing else disturbed, milliseconds."""

    call_ms: float
    """Over gRPC, from client to client."""
    model_ms: float
    """The model call with the same history and candidates, in this process."""
    beyond_ms: float
    """Median of the differences of both."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Proxied:
    """Medians of calls in turns, milliseconds."""

    call_ms: float
    """To a gateway that listens itself."""
    proxied_ms: float
    """The same through Ray Serve's own gRPC proxy."""


def measure_overhead(service: BenchedService, *, calls: int) -> Overhead:
    """`calls` of each, in turns, after a few that are not counted."""
    use_one_torch_thread()

    def rank(asked: Asked) -> None:
        service.model.ranker.rank(service.histories[asked.user_id], asked.candidates)

    with open_channel(ChannelConfig(target=service.address)) as channel:
        called, ranked = _in_turns(service, calls, _scoring(service, channel), rank)
    return Overhead(call_ms=_median_ms(called), model_ms=_median_ms(ranked), beyond_ms=_median_ms(called - ranked))


def measure_proxied(service: BenchedService, *, calls: int, proxy_port: int) -> Proxied:
    """The same of a call to the gateway and one through the proxy that listens on `proxy_port`."""
    with (
        open_channel(ChannelConfig(target=service.address)) as channel,
        open_channel(ChannelConfig(target=f"127.0.0.1:{proxy_port}")) as proxy_channel,
    ):
        through_proxy = _scoring(service, proxy_channel, metadata=(("application", APPLICATION),))
        called, proxied = _in_turns(service, calls, _scoring(service, channel), through_proxy)
    return Proxied(call_ms=_median_ms(called), proxied_ms=_median_ms(proxied))


def _scoring(service: BenchedService, channel: grpc.Channel, metadata: tuple[tuple[str, str], ...] = ()) -> Call:
    """Calls over `channel`, whose answers are of the whole history."""
    score = RecommenderStub(channel).Score

    def call(asked: Asked) -> None:
        response = score(ScoreRequest.FromString(asked.request), timeout=30, metadata=metadata)
        assert response.history_length == len(service.histories[asked.user_id]), response.history_length

    return call


def _in_turns(service: BenchedService, calls: int, *ways: Call) -> list[npt.NDArray[np.float64]]:
    """[`calls`] seconds that each of `ways` took, for each of them."""
    taken: list[list[float]] = [[] for _ in ways]
    for number in range(calls + WARM_CALLS):
        asked = service.asked[number % len(service.asked)]
        for way, seconds in zip(ways, taken, strict=True):
            began = time.perf_counter()
            way(asked)
            seconds.append(time.perf_counter() - began)
    return [np.array(seconds[WARM_CALLS:]) for seconds in taken]


def _median_ms(seconds: npt.NDArray[np.float64]) -> float:
    return float(np.median(seconds) * 1_000)
