"""Ways to keep 10,000 events of a user in Redis, measured on a real server: memory, append, read.

    python -m recsys.history.benchmarks.encodings redis://127.0.0.1:6379/15 [--rounds 5] [--json]

The database is emptied. All hold the same records of 18 bytes, appended one by one in order; a row gives the memory of
the history with all overhead, and p50 of one append and of one read with decoding, medians over rounds taken in turns.

- list: one record an element, RPUSH and LRANGE;
- chunks: a hash of 512 records a field, the last of which is written anew by each append;
- string, growing: SETRANGE at the end of one string, GETRANGE;
- ours: one string with spare room at its end, written by the script (with order, duplicates, cap and version).
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
from redis.asyncio import Redis

from recsys.history.benchmarks.running import report, run
from recsys.history.codec import RECORD_BYTES, EventBatch, Records, decode, encode
from recsys.history.config import HistoryConfig
from recsys.history.store import HistoryStore

EVENTS = 10_000
CHUNK = 512
CALLS = 100
FIRST_MS = 1_600_000_000_000

Append = Callable[[bytes], Awaitable[Any]]
Read = Callable[[], Awaitable[Any]]


class Chunks:
    """A hash of CHUNK records a field; the last field is kept here, as a script would read it."""

    def __init__(self, redis: Any) -> None:
        self._redis = redis
        self._count, self._last = 0, b""

    async def append(self, record: bytes) -> None:
        """Write the last chunk anew."""
        field, place = divmod(self._count, CHUNK)
        self._last = record if place == 0 else self._last + record
        self._count += 1
        await self._redis.hset("chunks", str(field), self._last)

    async def read(self) -> Records:
        """The latest EVENTS records."""
        newest = (self._count - 1) // CHUNK
        fields = [str(field) for field in range(max(0, newest - EVENTS // CHUNK - 1), newest + 1)]
        chunks = await self._redis.hmget("chunks", fields)
        return decode(b"".join(chunks)[-EVENTS * RECORD_BYTES :])


async def measure(url: str, rounds: int) -> list[dict[str, object]]:
    """One row an encoding."""
    redis: Any = Redis.from_url(url)
    await redis.flushdb()
    async with HistoryStore(url, config=HistoryConfig(timeout_s=10.0)) as store:
        chunks, ends = Chunks(redis), itertools.count(0, RECORD_BYTES)

        async def read_list() -> Records:
            return decode(b"".join(await redis.lrange("list", -EVENTS, -1)))

        async def read_string() -> Records:
            return decode(await redis.getrange("string", -EVENTS * RECORD_BYTES, -1))

        async def append_ours(record: bytes) -> None:
            decoded = decode(record)
            await store.append("u", EventBatch.of(decoded.item_ids, decoded.times_ms))

        ways: dict[str, tuple[str, Append, Read]] = {
            "list": ("list", lambda record: redis.rpush("list", record), read_list),
            "chunks of 512": ("chunks", chunks.append, chunks.read),
            "string, growing": ("string", lambda record: redis.setrange("string", next(ends), record), read_string),
            "ours": (store.key_of("u"), append_ours, lambda: store.read("u", limit=EVENTS)),
        }
        times = itertools.count(FIRST_MS, 1_000)
        for _ in range(EVENTS):
            record = encode(EventBatch.of([7], [next(times)]))
            for _, append, _ in ways.values():
                await append(record)
        memory = {name: int(await redis.memory_usage(key, samples=0) or 0) for name, (key, _, _) in ways.items()}
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, (_, append, read) in ways.items():
                records = [encode(EventBatch.of([7], [next(times)])) for _ in range(CALLS)]
                appends = [await _timed(append(record)) for record in records]
                reads = [await _timed(read()) for _ in range(CALLS)]
                taken[name].append((float(np.median(appends)), float(np.median(reads))))
    await redis.aclose()
    return [
        {
            "encoding": name,
            "bytes_an_event": round(memory[name] / EVENTS, 1),
            "append_p50_ms": round(statistics.median(row[0] for row in rows), 3),
            "read_and_decode_p50_ms": round(statistics.median(row[1] for row in rows), 3),
        }
        for name, rows in taken.items()
    ]


async def _timed(operation: Awaitable[Any]) -> float:
    began = time.perf_counter()
    await operation
    return 1_000 * (time.perf_counter() - began)


def main() -> None:
    """Measure and print a Markdown table, or JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="Redis database that may be emptied")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = run(measure(options.url, options.rounds))
    title = f"{EVENTS:,} events of one user, {CALLS} calls a round, {options.rounds} rounds"
    report(title, rows, as_json=options.json)


if __name__ == "__main__":
    main()
