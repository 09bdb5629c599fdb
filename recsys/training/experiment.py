"""Models side by side on one event store, by seed: what decoupled embeddings are worth on the data at hand.

A run is a training run like any other, in a directory of its own, with `result.json` beside its model. Runs that are
there already are not repeated, and one that was killed goes on.
"""

import dataclasses
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recsys.data.event_store import EventStore
from recsys.data.samples import make_samples
from recsys.data.shop.optimum import optimal_probabilities, recurring_config_of
from recsys.errors import ConfigError
from recsys.models.directory import METRICS_FILE, load_model, read_json
from recsys.models.kinds import has_attention_size, model_kind
from recsys.training.config import TrainConfig
from recsys.training.evaluation import predict
from recsys.training.loop import LOG_FILE, train
from recsys.training.metrics import Metrics, measure

RESULT_FILE = "result.json"


@dataclass(frozen=True, slots=True)
class Variant:
    """One row of the table."""

    name: str
    model: str
    """Which of `recsys.models.kinds.MODELS`."""
    attention_dim: int | None = None
    """Size of its attention embeddings; None for a model that has no other than its representation's."""

    def of(self, config: TrainConfig, seed: int) -> TrainConfig:
        """`config` as this variant trains it."""
        size = config.representation_dim if self.attention_dim is None else self.attention_dim
        return dataclasses.replace(config, model=self.model, attention_dim=size, seed=seed)

    def run_name(self, seed: int) -> str:
        """What its run directory of a seed is called."""
        size = "" if self.attention_dim is None else f"-attention{self.attention_dim}"
        return f"{self.model}{size}-seed{seed}"


def variants(models: Sequence[str], attention_dims: Sequence[int], config: TrainConfig) -> list[Variant]:
    """Each model; those whose attention has a size of its own once for each of `attention_dims`, or with that of
    `config` for none. Raises ConfigError for no models, one named twice, and unknown ones."""
    if not models or len(set(models)) < len(models) or len(set(attention_dims)) < len(attention_dims):
        raise ConfigError(
            "an experiment needs at least one model, and each model and attention size once; "
            f"got {','.join(models) or 'no model'} and {','.join(map(str, attention_dims)) or 'no attention size'}"
        )
    found = []
    for model in models:
        if not has_attention_size(model_kind(model)):
            found.append(Variant(model, model))
        elif not attention_dims:
            found.append(Variant(model, model, config.attention_dim))
        else:
            found += [Variant(f"{model}, attention {size}", model, size) for size in attention_dims]
    for variant in found:
        variant.of(config, 0)  # sizes that cannot be are told before anything starts
    return found


def run_one(store: str, config: TrainConfig, variant: Variant, seed: int, run: Path) -> dict[str, Any]:
    """Train `variant` on one thread and measure it; what `run` holds of it already is not repeated."""
    torch.set_num_threads(1)
    result = run / RESULT_FILE
    if result.exists():
        return {**read_json(result), "variant": variant.name}  # it may have run under another name
    events, own = EventStore(store), variant.of(config, seed)
    model = train(events, own, run)
    metrics = read_json(model / METRICS_FILE)
    measured = {
        "variant": variant.name,
        "model": variant.model,
        "attention_dim": own.attention_dim,
        "representation_dim": own.representation_dim,
        "seed": seed,
        **metrics["test"],
        "best_step": metrics["best_step"],
        "trained_per_cpu_s": training_speed(_log_of(run), own.batch_size),
        "scored_per_cpu_s": scoring_speed(model, events, own),
        "validation_step": [entry["step"] for entry in metrics["validation"]],
        "validation_auc": [entry["auc"] for entry in metrics["validation"]],
    }
    partial = result.with_suffix(".partial")
    partial.write_text(json.dumps(measured, indent=2) + "\n")
    partial.replace(result)
    return measured


def optimum_of(store: EventStore, config: TrainConfig) -> Metrics | None:
    """What no model can be expected to beat on the test samples, where the data were generated so that it is known.

    None for other data, and for samples whose optimum is not known.
    """
    shop = recurring_config_of(store)
    if shop is None:
        return None
    samples = make_samples(store, config.samples, "test")
    try:
        probabilities = optimal_probabilities(store, samples, config.samples, shop)
    except ConfigError:
        return None
    return measure(probabilities, samples.labels, np.broadcast_to(samples.users[:, None], samples.targets.shape))


def training_speed(log: Iterable[Mapping[str, Any]], batch_size: int) -> float | None:
    """Samples trained a CPU-second: the median between two lines of a run's log that have no validation between them.

    None where the log has no two such lines.
    """
    rates, before = [], None
    for line in log:
        if "cpu_s" not in line:
            before = None  # a validation
            continue
        if before is not None and line["cpu_s"] > before["cpu_s"]:  # it begins anew where a killed run goes on
            rates.append((line["step"] - before["step"]) * batch_size / (line["cpu_s"] - before["cpu_s"]))
        before = line
    return float(np.median(rates)) if rates else None


def scoring_speed(model: Path, store: EventStore, config: TrainConfig) -> float:
    """Samples scored a CPU-second, over the test samples or the first 100,000 of them."""
    samples = make_samples(store, config.samples, "test")
    some = samples.take(np.arange(min(len(samples), 100_000 // samples.targets_per_group)))
    serving = load_model(model).model.serving()
    predict(serving, store, some.take(np.arange(min(len(some), 64))))  # compiles
    begin = time.process_time()
    predict(serving, store, some)
    return some.targets.size / (time.process_time() - begin)


def _log_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / LOG_FILE).read_text().splitlines()]
