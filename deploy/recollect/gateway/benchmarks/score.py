"""Measure Score over gRPC by the length of the history, beside the model call alone: a real Redis, a real model.

One gateway answers one caller at a time, in this process, with one thread that ranks. Users take turns, so that
whatever else the machine does meets all of them. The last has more events appended than the store keeps: what is read
is the newest `--cap`, as for the user before.
"""

import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recollect.embedded.redis import EmbeddedRedis
from recollect.gateway.benchmarks.running import Row, append_history, print_rows, random_model, row, running_gateway
from recollect.gateway.models import ModelSlot
from recollect.gateway.server import Gateway, GatewayConfig
from recollect.gateway.workers import use_one_torch_thread
from recollect_api import RecollectClient


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """What is measured."""

    items: int = 100_000
    candidates: int = 100
    history: int = 10_000
    """Behaviours of the first user."""
    cap: int = 50_000
    """Behaviours of the second user; all that is kept of one."""
    appended: int = 200_000
    """Behaviours of the third, one after the other."""
    calls: int = 400


def measure(sizes: Sizes) -> list[Row]:
    """Two rows a user: the call over gRPC, and the model call alone with the same history."""
    use_one_torch_thread()
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = stack.enter_context(EmbeddedRedis(place / "redis"))
        model = random_model(place / "model", sizes.items)
        config = GatewayConfig(history_limit=sizes.cap)
        gateway, store, run = stack.enter_context(
            running_gateway(
                redis.url, lambda store: Gateway(config, slot=ModelSlot(model), histories=store), cap=sizes.cap
            )
        )
        client = stack.enter_context(RecollectClient(f"127.0.0.1:{gateway.port}", timeout_s=30, connections=1))
        random = np.random.default_rng(4)
        users = {f"{events:,} behaviours": events for events in (sizes.history, sizes.cap, sizes.appended)}
        histories = {}
        for user, events in users.items():
            run(append_history(store, user, events, model.popularity.item_ids, random))
            histories[user] = run(store.read(user, limit=sizes.cap)).item_ids
        called: dict[str, list[float]] = {user: [] for user in users}
        ranked: dict[str, list[float]] = {user: [] for user in users}
        for _ in range(sizes.calls + 1):
            for user, history in histories.items():
                candidates = random.choice(sizes.items, sizes.candidates, replace=False).astype(np.int64)
                began = time.perf_counter()
                scores = client.score(user, candidates.tolist())
                called[user].append(time.perf_counter() - began)
                assert scores.history_length == len(history), scores.history_length
                began = time.perf_counter()
                model.ranker.rank(history, candidates)
                ranked[user].append(time.perf_counter() - began)
        return [
            measured
            for user in users
            for measured in (
                row(f"call over gRPC, {user}", called[user][1:]),
                row(f"the model alone, {user}", ranked[user][1:]),
            )
        ]


def main(arguments: list[str] | None = None) -> None:
    """Print a JSON line a row."""
    print_rows(measure, Sizes, __doc__, arguments)


if __name__ == "__main__":
    main()
