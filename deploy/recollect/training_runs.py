"""What every training command does around a run on Ray: share out the processors, and tell how far it has come."""

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recollect.errors import SetupError

_POLL_S = 0.2

OnStep = Callable[[int, int, Mapping[str, Any]], None]
"""Called with (step, steps in all, the log line)."""


def cpus_per_worker(workers: int) -> int:
    """Processors of the connected cluster for each of `workers`; SetupError where there are too few."""
    import ray

    cluster = int(ray.cluster_resources().get("CPU", 0))  # type: ignore[no-untyped-call]
    if workers > cluster:
        raise SetupError(
            f"--workers {workers} needs {workers} processors, the Ray cluster has {cluster}; use fewer workers"
        )
    # One node's share at most: a worker does not span nodes.
    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    largest = max(int(node["Resources"].get("CPU", 0)) for node in nodes)
    return max(1, min(largest, cluster // workers))


@contextmanager
def followed(log: Path, on_step: OnStep | None) -> Iterator[None]:
    """Tell `on_step` of every line that the training workers write, while the block runs."""
    if on_step is None:
        yield
        return
    done = threading.Event()
    follower = threading.Thread(target=_follow, args=(log, on_step, done), daemon=True)
    follower.start()
    try:
        yield
    finally:
        done.set()
        follower.join()


def _follow(log: Path, on_step: OnStep, done: threading.Event) -> None:
    read, inode = 0, None
    while True:
        last_look = done.is_set()
        if log.exists():
            with log.open() as file:
                if os.fstat(file.fileno()).st_ino != inode:  # a resumed run rewrote it up to its checkpoint
                    read, inode = 0, os.fstat(file.fileno()).st_ino
                file.seek(read)
                for line in iter(file.readline, ""):
                    if not line.endswith(os.linesep):
                        break  # still being written
                    read = file.tell()
                    entry = json.loads(line)
                    on_step(entry["step"], entry.get("of", entry["step"]), entry)
        if last_look:
            return
        done.wait(_POLL_S)
