"""What an evaluation of a recommender begins with: a model, the events that it is measured on, and its index."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recollect.artifacts import INDEXES, Artifact, indexes_of
from recollect.errors import SetupError
from recollect.pipeline import models
from recollect.settings import Settings
from recsys.data.event_store import EventStore
from recsys.data.protocols import SPLITS, Split
from recsys.errors import ConfigError, StoreError
from recsys.models.directory import SavedModel, load_model
from recsys.models.model import Model
from recsys.training.config import TrainConfig
from retrieval.index.vector_index import VectorIndex


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated:
    """A model and the events that it is measured on."""

    artifact: Artifact
    saved: SavedModel[Model]
    events: EventStore
    config: TrainConfig
    """How it was trained, and so which events are whose split."""


def open_evaluated(settings: Settings, model: str, store: Path | None) -> Evaluated:
    """The model that `model` names, and the events in `store` or those that it was trained on.

    ArtifactError where there is no such model, StoreError where the events have another catalogue.
    """
    artifact = models(settings).resolve(model)
    saved = load_model(artifact.directory)
    events = EventStore(store or saved.data["store"])
    if not np.array_equal(events.catalogue.item_ids, saved.catalogue.item_ids):
        raise StoreError(
            f"event store {events.directory} has another catalogue than {model} was trained on "
            f"({events.catalogue.n_items} and {saved.catalogue.n_items} items); name the model's own with --store"
        )
    return Evaluated(
        artifact=artifact, saved=saved, events=events, config=TrainConfig.from_json(json.dumps(saved.training))
    )


def open_index_of(settings: Settings, reference: str, model: Artifact) -> tuple[Artifact, VectorIndex]:
    """An index of the items of `model`; SetupError for one of another model, which may know what is held out."""
    from recollect.indexes.building import open_version

    artifact = indexes_of(settings, INDEXES).resolve(reference)
    index = open_version(artifact)
    source = index.facts.source
    if source.get("model") != model.reference:
        made_of = source.get("model") or source.get("kind") or "something else"
        raise SetupError(
            f"index {artifact.reference} was built of {made_of}, not of {model.reference}, and may know what is held "
            f"out; build one with `recollect index build NAME --model {model.reference}` and name it with --index"
        )
    return artifact, index


def split_named(name: str) -> Split:
    """The split called `name`; ConfigError with those that exist."""
    chosen = next((known for known in SPLITS if known == name), None)
    if chosen is None:
        raise ConfigError(f"--split must be one of {', '.join(SPLITS)}, got {name!r}")
    return chosen


def save_result(settings: Settings, output: Path | None, name: str, result: Mapping[str, Any] | list[Any]) -> Path:
    """Keep a result as JSON in `output`, or as `name` in var/evaluations."""
    path = output or settings.var / "evaluations" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    return path
