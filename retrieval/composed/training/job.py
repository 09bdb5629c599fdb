"""A training run of AdaFocal as one frozen value that travels to its workers: which model, which data, which recipe."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from retrieval.composed.datasets import load_dataset
from retrieval.composed.datasets.dataset import ComposedDataset
from retrieval.composed.directory import StoredModel
from retrieval.composed.encoder import ComposedEncoder, load_stored
from retrieval.composed.evaluation import Evaluation, evaluate
from retrieval.composed.model import AdaFocal
from retrieval.composed.references import DatasetFeatures, Progress, dataset_features
from retrieval.composed.training.claims import claim_of, job_of, recipe_of
from retrieval.composed.training.config import ComposedTrainConfig
from retrieval.composed.training.examples import Examples, examples
from retrieval.composed.training.loop import train
from retrieval.errors import ComposedError
from retrieval.runs.directory import read_claim
from retrieval.runs.workers import Worker, wait_for


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainJob:
    """Where a run finds what it needs."""

    start: str
    """The model to start from: our directory or a published BLIP-2 one."""
    kind: str
    """Format of the data set, as `retrieval.composed.datasets` names it."""
    directory: str
    """The data set."""
    features: str
    """Where frozen image features are kept, for this run and others of the same image encoder."""
    split: str = "train"
    """Split to train on."""
    validation_split: str | None = "val"
    """Split that is measured after each epoch; None for none."""


def identity(job: TrainJob, config: ComposedTrainConfig) -> dict[str, Any]:
    """What a run directory is claimed for, by what the data set holds now; DatasetError where it cannot be read."""
    splits = (job.split, *((job.validation_split,) if job.validation_split else ()))
    found = [load_dataset(job.kind, Path(job.directory), split).digest() for split in splits]
    return claim_of(config.to_json(), asdict(job), found)


def run_job(run: Path, worker: Worker, *, on_step: Callable[[int, int], None] | None = None) -> None:
    """Train what `run` was claimed for, as one of its workers."""
    claim = read_claim(run)
    job, config = TrainJob(**job_of(claim)), ComposedTrainConfig.from_json(recipe_of(claim))
    start = load_stored(job.start)
    start.model.to("cuda" if torch.cuda.is_available() else "cpu")
    dataset = load_dataset(job.kind, Path(job.directory), job.split)
    if worker.rank != 0:
        wait_for(worker)  # for the first worker's features
    features = dataset_features(dataset, start.model, Path(job.features) / job.split, reference=config.reference)
    if worker.rank == 0:
        wait_for(worker)
    validate = _validation(job, config, start) if job.validation_split and worker.rank == 0 else None
    facts = {"dataset": dataset.name, "split": dataset.split, "queries": len(dataset.queries)}
    train(
        start,
        training_examples(dataset, features, start),
        config,
        run,
        worker=worker,
        validate=validate,
        facts=facts,
        on_step=on_step,
    )


def training_examples(dataset: ComposedDataset, features: DatasetFeatures, start: StoredModel) -> Examples:
    """The queries of `dataset` that have a target."""
    at = [place for place, query in enumerate(dataset.queries) if query.target is not None]
    queries = [dataset.queries[place] for place in at]
    if not queries:
        raise ComposedError(f"split {dataset.split!r} of {dataset.name} has no query with a target; train on another")
    return examples(
        references=features.references,
        pictures=features.pictures,
        reference_names=[features.reference_names[place] for place in at],
        target_names=[str(query.target) for query in queries],
        masks=features.masks[np.array(at)],
        texts=[query.text for query in queries],
        instances=[dataset.instances.get(str(query.target), str(query.target)) for query in queries],
        tokenizer=start.tokenizer,
    )


def measured(
    dataset: ComposedDataset,
    features: DatasetFeatures,
    encoder: ComposedEncoder,
    *,
    beta: float | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate `encoder` on `dataset` from frozen features; `beta` overrules the model's own."""
    return evaluate(
        dataset,
        encoder,
        gallery_tokens=features.pictures.take,
        reference_tokens=lambda places: features.references.take([features.reference_names[at] for at in places]),
        masks=lambda places: features.masks[np.asarray(places)],
        beta=beta,
        progress=progress,
    )


def _validation(
    job: TrainJob, config: ComposedTrainConfig, start: StoredModel
) -> Callable[[AdaFocal], Mapping[str, float]]:
    dataset = load_dataset(job.kind, Path(job.directory), str(job.validation_split))
    features = dataset_features(
        dataset, start.model, Path(job.features) / str(job.validation_split), reference=config.reference
    )

    def validate(model: AdaFocal) -> Mapping[str, float]:
        encoder = ComposedEncoder(model, start.tokenizer, name="in training", fingerprint="in training")
        return measured(dataset, features, encoder).metrics

    return validate
