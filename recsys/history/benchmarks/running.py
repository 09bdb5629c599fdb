"""What the benchmarks of histories share: the event loop of the service, and the table."""

import asyncio
import json
from collections.abc import Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

T = TypeVar("T")


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A loop of uvloop where that is installed, as Ray gives it to the replicas that ask the store; else asyncio's."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` on such a loop."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(work)


def report(title: str, rows: Sequence[Mapping[str, object]], *, as_json: bool) -> None:
    """Print `rows`, which have the same keys, as JSON lines or as a dated Markdown table."""
    if as_json:
        for row in rows:
            print(json.dumps(row))
        return
    print(f"{datetime.now(UTC):%Y-%m-%d}, {title}\n")
    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(_shown(value) for value in row.values()) + " |")


def _shown(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
