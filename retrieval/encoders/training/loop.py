"""The training loop of the compact encoder: pictures and captions in, a model directory out."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from retrieval.encoders.compact.directory import MEAN, STD, save_compact
from retrieval.encoders.compact.model import DualEncoder, DualEncoderConfig
from retrieval.encoders.compact.words import Vocabulary
from retrieval.encoders.training.captions import CaptionedImages
from retrieval.encoders.training.config import EncoderTrainConfig
from retrieval.encoders.training.objective import contrastive_loss
from retrieval.encoders.training.pixel_cache import PixelCache, pixel_cache
from retrieval.encoders.training.run_directory import claim
from retrieval.errors import EncoderError
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

LOG_EVERY = 5
"""Steps from one log line to the next."""
PIXELS_DIRECTORY = "pixels"
"""Decoded pictures within the run directory; removed when the run is done."""
_EVALUATION_BATCH, _EVALUATION_CAPTIONS = 256, 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class _Task:
    """What stays the same during a run."""

    config: EncoderTrainConfig
    pixels: PixelCache
    words: Tensor
    """[C, T] rows of every caption."""
    own: tuple[npt.NDArray[np.int64], ...]
    """Positions of the captions of each picture, ascending."""
    training: npt.NDArray[np.int64]
    """Positions of the pictures to train on."""
    validation: npt.NDArray[np.int64]
    """Positions of those to measure on."""

    @property
    def steps_an_epoch(self) -> int:
        # The rest of an epoch that fills no batch waits for the next one: BatchNorm needs company.
        return max(1, len(self.training) // self.config.batch_size)

    @property
    def steps(self) -> int:
        return self.config.epochs * self.steps_an_epoch


def train(
    data: CaptionedImages,
    config: EncoderTrainConfig,
    run: Path,
    *,
    worker: Worker = ALONE,
    on_step: Callable[[int, int], None] | None = None,
) -> Path:
    """Train to the end and return the model directory, `run / "model"`.

    Every worker of a group calls this with the same arguments. Calling it again on the same directory goes on where the
    last call was killed, with the same result. Raises EncoderError where `run` belongs to another run, DatasetError
    where the pictures cannot be used.
    """
    finished = run / MODEL_DIRECTORY
    claim(run, config, data)
    if finished.exists():
        return finished
    if worker.rank != 0:
        wait_for(worker)  # for the first worker's pixels
        _run_steps(data, config, run, worker, on_step)
        return finished
    with locked(run):
        pixel_cache(data.paths, run / PIXELS_DIRECTORY, image_size=config.image_size)
        wait_for(worker)
        model, vocabulary, metrics = _run_steps(data, config, run, worker, on_step)
        partial = run / f"{MODEL_DIRECTORY}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        facts = {"pictures": len(data.paths), "captions": len(data.captions), "digest": data.digest}
        save_compact(partial, model, vocabulary, training=json.loads(config.to_json()), data=facts, metrics=metrics)
        partial.rename(finished)
        remove_checkpoint(run)
        shutil.rmtree(run / PIXELS_DIRECTORY)
    return finished


def _run_steps(
    data: CaptionedImages,
    config: EncoderTrainConfig,
    run: Path,
    worker: Worker,
    on_step: Callable[[int, int], None] | None,
) -> tuple[DualEncoder, Vocabulary, dict[str, Any]]:
    vocabulary = Vocabulary.of(data.captions)
    task = _task(data, config, run, vocabulary)
    model = new_model(config, vocabulary)
    optimizer = torch.optim.AdamW(groups(model.parameters(), config.weight_decay), lr=config.learning_rate)
    step = load_checkpoint(run, model, optimizer)
    if worker.rank == 0:
        trim_log(run, step)
    measured: dict[str, Any] = _validate(model, task) if step == task.steps else {}
    model.train()
    while step < task.steps:
        share = _share(task, step, worker)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config.learning_rate, config.warmup_share, step, task.steps)
        loss = _step(model, optimizer, task, share, step, worker)
        step += 1
        if step % LOG_EVERY == 0 or step == task.steps:
            _stop_at_nonfinite(loss, step, config)
            if worker.rank == 0:
                log(run, {"step": step, "of": task.steps, "loss": round(loss.item(), 5)})
        if worker.rank == 0 and step % task.steps_an_epoch == 0:
            measured = _validate(model, task)
            save_checkpoint(run, step, model, optimizer)
            log(run, {"step": step, "of": task.steps, "validation": measured})
        if on_step is not None:
            on_step(step, task.steps)
    wait_for(worker)
    return model.eval(), vocabulary, {"validation": measured, "refused": len(task.pixels.refused)}


def new_model(config: EncoderTrainConfig, vocabulary: Vocabulary) -> DualEncoder:
    """A freshly initialised model; the same for the same seed."""
    sizes = DualEncoderConfig(
        vocabulary=len(vocabulary),
        image_size=config.image_size,
        widths=config.widths,
        word_dim=config.word_dim,
        dimension=config.dimension,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = DualEncoder(sizes)
    # Several times as fast on a CPU, and changes no result.
    model.image.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def _task(data: CaptionedImages, config: EncoderTrainConfig, run: Path, vocabulary: Vocabulary) -> _Task:
    pixels = pixel_cache(data.paths, run / PIXELS_DIRECTORY, image_size=config.image_size)
    order = np.random.default_rng([config.seed, 0]).permutation(pixels.usable)
    measured = round(config.validation_share * len(order))
    if len(order) - measured < 2:
        raise EncoderError(
            f"{len(order)} usable pictures less {measured} for validation leave fewer than two to train on; "
            "give more pictures or a smaller validation_share"
        )
    return _Task(
        config=config,
        pixels=pixels,
        words=torch.from_numpy(vocabulary.rows(data.captions)),
        own=tuple(np.array(captions, dtype=np.int64) for captions in data.own),
        training=order[measured:],
        validation=np.sort(order[:measured]),
    )


def _share(task: _Task, step: int, worker: Worker) -> npt.NDArray[np.int64]:
    """Positions of the pictures of this worker in `step`."""
    epoch, place = divmod(step, task.steps_an_epoch)
    order = np.random.default_rng([task.config.seed, 1, epoch]).permutation(task.training)
    batch = order[place * task.config.batch_size : (place + 1) * task.config.batch_size]
    return np.resize(batch, max(len(batch), 2 * worker.world_size))[worker.rank :: worker.world_size]


def _step(
    model: DualEncoder,
    optimizer: torch.optim.Optimizer,
    task: _Task,
    share: npt.NDArray[np.int64],
    step: int,
    worker: Worker,
) -> Tensor:
    """Update `model` and return the loss, averaged over workers."""
    config = task.config
    generator = torch.Generator().manual_seed(seed_of_step(config.seed, step * worker.world_size + worker.rank))
    pictures = config.augmentation.apply(task.pixels.take(share), config.image_size, generator)
    captions = _captions_of_step(task, share, np.random.default_rng([config.seed, 2, step, worker.rank]))
    own = _true_of(task, share, captions)
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=computes_bf16(config.precision)):
        images = model.image(_normalised(pictures))
    loss = contrastive_loss(images.float(), model.text(task.words[captions]), own, model.logit_scale)
    loss.backward()  # type: ignore[no-untyped-call]
    loss = loss.detach()
    average(model, loss, worker)
    optimizer.step()
    return loss


def _captions_of_step(
    task: _Task, share: npt.NDArray[np.int64], generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Positions of the captions that the step tells apart, ascending: all, or the pictures' own and others drawn at
    random."""
    count = len(task.words)
    if count <= task.config.captions_a_step:
        return np.arange(count)
    own = np.unique(np.concatenate([task.own[at] for at in share]))
    others = np.setdiff1d(np.arange(count), own)
    more = min(len(others), max(0, task.config.captions_a_step - len(own)))
    return np.sort(np.concatenate([own, generator.choice(others, more, replace=False)]))


