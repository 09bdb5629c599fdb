"""What benchmarks of the gateway share: a model of random weights, histories, a gateway in this process, figures.

Random weights of DARE's published sizes take as long as trained ones. The gateway has a loop and a thread of its own,
so that callers are as synchronous as product backends are.
"""

import argparse
import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from recollect.gateway.models import ServedModel
from recollect.gateway.server import Gateway
from recsys.data.catalogue import Catalogue
from recsys.data.event_store import EventType
from recsys.history import HistoryConfig, HistoryStore
from recsys.history.benchmarks.running import new_event_loop
from recsys.history.codec import EventBatch
from recsys.models.dare import Dare, DareConfig
from recsys.models.directory import save_model
from recsys.models.popularity import Popularity
from recsys.ranking import Ranker

Run = Callable[[Awaitable[Any]], Any]
"""Waits for work on the gateway's loop."""

_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
_CATEGORIES = 200
_APPENDED = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One stage, or the whole call."""

    stage: str
    p50_ms: float
    p99_ms: float
    calls: int


def row(stage: str, taken: Sequence[float]) -> Row:
    """The figures of calls that took so many seconds each."""
    p50, p99 = np.percentile(np.array(taken) * 1_000, [50, 99])
    return Row(stage=stage, p50_ms=round(float(p50), 3), p99_ms=round(float(p99), 3), calls=len(taken))


def print_rows(
    measure: Callable[[Any], list[Row]], sizes: type[Any], description: str | None, arguments: list[str] | None
) -> None:
    """Measure with the `sizes` that the command line names, a data class of whole numbers; print a JSON line a row."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in asdict(sizes()).items():
        parser.add_argument(f"--{name}", type=int, default=default)
    for measured in measure(sizes(**vars(parser.parse_args(arguments)))):
        print(json.dumps(asdict(measured)))


def random_model(directory: Path, items: int) -> ServedModel:
    """A model of `items` items, ids from 0, in serving form; what is popular falls as 1 / rank."""
    random = np.random.default_rng(3)
    categories = random.integers(1, _CATEGORIES + 1, items).astype(np.int32)
    catalogue = Catalogue(
        item_ids=np.arange(-1, items, dtype=np.int64),
        category_rows=np.concatenate([np.zeros(1, dtype=np.int32), categories]),
        category_ids=np.arange(-1, _CATEGORIES, dtype=np.int64),
    )
    config = DareConfig(n_items=items, n_categories=_CATEGORIES)
    model = Dare(config, torch.from_numpy(catalogue.category_rows), generator=torch.Generator().manual_seed(3))
    save_model(directory, model.eval(), catalogue, training={}, data={}, metrics={})
    ranker = Ranker.load(directory)
    popularity = Popularity(random.permutation(items).astype(np.int64), items // np.arange(1, items + 1))
    return ServedModel(name="random", version="1", ranker=ranker, catalogue=ranker.catalogue, popularity=popularity)


async def append_history(
    store: HistoryStore, user: str, events: int, popular: npt.NDArray[np.int64], random: np.random.Generator
) -> None:
    """Append `events` behaviours a minute apart, with items of `popular`, most popular first, drawn as 1 / rank."""
    ranks = np.exp(random.uniform(0, np.log(len(popular)), events)).astype(np.int64) - 1
    begin_ms = int(_BEGIN.timestamp() * 1_000)
    for begin in range(0, events, _APPENDED):
        at = np.arange(begin, min(begin + _APPENDED, events))
        types = np.full(len(at), int(EventType.CLICK))
        await store.append(user, EventBatch(item_ids=popular[ranks[at]], times_ms=begin_ms + 60_000 * at, types=types))


@contextmanager
def running_gateway(
    redis_url: str, gateway_of: Callable[[HistoryStore], Gateway], *, cap: int = 50_000
) -> Iterator[tuple[Gateway, HistoryStore, Run]]:
    """A gateway that has started, the store that it asks, and how to wait for work on their loop.

    The store keeps `cap` behaviours of a user.
    """
    loop = new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def run(work: Awaitable[Any]) -> Any:
        async def waited() -> Any:
            return await work

        return asyncio.run_coroutine_threadsafe(waited(), loop).result(120)

    async def started() -> tuple[HistoryStore, Gateway]:
        store = HistoryStore(redis_url, config=HistoryConfig(cap=cap, timeout_s=5.0))
        gateway = gateway_of(store)
        await gateway.start()
        return store, gateway

    store, gateway = run(started())
    try:
        yield gateway, store, run
    finally:
        run(gateway.stop(1.0))
        run(store.close())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()
