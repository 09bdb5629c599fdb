"""From an event log to a published model: what `recollect train` and `recollect demo` have in common."""

import hashlib
import shutil
from pathlib import Path

from recollect.artifacts import Artifact, ArtifactStore, models_of
from recollect.embedded.ray import ray_cluster
from recollect.settings import Settings
from recollect.training_runs import OnStep, cpus_per_worker, followed
from recsys.data.event_store import EventStore
from recsys.models.dare import Dare
from recsys.training.config import TrainConfig
from recsys.training.loop import LOG_FILE, MODEL_DIRECTORY, claim


def models(settings: Settings) -> ArtifactStore:
    """The published models of this deployment."""
    return models_of(settings)


def run_directory(settings: Settings, store: Path, config: TrainConfig, *, name: str | None = None) -> Path:
    """Where a run keeps its files: `name`, or one that follows from data and configuration.

    Running the same again then finds what a killed run left.
    """
    if name is None:
        identity = hashlib.sha256(f"{store.resolve()}\n{config.to_json()}".encode()).hexdigest()
        model = "" if config.model == Dare.kind else f"{config.model}-"
        name = f"{store.name}-{model}seed{config.seed}-{identity[:8]}"
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

    Its name among the models is its kind's, so that a baseline never takes the label that the service follows.
    `fresh` forgets what the run directory holds. Raises SetupError for more workers than the cluster has processors.
    """
    if fresh:
        shutil.rmtree(run, ignore_errors=True)
    # Mistakes in the paths or options should not wait for Ray to start.
    claim(run, config, EventStore(store))
    if not (run / MODEL_DIRECTORY).exists():
        with ray_cluster(settings), followed(run / LOG_FILE, on_step):
            from recsys.training.ray_train import fit

            fit(store, config, run, workers=workers, cpus_per_worker=cpus_per_worker(workers))
    published = models(settings)
    parents = {"store": str(store.resolve()), "run": run.name}
    artifact = published.publish(config.model, run / MODEL_DIRECTORY, parents=parents)
    if label is not None:
        published.set_label(config.model, label, artifact.version)
    return artifact
