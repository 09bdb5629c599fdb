"""Users with histories in an event store and in Redis, and a tiny model of the items that they know."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from recollect.artifacts import ArtifactStore
from recsys.data.event_store import EventStore
from recsys.data.ingest import ingest
from recsys.history import HistoryStore
from recsys.ranking import Ranker

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
EVENTS = [("ann", 10, 0), ("ann", 20, 60), ("ann", 30, 60), ("ann", 10, 120), ("bob", 30, 30), ("bob", 99, 40)]
"""User, item and seconds after BEGIN; the model does not know item 99."""


@dataclass(frozen=True)
class World:
    """What is scored with."""

    var: Path
    events: Path
    redis_url: str
    model: str
    ranker: Ranker

    @property
    def reference(self) -> str:
        return f"dare/{self.model}"


@pytest.fixture(scope="session")
def world(
    tmp_path_factory: pytest.TempPathFactory, history_redis_url: str, publish_tiny_dare: Callable[[Path, int], str]
) -> World:
    var = tmp_path_factory.mktemp("batch")
    lines = [f"{user},{item},{(BEGIN.timestamp() + after):.0f}" for user, item, after in EVENTS]
    (var / "log.csv").write_text("\n".join(["user,item,time", *lines]) + "\n")
    ingest("columns", var / "log.csv", var / "events")
    version = publish_tiny_dare(var / "models", 7)
    ArtifactStore(var / "models").set_label("dare", "stable", version)

    async def load() -> None:
        async with HistoryStore(history_redis_url) as store:
            await store.load(EventStore(var / "events"))

    asyncio.run(load())
    ranker = Ranker.load(var / "models" / "dare" / version)
    return World(var, var / "events", history_redis_url, version, ranker)


@pytest.fixture(scope="session")
def write_requests() -> Callable[..., Path]:
    """Write rows of requests: `write_requests(path, [("ann", [10, 20]), …], as_of=[…], history=[…])`."""

    def write(path: Path, rows: list[tuple[Any, Any]], **columns: Any) -> Path:
        frame = pl.DataFrame(
            {
                "user_id": pl.Series([user for user, _ in rows], dtype=pl.String),
                "item_ids": pl.Series([items for _, items in rows], dtype=pl.List(pl.Int64)),
                **columns,
            }
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.write_parquet(path)
        return path

    return write


@pytest.fixture(scope="session")
def expected(world: World) -> Callable[..., list[float]]:
    """What the model gives for a history and candidates, told as a list."""

    def rank(history: list[int], candidates: list[int]) -> list[float]:
        scores: list[float] = world.ranker.rank(np.array(history, dtype=np.int64), candidates).scores.tolist()
        return scores

    return rank
