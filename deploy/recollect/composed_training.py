"""Train, publish and find models of composed retrieval: what the commands and serving have in common."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recollect.artifacts import COMPOSED_MODELS, Artifact, models_of
from recollect.settings import Settings

if TYPE_CHECKING:
    from recollect.training_runs import OnStep
    from retrieval.composed.training.config import ComposedTrainConfig, PretrainConfig
    from retrieval.composed.training.job import TrainJob
    from retrieval.composed.training.pretraining_job import PretrainJob
    from retrieval.runs.workers import Worker

MODEL_NAME = "adafocal"
"""Name of models of composed retrieval among the artifacts."""
START_NAME = "adafocal-start"
"""Name of what their training starts from."""


def composed_path(settings: Settings, reference: str) -> str:
    """What `retrieval.composed.encoder.load_composed` takes for `reference`.

    "adafocal@stable" and "adafocal/<version>" become the directory of that version, its hashes checked; a directory its
    whole path, since replicas have another working directory; a shipped or hub name stays as it is. Raises
    ArtifactError for a label or an altered version.
    """
    if Path(reference).is_dir():
        return str(Path(reference).resolve())
    published = models_of(settings, COMPOSED_MODELS)
    for name in (MODEL_NAME, START_NAME):
        ours = reference.startswith(f"{name}/") and published.has(reference)
        if reference.startswith(f"{name}@") or ours:
            return str(published.resolve(reference).directory)
    return reference


def features_directory(settings: Settings, directory: Path, start: str) -> Path:
    """Where frozen image features of a data set are kept, for every run that starts from the same model."""
    identity = hashlib.sha256(f"{directory.resolve()}\n{start}".encode()).hexdigest()
    return settings.var.resolve() / "cache" / "composed" / identity[:16]


def run_directory(settings: Settings, prefix: str, identity: dict[str, Any], *, name: str | None = None) -> Path:
    """Where a run keeps its files: `name`, or one that follows from data and configuration.

    Running the same again then finds what a killed run left.
    """
    if name is None:
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        name = f"{prefix}-{digest[:8]}"
    return settings.var / "runs" / name


def train_and_publish_composed(
    settings: Settings,
    job: "TrainJob",
    config: "ComposedTrainConfig",
    run: Path,
    *,
    workers: int = 1,
    gpu: bool = False,
    label: str | None = None,
    fresh: bool = False,
    on_step: "OnStep | None" = None,
) -> Artifact:
    """Train on Ray, going on where a killed run stopped, and publish the model, with `label` where one is given.

    With `gpu` each worker takes one.

    `fresh` forgets what the run directory holds. Raises SetupError for more workers than the cluster has processors.
    """
    from retrieval.composed.training.job import identity, run_job

    return _train_and_publish(
        settings,
        MODEL_NAME,
        run,
        identity(job, config),
        run_job,
        workers=workers,
        gpu=gpu,
        label=label,
        fresh=fresh,
        on_step=on_step,
    )


def pretrain_and_publish(
    settings: Settings,
    job: "PretrainJob",
    config: "PretrainConfig",
    run: Path,
    *,
    label: str | None = None,
    fresh: bool = False,
    on_step: "OnStep | None" = None,
) -> Artifact:
    """The same for a starting model, on one worker."""
    from retrieval.composed.training.pretraining_job import pretraining_identity, run_pretraining

    return _train_and_publish(
        settings,
        START_NAME,
        run,
        pretraining_identity(job, config),
        run_pretraining,
        workers=1,
        label=label,
        fresh=fresh,
        on_step=on_step,
    )


def _train_and_publish(
    settings: Settings,
    name: str,
    run: Path,
    identity: dict[str, Any],
    train: "Callable[[Path, Worker], None]",
    *,
    workers: int,
    gpu: bool = False,
    label: str | None,
    fresh: bool,
    on_step: "OnStep | None",
) -> Artifact:
    from recollect.embedded.ray import ray_cluster
    from recollect.training_runs import cpus_per_worker, followed
    from retrieval.runs.directory import LOG_FILE, MODEL_DIRECTORY, claim

    if fresh:
        shutil.rmtree(run, ignore_errors=True)
    # Mistakes in the options should not wait for Ray to start.
    claim(run, identity)
    if not (run / MODEL_DIRECTORY).exists():
        with ray_cluster(settings), followed(run / LOG_FILE, on_step):
            from retrieval.runs.ray_train import fit

            fit(train, run, workers=workers, cpus_per_worker=cpus_per_worker(workers), gpu_per_worker=gpu)
    published = models_of(settings)
    artifact = published.publish(name, run / MODEL_DIRECTORY, parents={**identity["data"], "run": run.name})
    if label is not None:
        published.set_label(name, label, artifact.version)
    return artifact
