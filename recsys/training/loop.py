"""The training loop: steps, validation, best weights, checkpoints, and the model directory at the end.

A run directory holds `config.json`, `log.jsonl` (one line every few steps, with the processor time that the process
has used so far, and one a validation), the newest checkpoint and, when it is done, `model/`. Calling `train` again on
the same directory goes on where the last call was killed.
"""

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist

from recsys.data.event_store import EventStore
from recsys.data.samples import SampleSet, make_samples
from recsys.errors import ConfigError, DataError
from recsys.models.batch import collate
from recsys.models.directory import CONFIG_FILE, save_model
from recsys.models.kinds import build_model, has_attention_size, model_kind
from recsys.models.model import Model
from recsys.models.popularity import save_popularity
from recsys.training.checkpoint import Progress, load_checkpoint, remove_checkpoints, save_checkpoint, snapshot
from recsys.training.config import TrainConfig
from recsys.training.evaluation import evaluate
from recsys.training.lock import RunLock
from recsys.training.step import PRECISIONS, make_optimizer, settle, train_step
from recsys.training.workers import normalise_over_all_workers

LOG_FILE = "log.jsonl"
LOG_EVERY = 5
"""Steps from one log line to the next."""
MODEL_DIRECTORY = "model"


@dataclass(frozen=True, kw_only=True, slots=True)
class Worker:
    """This process's place among those that train together."""

    rank: int = 0
    """0 writes files and validates."""
    world_size: int = 1
    """Processes that share each step."""
    device: str = "cpu"
    """Where it computes, as torch names devices."""


def train(
    store: EventStore,
    config: TrainConfig,
    run: Path,
    *,
    worker: Worker = Worker(),
    on_step: Callable[[int, int], None] | None = None,
) -> Path:
    """Train to the end and return the model directory, `run / "model"`.

    Every worker of a group calls this with the same arguments. `on_step` is called with (step, steps in all) after
    each. Raises ConfigError where `run` belongs to another configuration, DataError where the data leaves nothing to
    train on.
    """
    finished = run / MODEL_DIRECTORY
    claim(run, config, store)
    if (finished / CONFIG_FILE).exists():
        return finished
    if worker.rank != 0:
        _run_steps(store, config, run, worker, on_step)
        return finished
    with RunLock(run):
        model, progress, best = _run_steps(store, config, run, worker, on_step)
        model.load_state_dict(best)
        test = evaluate(
            model.serving(), store, make_samples(store, config.samples, "test"), batch_size=config.batch_size
        )
        _log(run, {"step": progress.step, "test": test.as_dict()})
        partial = run / f"{MODEL_DIRECTORY}.partial"
        _save(partial, model, store, config, progress, test.as_dict())
        partial.rename(finished)
        remove_checkpoints(run)
    return finished


