"""Kill Redis in the middle of concurrent appends, again and again, and count what was acknowledged and is gone.

    python -m recollect.embedded.benchmarks.loss [--fsync everysec] [--kills 20] [--json]

A kill takes the server alone: what it had handed to the kernel stays. A machine that goes down also takes what the
kernel had not written: with "everysec" that is up to a second of appends, two where the disk is slow; with "always"
nothing.
"""

import argparse
import asyncio
import json
import os
import signal
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Literal

from recollect.embedded.redis import EmbeddedRedis
from recsys.errors import HistoryError
from recsys.history import EventBatch, HistoryConfig, HistoryStore

CONCURRENT = 500
"""Appends that are under way when the server is killed."""
USERS = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Loss:
    """What became of single events that were sent, each with a request id, until they were acknowledged."""

    fsync: str
    kills: int
    acknowledged: int
    interrupted: int
    """Appends that ended without an answer and were sent again with the same request id."""
    applied_before: int
    """Of these, those that had been applied after all."""
    lost: int
    """Acknowledged and not there."""
    duplicates: int
    """There twice."""


async def measure(
    directory: Path,
    *,
    fsync: Literal["always", "everysec"],
    kills: int,
    binary: Path | None = None,
    random: Random | None = None,
) -> Loss:
    """Send `CONCURRENT` events at once, kill the server when a random number of them is acknowledged, start it again
    and send what failed again; all that `kills` times."""
    random = random or Random(0)
    server = EmbeddedRedis(directory, fsync=fsync, binary=binary)
    acknowledged: list[int] = []
    pending: list[int] = []
    interrupted = applied_before = 0
    try:
        for kill in range(kills):
            await asyncio.to_thread(server.start)
            async with _open(server) as store:
                repeated = await asyncio.gather(*(_send(store, event) for event in pending))
                acknowledged += pending
                applied_before += sum(repeated)
                answered, pending = await _kill_amid(
                    server, store, range(kill * CONCURRENT, (kill + 1) * CONCURRENT), after=random.randrange(CONCURRENT)
                )
            acknowledged += answered
            interrupted += len(pending)
            await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)
        stored: Counter[int] = Counter()
        async with _open(server) as store:
            applied_before += sum(await asyncio.gather(*(_send(store, event) for event in pending)))
            acknowledged += pending
            for user in range(USERS):
                stored.update((await store.read(f"u{user}", limit=store.config.cap)).item_ids.tolist())
    finally:
        server.stop()
    return Loss(
        fsync=fsync,
        kills=kills,
        acknowledged=len(acknowledged),
        interrupted=interrupted,
        applied_before=applied_before,
        lost=sum(stored[event] == 0 for event in acknowledged),
        duplicates=sum(count - 1 for count in stored.values()),
    )


async def _kill_amid(
    server: EmbeddedRedis, store: HistoryStore, events: range, *, after: int
) -> tuple[list[int], list[int]]:
    """Send `events` at once and kill the server when `after` are acknowledged: those that were, and the others."""
    answered: list[int] = []

    async def send(event: int) -> int | None:
        try:
            await _send(store, event)
        except HistoryError:
            return event
        answered.append(event)
        if len(answered) == after + 1 and server.pid is not None:
            os.kill(server.pid, signal.SIGKILL)
        return None

    failed = await asyncio.gather(*map(send, events))
    return answered, [event for event in failed if event is not None]


def _open(server: EmbeddedRedis) -> HistoryStore:
    return HistoryStore(server.url, config=HistoryConfig(timeout_s=20.0, max_connections=CONCURRENT))


async def _send(store: HistoryStore, event: int) -> bool:
    """Append one event; whether its request had been applied before.

    Many events share a millisecond, and only the item tells them apart, which is their number.
    """
    events = EventBatch.of([event], [event // 1_000])
    return (await store.append(f"u{event % USERS}", events, request_id=f"r{event}")).repeated


def main() -> None:
    """Measure and print a Markdown table, or JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fsync", choices=["always", "everysec"], action="append")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    for fsync in options.fsync or ["always", "everysec"]:
        with tempfile.TemporaryDirectory() as directory:
            rows.append(asdict(asyncio.run(measure(Path(directory), fsync=fsync, kills=options.kills))))
    if options.json:
        for row in rows:
            print(json.dumps(row))
        return
    print(f"{datetime.now(UTC):%Y-%m-%d}, {CONCURRENT} concurrent appends to {USERS} users at each kill\n")
    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(map(str, row.values())) + " |")


if __name__ == "__main__":
    main()
