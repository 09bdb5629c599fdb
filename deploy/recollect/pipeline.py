"""From an event log to a published model: what `recollect train` and `recollect demo` have in common."""

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recollect.artifacts import Artifact, ArtifactStore
from recollect.embedded.ray import ray_cluster
from recollect.errors import SetupError
from recollect.settings import Settings
from recsys.data.event_store import EventStore
from recsys.training.config import TrainConfig
from recsys.training.loop import LOG_FILE, MODEL_DIRECTORY, claim

MODEL_NAME = "dare"
"""Name of the recommender among the artifacts."""
_POLL_S = 0.2

OnStep = Callable[[int, int, Mapping[str, Any]], None]
"""Called with (step, steps in all, the log line)."""


def models(settings: Settings) -> ArtifactStore:
    """The published models of this deployment."""
    return ArtifactStore(settings.var / "models")


def run_directory(settings: Settings, store: Path, config: TrainConfig, *, name: str | None = None) -> Path:
    """Where a run keeps its files: `name`, or one that follows from data and configuration.

    Running the same again then finds what a killed run left.
    """
    if name is None:
        identity = hashlib.sha256(f"{store.resolve()}\n{config.to_json()}".encode()).hexdigest()
        name = f"{store.name}-seed{config.seed}-{identity[:8]}"
    return settings.var / "runs" / name


def train_and_publish(
    settings: Settings,
    store: Path,
    config: TrainConfig,
    run: Path,
    *,
    workers: int = 1,
    label: str | None = None,
    fresh: bool = False,
    on_step: OnStep | None = None,
) -> Artifact:
    """Train on Ray, going on where a killed run stopped, and publish the model, with `label` where one is given.

    `fresh` forgets what the run directory holds. Raises SetupError for more workers than the cluster has processors.
    """
    if fresh:
        shutil.rmtree(run, ignore_errors=True)
    # Mistakes in the paths or options should not wait for Ray to start.
    claim(run, config, EventStore(store))
    if not (run / MODEL_DIRECTORY).exists():
        with ray_cluster(settings), _followed(run / LOG_FILE, on_step):
            from recsys.training.ray_train import fit

            fit(store, config, run, workers=workers, cpus_per_worker=_cpus_per_worker(workers))
    published = models(settings)
    parents = {"store": str(store.resolve()), "run": run.name}
    artifact = published.publish(MODEL_NAME, run / MODEL_DIRECTORY, parents=parents)
    if label is not None:
        published.set_label(MODEL_NAME, label, artifact.version)
    return artifact


def _cpus_per_worker(workers: int) -> int:
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
def _followed(log: Path, on_step: OnStep | None) -> Iterator[None]:
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
