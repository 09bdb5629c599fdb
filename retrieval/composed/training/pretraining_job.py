"""A pre-training run as one frozen value that travels to its worker: which captioned pictures, which recipe."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from retrieval.composed.datasets import ComposedDataset, load_dataset
from retrieval.composed.training.claims import claim_of, job_of, recipe_of
from retrieval.composed.training.config import PretrainConfig
from retrieval.composed.training.pictures import CaptionedObjects, captioned_objects
from retrieval.composed.training.pretraining import pretrain
from retrieval.runs.directory import read_claim
from retrieval.runs.workers import Worker


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainJob:
    """Where a run finds what it needs."""

    kind: str
    """Format of the data set, as `retrieval.composed.datasets` names it."""
    directory: str
    """The data set."""
    captions: str
    """CSV with columns image and caption, paths relative to it."""
    split: str = "train"
    """Split whose pictures and texts are used."""


def pretraining_identity(job: PretrainJob, config: PretrainConfig) -> dict[str, Any]:
    """What a run directory is claimed for, by what data set and captions hold now; DatasetError as in reading them."""
    dataset, objects = _read(job)
    return claim_of(config.to_json(), asdict(job), (dataset.digest(), objects.names, objects.captions))


def run_pretraining(run: Path, worker: Worker) -> None:
    """Train what `run` was claimed for; the work of one worker."""
    assert worker.world_size == 1
    claim = read_claim(run)
    job, config = PretrainJob(**job_of(claim)), PretrainConfig.from_json(recipe_of(claim))
    dataset, objects = _read(job)
    pretrain(objects, [query.text for query in dataset.queries], config, run)


def _read(job: PretrainJob) -> tuple[ComposedDataset, CaptionedObjects]:
    dataset = load_dataset(job.kind, Path(job.directory), job.split)
    return dataset, captioned_objects(dataset.images, dataset.boxes, dataset.instances, Path(job.captions))
