"""The training loop of AdaFocal: a starting model and queries in, a model directory out."""

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from retrieval.composed.directory import StoredModel, save_model
from retrieval.composed.model import AdaFocal
from retrieval.composed.training.batches import hard_batches, random_batches
from retrieval.composed.training.config import ComposedTrainConfig
from retrieval.composed.training.examples import Examples, Positions
from retrieval.composed.training.objective import backward
from retrieval.composed.vision import CompactVisionConfig
from retrieval.errors import ComposedError
from retrieval.runs.directory import (
    MODEL_DIRECTORY,
    load_checkpoint,
    locked,
    log,
    remove_checkpoint,
    save_checkpoint,
    trim_log,
)
from retrieval.runs.optimizer import groups
from retrieval.runs.precision import computes_bf16
from retrieval.runs.schedule import learning_rate
from retrieval.runs.seeds import seed_of_step
from retrieval.runs.workers import ALONE, Worker, average, wait_for

LOG_EVERY = 10
"""Steps from one log line to the next."""
_TARGETS = 256
"""Targets that are embedded at once to find look-alikes."""

Validate = Callable[[AdaFocal], Mapping[str, float]]


def train(
    start: StoredModel,
    examples: Examples,
    config: ComposedTrainConfig,
    run: Path,
    *,
    worker: Worker = ALONE,
    validate: Validate | None = None,
    facts: Mapping[str, Any] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Path:
    """Train to the end and return the model directory, `run / "model"`.

    `run` is claimed by the caller. Every worker of a group calls this with the same arguments. Calling it again on the
    same directory goes on where the last call was killed, with the same result. `validate` is asked after each epoch;
    what it says is logged, and kept with the model. `facts` about the data are kept as well.
    """
    finished = run / MODEL_DIRECTORY
    if finished.exists():
        return finished
    if worker.rank != 0:
        _run_steps(start, examples, config, run, worker, None, on_step)
        return finished
    with locked(run):
        model, measured = _run_steps(start, examples, config, run, worker, validate, on_step)
        partial = run / f"{MODEL_DIRECTORY}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        training = {**json.loads(config.to_json()), "start": start.fingerprint, **(facts or {})}
        # Halves are enough for a compact model, as they are for the compact encoder.
        half = isinstance(model.config.vision, CompactVisionConfig)
        save_model(partial, model, start.tokenizer, training=training, metrics={"validation": measured}, half=half)
        partial.rename(finished)
        remove_checkpoint(run)
    return finished


def modulated(start: AdaFocal, config: ComposedTrainConfig) -> AdaFocal:
    """`start` with the modulator of `config`, newly initialised, and its image encoder frozen."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = AdaFocal(dataclasses.replace(start.config, modulator=config.modulator))
    own = {name: tensor for name, tensor in start.state_dict().items() if not name.startswith("modulator.")}
    model.load_state_dict(own, strict=False)
    for name, parameter in model.vision_model.named_parameters():
        # What comes before the final layer norm is kept on disk, and could not change without it.
        parameter.requires_grad_(name.startswith("post_layernorm"))
    return model.to(start.query_tokens.device)


def _run_steps(
    start: StoredModel,
    examples: Examples,
    config: ComposedTrainConfig,
    run: Path,
    worker: Worker,
    validate: Validate | None,
    on_step: Callable[[int, int], None] | None,
) -> tuple[AdaFocal, Mapping[str, float]]:
    model = modulated(start.model, config)
    optimizer = _optimizer(model, config)
    step = load_checkpoint(run, model, optimizer)
    if worker.rank == 0:
        trim_log(run, step)
    epoch_steps = max(1, len(examples) // (config.batch_size * worker.world_size))
    steps = config.epochs * epoch_steps
    measured: Mapping[str, float] = {}
    batches: list[Positions] = []
    while step < steps:
        epoch, place = divmod(step, epoch_steps)
        if not batches:
            batches = _batches(model, examples, config, epoch, worker)
        model.train()
        model.vision_model.eval()
        torch.manual_seed(seed_of_step(config.seed, step * worker.world_size + worker.rank))  # of dropout
        _set_rates(optimizer, config, step, steps)
        loss = _step(model, optimizer, examples, batches[place % len(batches)], config, worker)
        step += 1
        if step % LOG_EVERY == 0 or step == steps:
            _stop_at_nonfinite(loss, step, config)
            if worker.rank == 0:
                log(run, {"step": step, "of": steps, "loss": round(loss.item(), 5)})
        if step % epoch_steps == 0:
            batches = []
            if worker.rank == 0:
                measured = _validated(model, validate)
                save_checkpoint(run, step, model, optimizer)
                log(run, {"step": step, "of": steps, "validation": dict(measured)})
            wait_for(worker)
        if on_step is not None:
            on_step(step, steps)
    if not measured:
        measured = _validated(model, validate)
    return model.eval(), measured


def _batches(
    model: AdaFocal, examples: Examples, config: ComposedTrainConfig, epoch: int, worker: Worker
) -> list[Positions]:
    """This worker's batches of an epoch."""
    generator = np.random.default_rng([config.seed, 1, epoch])
    size = min(config.batch_size, len(examples) // worker.world_size)
    if config.hard_share == 0 or epoch == 0:
        everyone = random_batches(len(examples), size, generator)
    else:
        targets = _target_vectors(model, examples)
        everyone = hard_batches(targets, examples.instances, size, config.hard_share, generator)
    return everyone[worker.rank :: worker.world_size]


@torch.inference_mode()
def _target_vectors(model: AdaFocal, examples: Examples) -> Tensor:
    """One vector of unit length [Q, d] for each query's target: the mean of the picture's."""
    model.eval()
    rows, place = np.unique(examples.target_rows, return_inverse=True)
    vectors = []
    for begin in range(0, len(rows), _TARGETS):
        tokens = torch.from_numpy(np.asarray(examples.pictures.tokens[rows[begin : begin + _TARGETS]])).float()
        vectors.append(model.embed_gallery(tokens.to(model.query_tokens.device)).mean(dim=1).cpu())
    return nn.functional.normalize(torch.cat(vectors), dim=-1)[torch.from_numpy(place)]


def _step(
    model: AdaFocal,
    optimizer: torch.optim.Optimizer,
    examples: Examples,
    batch: Positions,
    config: ComposedTrainConfig,
    worker: Worker,
) -> Tensor:
    """Update `model` and return the loss, averaged over workers."""
    optimizer.zero_grad(set_to_none=True)
    loss = backward(
        model,
        examples,
        batch,
        parts=config.accumulation,
        bf16=computes_bf16(config.precision, model.query_tokens.device.type),
    )
    average(model, loss, worker)
    optimizer.step()
    return loss


def _optimizer(model: AdaFocal, config: ComposedTrainConfig) -> torch.optim.AdamW:
    parts = []
    for fresh, rate in ((False, config.learning_rate), (True, config.modulator_learning_rate)):
        own = [
            parameter
            for name, parameter in model.named_parameters()
            if parameter.requires_grad and name.startswith("modulator.") == fresh
        ]
        parts += groups(own, config.weight_decay, highest=rate)
    return torch.optim.AdamW(parts, lr=config.learning_rate, betas=config.betas, eps=config.epsilon)


def _set_rates(optimizer: torch.optim.Optimizer, config: ComposedTrainConfig, step: int, steps: int) -> None:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(group["highest"], config.warmup_share, step, steps)


def _validated(model: AdaFocal, validate: Validate | None) -> Mapping[str, float]:
    return validate(model.eval()) if validate is not None else {}


def _stop_at_nonfinite(loss: Tensor, step: int, config: ComposedTrainConfig) -> None:
    if not torch.isfinite(loss):
        raise ComposedError(
            f"training diverged: loss is {loss.item()} at step {step} with learning_rate {config.learning_rate}; "
            "lower it and start a new run"
        )
