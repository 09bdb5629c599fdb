"""Run the encoder's training loop through Ray Train."""

from pathlib import Path

from retrieval.encoders.training.captions import CaptionedImages
from retrieval.encoders.training.config import EncoderTrainConfig
from retrieval.encoders.training.loop import train
from retrieval.encoders.training.run_directory import claim, read_claim
from retrieval.runs import ray_train
from retrieval.runs.workers import Worker


def fit(
    data: CaptionedImages, config: EncoderTrainConfig, run: Path, *, workers: int = 1, cpus_per_worker: int = 1
) -> Path:
    """Train `config` on `data` with `workers` processes; returns the model directory.

    RunError as in `retrieval.runs.ray_train.fit`.
    """
    claim(run, config, data)
    return ray_train.fit(_train_claimed, run, workers=workers, cpus_per_worker=cpus_per_worker)


def _train_claimed(run: Path, worker: Worker) -> None:
    config, data = read_claim(run)
    train(data, config, run, worker=worker)
