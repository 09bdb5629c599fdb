"""The whole service to be measured, as `recollect serve` starts it: Ray Serve, its replicas, Redis, a model of random
weights and histories; and the calls that it gets."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]
import numpy as np
import numpy.typing as npt

from recollect import serve_app
from recollect.embedded.ray import ray_cluster
from recollect.embedded.redis import EmbeddedRedis
from recollect.gateway.benchmarks.open_loop import OK
from recollect.gateway.benchmarks.running import append_history, random_model
from recollect.gateway.models import ServedModel
from recollect.settings import Settings
from recollect_api.balancing import Balancer
from recollect_api.channel import ChannelConfig, open_async_channel
from recollect_api.errors import Unavailable
from recollect_api.throttling import OVERLOADED, THROTTLED, Throttle
from recollect_api.v1 import recommender_pb2
from recsys.history import HistoryConfig, HistoryStore

SCORE = "/recollect_api.v1.Recommender/Score"


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceSizes:
    """What is served, and how it is asked."""

    history: int = 10_000
    """Behaviours of each user."""
    candidates: int = 100
    """Candidates of a call."""
    items: int = 100_000
    users: int = 50
    replicas: int = 2
    requests: int = 500
    """Different calls; they come again in turn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One call that the service gets."""

    user_id: str
    candidates: npt.NDArray[np.int64]
    request: bytes
    """As it goes over the wire."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchedService:
    """A service that runs."""

    address: str
    redis_url: str
    model: ServedModel
    """The model that it answers with, in this process."""
    model_directory: Path
    histories: dict[str, npt.NDArray[np.int64]]
    """Items of each user's history, as the service reads them."""
    asked: list[Asked]
    settings: Settings


@contextmanager
def benched_service(
    sizes: ServiceSizes,
    *,
    on_stage: Callable[[str], None],
    before_gateways: Callable[[], None] | None = None,
) -> Iterator[BenchedService]:
    """A service of its own Ray node and Redis, which end with the block; `on_stage` is told what takes time.

    `before_gateways` is called once Ray is there.
    """
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        settings = Settings(var=place, port=0, replicas=sizes.replicas, classification=False)
        on_stage(f"making a model of {sizes.items:,} items")
        directory = place / "random-model"
        model = random_model(directory, sizes.items)
        redis = stack.enter_context(EmbeddedRedis(place / "redis"))
        on_stage(f"appending {sizes.users} histories of {sizes.history:,} behaviours")
        random = np.random.default_rng(4)
        histories = asyncio.run(append_histories(redis.url, sizes, model, random))
        on_stage("starting Ray and the gateways")
        stack.enter_context(ray_cluster(settings, serving=True))
        if before_gateways is not None:
            before_gateways()
        gateway = stack.enter_context(serve_app.run(settings, str(directory), redis_url=redis.url))
        yield BenchedService(
            address=gateway.address,
            redis_url=redis.url,
            model=model,
            model_directory=directory,
            histories=histories,
            asked=_asked(sizes, list(histories), random),
            settings=settings,
        )


class Sender:
    """Makes calls over several connections, as many callers do, and chooses among them as our clients do.

    Use it in one event loop, and close it there.
    """

    def __init__(self, config: ChannelConfig, requests: Sequence[bytes], *, connections: int, timeout_s: float) -> None:
        self._channels = [open_async_channel(config) for _ in range(connections)]
        self._balancer = Balancer(
            [
                channel.unary_unary(SCORE, response_deserializer=recommender_pb2.ScoreResponse.FromString)
                for channel in self._channels
            ]
        )
        self._requests = requests
        self._timeout_s = timeout_s

    async def __call__(self, number: int) -> str:
        """Make the call whose turn it is; the name of its status."""
        return (await self._sent(number))[0]

    def heeding(self, throttle: Throttle) -> Callable[[int], Awaitable[str]]:
        """The same for callers who keep back what would most likely be refused, as our own clients do: such a call ends
        with `THROTTLED`."""

        async def send(number: int) -> str:
            try:
                throttle.require()
            except Unavailable:
                return THROTTLED
            code, reason = await self._sent(number)
            throttle.note(reason)
            return code

        return send

    async def _sent(self, number: int) -> tuple[str, str]:
        """What the call ended with, and how the throttle of our clients takes that."""
        try:
            with self._balancer.call() as score:
                await score(self._requests[number % len(self._requests)], timeout=self._timeout_s)
        except grpc.aio.AioRpcError as error:
            code = str(error.code().name)
            return code, OVERLOADED if code == "RESOURCE_EXHAUSTED" else code
        return OK, ""

    async def connect(self) -> None:
        """Wait until every connection is there."""
        for channel in self._channels:
            await asyncio.wait_for(channel.channel_ready(), 30)

    async def close(self) -> None:
        """Close the connections."""
        for channel in self._channels:
            await channel.close()


async def append_histories(
    redis_url: str, sizes: ServiceSizes, model: ServedModel, random: np.random.Generator
) -> dict[str, npt.NDArray[np.int64]]:
    """Give every user a history of popular items; items of each by user, as the store reads them."""
    async with HistoryStore(redis_url, config=HistoryConfig(timeout_s=10.0)) as store:
        users = [f"user-{number}" for number in range(sizes.users)]
        for user in users:
            await append_history(store, user, sizes.history, model.popularity.item_ids, random)
        return {user: (await store.read(user, limit=sizes.history)).item_ids for user in users}


def _asked(sizes: ServiceSizes, users: Sequence[str], random: np.random.Generator) -> list[Asked]:
    asked = []
    for number in range(sizes.requests):
        candidates = random.choice(sizes.items, sizes.candidates, replace=False).astype(np.int64)
        user = users[number % len(users)]
        request = recommender_pb2.ScoreRequest(user_id=user, item_ids=candidates.tolist())
        asked.append(Asked(user_id=user, candidates=candidates, request=request.SerializeToString()))
    return asked
