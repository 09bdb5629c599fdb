"""Train, publish and find encoders: what the commands, the demo and serving have in common."""

import hashlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from recollect.artifacts import ENCODERS, Artifact, models_of
from recollect.settings import Settings

if TYPE_CHECKING:
    from recollect.training_runs import OnStep
    from retrieval.encoders.text_cache import CachedTexts
    from retrieval.encoders.training.captions import CaptionedImages
    from retrieval.encoders.training.config import EncoderTrainConfig

ENCODER_NAME = "encoder"
"""Name of our own encoders among the artifacts."""


def encoder_path(settings: Settings, reference: str) -> str:
    """What `retrieval.encoders.load.load_encoder` takes for `reference`.

    "encoder@stable" and "encoder/<version>" become the directory of that version, its hashes checked; a directory its
    whole path, since replicas have another working directory; a shipped or hub name stays as it is. Raises
    ArtifactError for a label or an altered version.
    """
    if Path(reference).is_dir():
        return str(Path(reference).resolve())
    published = models_of(settings, ENCODERS)
    ours = reference.startswith(f"{ENCODER_NAME}/") and published.has(reference)
    if reference.startswith(f"{ENCODER_NAME}@") or ours:
        return str(published.resolve(reference).directory)
    return reference


def open_encoder(settings: Settings, reference: str) -> "CachedTexts":
    """The encoder of `reference`, which remembers on disk the texts that it has embedded."""
    from retrieval.encoders.load import load_encoder
    from retrieval.encoders.text_cache import CachedTexts

    return CachedTexts(load_encoder(encoder_path(settings, reference)), text_cache_directory(settings))


def text_cache_directory(settings: Settings) -> Path:
    """Where embeddings of texts are kept, for commands and replicas alike."""
    return settings.var.resolve() / "cache" / "texts"


def encoder_run_directory(
    settings: Settings, data: "CaptionedImages", config: "EncoderTrainConfig", *, name: str | None = None
) -> Path:
    """Where a run keeps its files: `name`, or one that follows from data and configuration.

    Running the same again then finds what a killed run left.
    """
    if name is None:
        identity = hashlib.sha256(f"{data.digest}\n{config.to_json()}".encode()).hexdigest()
        name = f"{ENCODER_NAME}-seed{config.seed}-{identity[:8]}"
    return settings.var / "runs" / name


def train_and_publish_encoder(
    settings: Settings,
    data: "CaptionedImages",
    config: "EncoderTrainConfig",
    run: Path,
    *,
    workers: int = 1,
    label: str | None = None,
    fresh: bool = False,
    on_step: "OnStep | None" = None,
) -> Artifact:
    """Train on Ray, going on where a killed run stopped, and publish the encoder, with `label` where one is given.

    `fresh` forgets what the run directory holds. Raises SetupError for more workers than the cluster has processors.
    """
    from recollect.embedded.ray import ray_cluster
    from recollect.training_runs import cpus_per_worker, followed
    from retrieval.encoders.training.run_directory import claim
    from retrieval.runs.directory import LOG_FILE, MODEL_DIRECTORY

    if fresh:
        shutil.rmtree(run, ignore_errors=True)
    # Mistakes in the options should not wait for Ray to start.
    claim(run, config, data)
    if not (run / MODEL_DIRECTORY).exists():
        with ray_cluster(settings), followed(run / LOG_FILE, on_step):
            from retrieval.encoders.training.ray_train import fit

            fit(data, config, run, workers=workers, cpus_per_worker=cpus_per_worker(workers))
    published = models_of(settings)
    artifact = published.publish(ENCODER_NAME, run / MODEL_DIRECTORY, parents={"data": data.digest, "run": run.name})
    if label is not None:
        published.set_label(ENCODER_NAME, label, artifact.version)
    return artifact