def steps_in_all(samples: SampleSet, config: TrainConfig) -> int:
    """Steps of the whole run, the last partial batch of each epoch included."""
    return config.epochs * -(-len(samples) // groups_a_step(samples, config))


def groups_a_step(samples: SampleSet, config: TrainConfig) -> int:
    """Sample groups of a step, over all workers."""
    return max(1, config.batch_size // samples.targets_per_group)


def order_of_epoch(samples: SampleSet, config: TrainConfig, epoch: int) -> npt.NDArray[np.int64]:
    """[G] the order in which an epoch takes the sample groups; the same for the same seed."""
    return np.random.default_rng([config.seed, epoch]).permutation(len(samples))


def _run_steps(
    store: EventStore,
    config: TrainConfig,
    run: Path,
    worker: Worker,
    on_step: Callable[[int, int], None] | None,
) -> tuple[Model, Progress, dict[str, torch.Tensor]]:
    samples = make_samples(store, config.samples, "train")
    validation = make_samples(store, config.samples, "validation")
    model = new_model(store, config).to(worker.device)
    normalise_over_all_workers(model)
    optimizer = make_optimizer(model, config.learning_rate, config.optimizer)
    progress, best = load_checkpoint(run, model, optimizer)
    if worker.rank == 0:
        _trim_log(run, progress.step)
    groups, total = groups_a_step(samples, config), steps_in_all(samples, config)
    steps_an_epoch = total // config.epochs
    order, order_epoch = np.empty(0, dtype=np.int64), -1
    model.train()
    while progress.step < total:
        epoch, position = divmod(progress.step, steps_an_epoch)
        if epoch != order_epoch:
            order, order_epoch = order_of_epoch(samples, config, epoch), epoch
        index = order[position * groups : (position + 1) * groups]
        if len(index) < worker.world_size:  # every worker needs a share of the last batch
            index = np.resize(index, worker.world_size)
        batch = collate(store, samples.take(index[worker.rank :: worker.world_size]))
        everyone = len(index) * samples.targets_per_group
        loss = train_step(
            *(model, optimizer, batch),
            l2=config.l2,
            samples_of_all_workers=everyone,
            precision=PRECISIONS[config.precision],
        )
        progress.step += 1
        validates = progress.step % config.validate_every == 0 or progress.step == total
        logs = progress.step % LOG_EVERY == 0 or validates
        if logs:
            _stop_at_nonfinite(loss, progress.step, config)
        if validates:
            settle(optimizer)  # on every worker, so that all go on with the same bits
        if worker.rank == 0:
            if logs:
                spent = round(time.process_time(), 4)
                line = {"step": progress.step, "of": total, "epoch": epoch, "loss": round(loss.item(), 5)}
                _log(run, {**line, "cpu_s": spent})
            if validates:
                measured = evaluate(model.serving(), store, validation, batch_size=config.batch_size)
                progress.validations.append({"step": progress.step, **measured.as_dict()})
                if measured.auc > progress.best_auc:
                    progress.best_auc, progress.best_step, best = measured.auc, progress.step, snapshot(model)
                save_checkpoint(run, progress, model, optimizer, best)
                _log(run, {"step": progress.step, "of": total, "validation": measured.as_dict()})
        if on_step is not None:
            on_step(progress.step, total)
    if dist.is_initialized() and worker.world_size > 1:
        dist.barrier()
    return model, progress, best


def new_model(store: EventStore, config: TrainConfig) -> Model:
    """A freshly initialised model for the catalogue of `store`; the same for the same seed."""
    kind, catalogue = model_kind(config.model), store.catalogue
    attention: dict[str, Any] = {"attention_dim": config.attention_dim} if has_attention_size(kind) else {}
    sizes = kind.sizes(
        n_items=catalogue.n_items,
        n_categories=max(1, catalogue.n_categories),
        representation_dim=config.representation_dim,
        n_positions=config.samples.max_history,
        search_k=config.search_k,
        **attention,
    )
    return build_model(kind, sizes, catalogue, seed=config.seed)


def claim(run: Path, config: TrainConfig, store: EventStore) -> None:
    """Mark a new run directory as this configuration's and data's, or make sure that it is; ConfigError where not."""
    run.mkdir(parents=True, exist_ok=True)
    path = run / CONFIG_FILE
    mine = {"training": json.loads(config.to_json()), "data": _data(store)}
    if not path.exists():
        # Workers of one group come here at the same time, with the same words.
        partial = path.with_suffix(f".{os.getpid()}.partial")
        partial.write_text(json.dumps(mine, indent=2) + "\n")
        partial.replace(path)
        return
    try:
        theirs = json.loads(path.read_text())
    except ValueError as error:
        raise DataError(f"run directory {run} has an unreadable {path.name}: {error}; choose another") from error
    for part in ("training", "data"):
        changed = sorted(key for key in mine[part] if mine[part][key] != theirs.get(part, {}).get(key))
        if changed:
            raise ConfigError(
                f"run directory {run} was started with another {part} ({', '.join(changed)} differ); "
                "resume it with the same options, or choose another run name"
            )


def _data(store: EventStore) -> dict[str, Any]:
    manifest = asdict(store.manifest)
    counts = ("n_users", "n_items", "n_categories", "n_events", "first_time_ms", "last_time_ms", "source")
    return {"store": str(store.directory.resolve()), **{name: manifest[name] for name in counts}}


def _save(
    directory: Path, model: Model, store: EventStore, config: TrainConfig, progress: Progress, test: dict[str, float]
) -> None:
    if directory.exists():  # left by a kill between writing and renaming
        for file in directory.iterdir():
            file.unlink()
    metrics = {"test": test, "best_step": progress.best_step, "validation": progress.validations}
    save_model(
        directory,
        model.eval(),
        store.catalogue,
        training=json.loads(config.to_json()),
        data=_data(store),
        metrics=metrics,
    )
    save_popularity(directory, store)


def _stop_at_nonfinite(loss: torch.Tensor, step: int, config: TrainConfig) -> None:
    if not torch.isfinite(loss):
        raise DataError(
            f"training diverged: loss is {loss.item()} at step {step} with learning_rate {config.learning_rate}; "
            "lower it and start a new run"
        )


def _log(run: Path, line: dict[str, Any]) -> None:
    with (run / LOG_FILE).open("a") as log:
        log.write(json.dumps({"time": round(time.time(), 3), **line}) + "\n")
        log.flush()


def _trim_log(run: Path, step: int) -> None:
    """Drop the lines after the checkpoint that the run goes on from, and a test's: a run that goes on tests again."""
    path = run / LOG_FILE
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            entry = json.loads(line)
            if entry["step"] <= step and "test" not in entry:
                kept.append(line)
        except (ValueError, KeyError):
            continue  # torn by the kill
    partial = path.with_suffix(".partial")
    partial.write_text("".join(f"{line}\n" for line in kept))
    partial.replace(path)
