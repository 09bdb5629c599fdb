"""Latency of appends and reads, beside what the same Redis takes for the bare bytes (GETRANGE).

    python -m recsys.history.benchmarks.latency redis://127.0.0.1:6379/15 [--rounds 7] [--json]

The database is emptied. Every 50 calls are followed by as many of their bare peer: a GETRANGE of as many bytes as one
writes or reads, by redis-py, not decoded. (Call by call in turns, each would find the caches and the connection cold
from the other.) A row gives the median over rounds of a round's p50 and p99, of the peer's p50, and of the ratio of the
p50s. "of 200,000" is a user to whom so many events were appended one trip after the other, against one who never had
more than the cap.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Awaitable, Callable

import numpy as np
from redis.asyncio import Redis

from recsys.history.benchmarks.running import report, run
from recsys.history.codec import RECORD_BYTES, EventBatch
from recsys.history.config import HistoryConfig
from recsys.history.store import HistoryStore

EVENTS = 50_000
CALLS = 200
"""Calls of one operation in a round."""
TURN = 50
"""Calls of one after the other, before it is the peer's turn."""
FIRST_MS = 1_600_000_000_000

Operation = Callable[[], Awaitable[object]]


async def measure(url: str, rounds: int) -> list[dict[str, object]]:
    """One row an operation."""
    redis = Redis.from_url(url)
    await redis.flushdb()
    generator = np.random.default_rng(0)
    item_ids = generator.integers(0, 1 << 40, EVENTS)
    times = FIRST_MS + 1_000 * np.arange(EVENTS)
    async with HistoryStore(url, config=HistoryConfig(timeout_s=10.0)) as store:
        await store.append("reader", EventBatch.of(item_ids, times))
        await store.append("writer", EventBatch.of(item_ids, times))
        for begin in range(0, 4 * EVENTS, 1_000):
            some = np.arange(begin, begin + 1_000)
            await store.append("old hand", EventBatch.of(some, FIRST_MS + 1_000 * some))
        key = store.key_of("reader")
        later = itertools.count(int(times[-1]) + 1_000, 1_000)

        def bare(events: int) -> Operation:
            return lambda: redis.getrange(key, -events * RECORD_BYTES, -1)

        def append(events: int) -> Operation:
            def call() -> Awaitable[object]:
                moments = [next(later) for _ in range(events)]
                return store.append("writer", EventBatch.of(item_ids[:events], moments))

            return call

        operations: dict[str, tuple[Operation, Operation]] = {
            "append 1": (append(1), bare(1)),
            "append 20": (append(20), bare(20)),
            "read 200": (lambda: store.read("reader", limit=200), bare(200)),
            "read 10,000": (lambda: store.read("reader", limit=10_000), bare(10_000)),
            "read 50,000": (lambda: store.read("reader", limit=50_000), bare(50_000)),
            "read 10,000 as of": (
                lambda: store.read("reader", limit=10_000, before_ms=int(times[30_000])),
                bare(10_000),
            ),
            "read 50,000 of 200,000, to read 50,000": (
                lambda: store.read("old hand", limit=50_000),
                lambda: store.read("reader", limit=50_000),
            ),
        }
        timed: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in operations}
        for _ in range(rounds):
            for name, (ours, peer) in operations.items():
                timed[name].append(await _round(ours, peer))
        bytes_an_event = (await redis.memory_usage(key, samples=0) or 0) / EVENTS
    await redis.aclose()
    return [
        {
            "operation": name,
            "p50_ms": round(statistics.median(row[0] for row in taken), 3),
            "p99_ms": round(statistics.median(row[1] for row in taken), 3),
            "bare_p50_ms": round(statistics.median(row[2] for row in taken), 3),
            "ratio_to_bare": round(statistics.median(row[3] for row in taken), 2),
            "bytes_an_event": round(bytes_an_event, 1),
        }
        for name, taken in timed.items()
    ]


async def _round(ours: Operation, peer: Operation) -> tuple[float, float, float, float]:
    """p50 and p99 of `ours` in ms, the p50 of `peer`, and the ratio of the p50s."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(CALLS // TURN):
        for operation, kept in zip((ours, peer), times, strict=True):
            for _ in range(TURN):
                began = time.perf_counter()
                await operation()
                kept.append(1_000 * (time.perf_counter() - began))
    median, tail = np.percentile(times[0], [50, 99])
    bare = np.median(times[1])
    return float(median), float(tail), float(bare), float(median / bare)


def main() -> None:
    """Measure and print a Markdown table, or JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="Redis database that may be emptied")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = run(measure(options.url, options.rounds))
    title = f"{EVENTS:,} events a user, {CALLS} calls a round, {options.rounds} rounds"
    report(title, rows, as_json=options.json)


if __name__ == "__main__":
    main()
