"""How fast an event store is brought into Redis, and where the time goes.

    python -m recsys.history.benchmarks.load redis://127.0.0.1:6379/15 [--users 20000] [--events 100] [--json]

The database is emptied. A store of that many users with that many events each is made in a temporary directory. Beside
the whole load: packing alone (this process, no Redis), and the same bytes written by plain SETs (Redis and its protocol
alone). CPU seconds tell what a busy machine hides: how long each side worked.
"""

import argparse
import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from redis.asyncio import Redis

from recsys.data import event_store
from recsys.data.catalogue import Catalogue
from recsys.data.deletions import Deletions
from recsys.data.event_store import EventStore, StoreManifest
from recsys.history.benchmarks.running import report, run
from recsys.history.bulk import trips
from recsys.history.config import HistoryConfig
from recsys.history.store import HistoryStore
from recsys.history.stored_events import Tally, records_of_users

FIRST_MS = 1_600_000_000_000
ITEMS = 50_000


def make_store(directory: Path, *, users: int, events: int) -> EventStore:
    """A store of `users` with `events` each, a second apart, of ITEMS items."""
    generator, total = np.random.default_rng(0), users * events
    np.save(directory / event_store.OFFSETS_FILE, np.arange(users + 1) * events)
    np.save(directory / event_store.ITEMS_FILE, generator.integers(1, ITEMS + 1, total, dtype=np.int32))
    np.save(directory / event_store.TIMES_FILE, np.tile(FIRST_MS + 1_000 * np.arange(events), users))
    np.save(directory / event_store.TYPES_FILE, np.ones(total, dtype=np.uint8))
    names = [f"user-{user:09d}" for user in range(users)]
    pl.DataFrame({"user_id": names}).write_parquet(directory / event_store.USERS_FILE)
    Catalogue(
        item_ids=np.arange(-1, ITEMS, dtype=np.int64),
        category_rows=np.concatenate([[0], np.ones(ITEMS)]).astype(np.int32),
        category_ids=np.array([-1, 0], dtype=np.int64),
    ).save(directory)
    manifest = StoreManifest(
        n_users=users,
        n_items=ITEMS,
        n_categories=1,
        n_events=total,
        first_time_ms=FIRST_MS,
        last_time_ms=FIRST_MS + 1_000 * (events - 1),
    )
    (directory / event_store.MANIFEST_FILE).write_text(json.dumps(asdict(manifest)))
    return EventStore(directory)


async def measure(url: str, store: EventStore) -> list[dict[str, object]]:
    """Seconds and events a second of each way."""
    config = HistoryConfig(timeout_s=10.0)
    redis: Any = Redis.from_url(url)
    taken: dict[str, npt.NDArray[np.float64]] = {}

    async def now() -> npt.NDArray[np.float64]:
        """Wall clock, CPU seconds of this process, CPU seconds of Redis."""
        used = await redis.info("cpu")
        return np.array([time.perf_counter(), time.process_time(), used["used_cpu_sys"] + used["used_cpu_user"]])

    began = await now()
    packed: list[tuple[int, bytes]] = []
    for chunk in trips(store, np.arange(store.n_users), cap=config.cap):
        packed += records_of_users(
            store, chunk, cap=config.cap, latest_ms=2**47, tally=Tally(), deletions=Deletions(store.directory)
        )
    taken["packing alone"] = await now() - began
    await redis.flushdb()
    began = await now()
    for first in range(0, len(packed), 500):
        async with redis.pipeline(transaction=False) as pipeline:
            for user, records in packed[first : first + 500]:
                pipeline.set(f"bare:{user}", records)
            await pipeline.execute()
    taken["plain SET of the same bytes"] = await now() - began
    await redis.flushdb()
    async with HistoryStore(url, config=config) as histories:
        for name in ("load", "load again, all there"):
            began = await now()
            await histories.load(store)
            taken[name] = await now() - began
    await redis.aclose()
    return [
        {
            "what": name,
            "events_a_second": round(len(store) / wall),
            "seconds": round(wall, 2),
            "client_cpu_s": round(client, 2),
            "redis_cpu_s": round(server, 2),
        }
        for name, (wall, client, server) in taken.items()
    ]


def main() -> None:
    """Measure and print a Markdown table, or JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="Redis database that may be emptied")
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--events", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        store = make_store(Path(directory), users=options.users, events=options.events)
        rows = run(measure(options.url, store))
    report(f"{options.users:,} users of {options.events:,} events", rows, as_json=options.json)


if __name__ == "__main__":
    main()