def _true_of(task: _Task, pictures: npt.NDArray[np.int64], captions: npt.NDArray[np.int64]) -> Tensor:
    """[B, C] which of the captions, given in ascending order with all that the pictures have, are true of which."""
    own = np.zeros((len(pictures), len(captions)), dtype=np.bool_)
    for row, at in zip(own, pictures, strict=True):
        row[np.searchsorted(captions, task.own[at])] = True
    return torch.from_numpy(own)


@torch.inference_mode()
def _validate(model: DualEncoder, task: _Task) -> dict[str, float]:
    """Recall of the pictures held back, as the finished encoder would see them."""
    if not len(task.validation):
        return {}
    model.eval()
    size = task.config.image_size
    embedded = []
    for begin in range(0, len(task.validation), _EVALUATION_BATCH):
        pixels = task.pixels.take(task.validation[begin : begin + _EVALUATION_BATCH]).permute(0, 3, 1, 2).float() / 255
        shrunk = nn.functional.interpolate(pixels, size=size, mode="bicubic", antialias=True, align_corners=False)
        embedded.append(model.image(_normalised(shrunk.clamp(0, 1))))
    # Nearest caption of each, in parts: a million captions by thousands of pictures would not fit.
    texts = torch.cat([model.text(words) for words in torch.split(task.words, _EVALUATION_CAPTIONS)])
    nearest = torch.cat([(images @ texts.T).argmax(1) for images in embedded]).tolist()
    right = [caption in task.own[at] for at, caption in zip(task.validation, nearest, strict=True)]
    model.train()
    return {"recall_at_1": round(sum(right) / len(right), 5), "pictures": len(right)}


def _normalised(pictures: Tensor) -> Tensor:
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    return ((pictures - mean) / std).contiguous(memory_format=torch.channels_last)


def _stop_at_nonfinite(loss: Tensor, step: int, config: EncoderTrainConfig) -> None:
    if not torch.isfinite(loss):
        raise EncoderError(
            f"training diverged: loss is {loss.item()} at step {step} with learning_rate {config.learning_rate}; "
            "lower it and start a new run"
        )
