"""Save a trained model as a directory that anything can read, and load it: safetensors and JSON, never pickle.

config.json             schema version, model kind, sizes, the training configuration, the data it was trained on
weights.safetensors     every parameter and BatchNorm statistic, fp32
items.parquet, categories.parquet   the vocabulary
metrics.json            what was measured when it was trained
self_test.json          what it answered when it was saved: see `recsys.models.self_test`
popularity.parquet      how often users dealt with each item: see `recsys.models.popularity`
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from recsys.data.catalogue import Catalogue
from recsys.errors import StoreError
from recsys.models.dare import Dare
from recsys.models.kinds import MODELS, build_model
from recsys.models.model import Model
from recsys.models.self_test import save_self_test

SCHEMA_VERSION = 1
CONFIG_FILE, WEIGHTS_FILE, METRICS_FILE = "config.json", "weights.safetensors", "metrics.json"

AnyModel = TypeVar("AnyModel", bound=Model, covariant=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedModel(Generic[AnyModel]):
    """A model directory, read."""

    model: AnyModel
    """In evaluation mode."""
    catalogue: Catalogue
    """Item ids ↔ table rows."""
    training: dict[str, Any]
    """The TrainConfig that made it, as JSON values."""
    data: dict[str, Any]
    """The event store it was trained on: directory, counts, time range."""
    metrics: dict[str, Any]
    """What was measured when it was trained."""


def save_model(
    directory: Path,
    model: Model,
    catalogue: Catalogue,
    *,
    training: dict[str, Any],
    data: dict[str, Any],
    metrics: dict[str, Any],
) -> None:
    """Write a model directory; `directory` is made, and must not hold another model."""
    directory.mkdir(parents=True, exist_ok=True)
    if (directory / CONFIG_FILE).exists():
        raise StoreError(f"{directory} already holds a model; model directories are never changed, choose another")
    config = {
        "schema_version": SCHEMA_VERSION,
        "model": model.kind,
        "sizes": asdict(model.config),
        "training": training,
        "data": data,
    }
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, directory / WEIGHTS_FILE)
    catalogue.save(directory)
    save_self_test(directory, model, catalogue)
    (directory / METRICS_FILE).write_text(json.dumps(metrics, indent=2) + "\n")
    (directory / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n")


def load_model(directory: Path) -> SavedModel[Model]:
    """Read a model directory. Raises StoreError that names the file at fault."""
    config = read_json(directory / CONFIG_FILE)
    kind = MODELS.get(str(config.get("model")))
    if config.get("schema_version") != SCHEMA_VERSION or kind is None:
        raise StoreError(
            f"{directory} holds a {config.get('model')!r} model of schema {config.get('schema_version')}, "
            f"this release reads {', '.join(MODELS)} of schema {SCHEMA_VERSION}"
        )
    catalogue = Catalogue.load(directory)
    try:
        model = build_model(kind, TypeAdapter(kind.sizes).validate_python(config["sizes"]), catalogue, seed=0)
        model.load_state_dict(load_file(directory / WEIGHTS_FILE))
    except (OSError, SafetensorError, RuntimeError, TypeError, KeyError, ValueError) as error:
        raise StoreError(f"model directory {directory} cannot be loaded: {error}") from error
    metrics = read_json(directory / METRICS_FILE)
    return SavedModel(
        model=model.eval(), catalogue=catalogue, training=config["training"], data=config["data"], metrics=metrics
    )


def load_dare(directory: Path) -> SavedModel[Dare]:
    """Read a model directory that is to answer a service or to be indexed, which is DARE's alone. Raises StoreError."""
    require_dare(directory)
    saved = load_model(directory)
    assert isinstance(saved.model, Dare), "the kind was looked at"
    return SavedModel(
        model=saved.model, catalogue=saved.catalogue, training=saved.training, data=saved.data, metrics=saved.metrics
    )


def require_dare(directory: Path) -> None:
    """Raise StoreError for a model directory of a baseline, without reading the model."""
    kind = read_json(directory / CONFIG_FILE).get("model")
    if kind != Dare.kind and kind in MODELS:
        raise StoreError(
            f"{directory} holds a baseline to compare with, {kind!r}: only {Dare.kind!r} models are served and "
            "indexed; measure this one with `recollect evaluate`, and train one to serve with "
            "`recollect train --model dare`"
        )


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`. Raises StoreError where there is none."""
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        raise StoreError(
            f"no model in {path.parent}: {path.name} is missing; train one with `recollect train`"
        ) from None
    except (OSError, ValueError) as error:
        raise StoreError(f"cannot read {path}: {error}") from error
    if not isinstance(value, dict):
        raise StoreError(f"{path} must hold a JSON object, got {type(value).__name__}")
    return value
