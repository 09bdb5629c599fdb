"""Make a compact image encoder and Q-Former from nothing: captioned pictures of boxed objects in, a starting model out.

It stands in for BLIP-2's first stage. All of the model is trained on pixels first; then the image encoder is frozen,
and the Q-Former, which is small beside it, goes on over what was kept of each picture.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retrieval.composed.directory import save_model
from retrieval.composed.features import FrozenFeatures, freeze_features
from retrieval.composed.model import AdaFocal, AdaFocalConfig, similarity
from retrieval.composed.modulator import Modulation, ModulatorConfig
from retrieval.composed.text import TextRows, TextTokenizer
from retrieval.composed.training.config import PretrainConfig
from retrieval.composed.training.examples import Positions
from retrieval.composed.training.instances import BoxHead, same_instance_loss, same_instance_of_sets_loss
from retrieval.composed.training.pictures import CaptionedObjects, Squares, squares
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
from retrieval.runs.schedule import learning_rate
from retrieval.runs.seeds import seed_of_step

LOG_EVERY = 10
"""Steps from one log line to the next."""
LOSSES = ("captions", "objects", "pictures")
"""What `Pretraining.losses` gives."""
_SQUARES_DIRECTORY, _FEATURES_DIRECTORY = "squares", "features"


class Pretraining(nn.Module):
    """The model and what only its pre-training needs."""

    bank: Tensor
    """What was last seen of each instance [I, d], to find those that look alike."""
    epoch_losses: Tensor
    """Mean of each loss over the last epoch, as `LOSSES` names them; with the checkpoint, for a kill after the last."""

    def __init__(self, model: AdaFocal, instances: int) -> None:
        super().__init__()
        self.model = model
        self.box_head = BoxHead(model.config.vision.hidden_size, model.config.qformer.dimension)
        self.register_buffer("bank", torch.zeros(instances, model.config.qformer.dimension))
        self.register_buffer("epoch_losses", torch.zeros(len(LOSSES), dtype=torch.float64))

    def losses(self, tokens: Tensor, masks: Tensor, instances: Tensor, captions: TextRows) -> dict[str, Tensor]:
        """Of pictures and captions, both ways; of objects in boxes; of pictures that share an object."""
        model = self.model
        images = model.embed_gallery(tokens)  # [B, V, d]
        logits = similarity(model.embed_texts(captions), images) / model.temperature  # [B texts, B images]
        own = torch.arange(len(tokens))
        objects = self.box_head(model.vision_model.post_layernorm(tokens), masks)
        self.bank[instances] = objects.detach()
        return {
            "captions": (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2,
            "objects": same_instance_loss(objects, instances),
            "pictures": same_instance_of_sets_loss(images, instances, temperature=model.temperature),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class _Task:
    """What stays the same during a run."""

    config: PretrainConfig
    tokenizer: TextTokenizer
    captions: tuple[tuple[str, ...], ...]
    instances: Positions
    """[N] number of each picture's instance."""
    pictures: Squares

    @property
    def epoch_steps(self) -> int:
        return max(1, len(self.instances) // (self.config.instances_a_step * self.config.pictures_an_instance))

    @property
    def joint_steps(self) -> int:
        return self.config.epochs * self.epoch_steps

    @property
    def steps(self) -> int:
        return self.joint_steps + self.config.qformer_epochs * self.epoch_steps


def pretrain(
    objects: CaptionedObjects,
    texts: Sequence[str],
    config: PretrainConfig,
    run: Path,
    *,
    on_step: Callable[[int, int], None] | None = None,
) -> Path:
    """Train to the end and return the model directory, `run / "model"`, whose β is 0: a start for AdaFocal.

    `texts` are further texts whose words the model will be asked about: the modification texts of the training set.
    `run` is claimed by the caller. Calling it again on the same directory goes on where the last call was killed, with
    the same result. ComposedError where there are fewer than two instances.
    """
    finished = run / MODEL_DIRECTORY
    if finished.exists():
        return finished
    with locked(run):
        every = [caption for own in objects.captions for caption in own]
        tokenizer = TextTokenizer.trained([*every, *texts], longest=config.qformer.text_tokens)
        model = _new_model(config, tokenizer)
        numbers = {name: number for number, name in enumerate(sorted(set(objects.instances)))}
        if len(numbers) < 2:
            raise ComposedError(f"there must be at least two instances to tell apart, got {len(numbers)}")
        task = _Task(
            config=config,
            tokenizer=tokenizer,
            captions=objects.captions,
            instances=np.array([numbers[name] for name in objects.instances], dtype=np.int64),
            pictures=squares(objects, model.config.geometry, run / _SQUARES_DIRECTORY),
        )
        measured = _run_steps(model, task, run, on_step)
        partial = run / f"{MODEL_DIRECTORY}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        training = {"pretraining": json.loads(config.to_json()), "pictures": len(objects.names)}
        save_model(partial, model, tokenizer, training=training, metrics={"pretraining": measured}, half=True)
        partial.rename(finished)
        remove_checkpoint(run)
        for directory in (_SQUARES_DIRECTORY, _FEATURES_DIRECTORY):
            shutil.rmtree(run / directory, ignore_errors=True)
    return finished


def _new_model(config: PretrainConfig, tokenizer: TextTokenizer) -> AdaFocal:
    sizes = AdaFocalConfig(
        vision=config.vision,
        qformer=replace(config.qformer, vocabulary=tokenizer.vocabulary_size),
        modulator=ModulatorConfig(modulation=Modulation.NONE),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = AdaFocal(sizes)
    # Several times as fast on a CPU, and changes no result.
    model.vision_model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def _run_steps(model: AdaFocal, task: _Task, run: Path, on_step: Callable[[int, int], None] | None) -> dict[str, float]:
    """Train `model` and return the mean losses of the last epoch."""
    config = task.config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        whole = Pretraining(model, int(task.instances.max()) + 1)
    optimizer = torch.optim.AdamW(groups(whole.parameters(), config.weight_decay), lr=config.learning_rate)
    step = load_checkpoint(run, whole, optimizer)
    trim_log(run, step)
    frozen: FrozenFeatures | None = None
    recent: list[dict[str, float]] = []
    while step < task.steps:
        joint = step < task.joint_steps
        if not joint and frozen is None:
            frozen = _frozen(model, task, run)
        losses = _step(whole, optimizer, task, step, frozen)
        recent = [*recent, losses][-task.epoch_steps :]
        step += 1
        if step % LOG_EVERY == 0 or step == task.steps:
            log(run, {"step": step, "of": task.steps, **{name: round(value, 5) for name, value in losses.items()}})
        if step % task.epoch_steps == 0:
            means = [np.mean([each[name] for each in recent]) for name in LOSSES]
            whole.epoch_losses.copy_(torch.tensor(means, dtype=torch.float64))
            save_checkpoint(run, step, whole, optimizer)
        if on_step is not None:
            on_step(step, task.steps)
    whole.eval()
    return {name: round(mean, 5) for name, mean in zip(LOSSES, whole.epoch_losses.tolist(), strict=True)}


def _step(
    whole: Pretraining,
    optimizer: torch.optim.Optimizer,
    task: _Task,
    step: int,
    frozen: FrozenFeatures | None,
) -> dict[str, float]:
    """Update the model; from pixels, or, where the image encoder is frozen, from what was kept of it."""
    config = task.config
    generator = np.random.default_rng([config.seed, 1, step])
    torch.manual_seed(seed_of_step(config.seed, step))  # of dropout
    at = _batch(task.instances, whole.bank, config, generator)
    captions = [own[generator.integers(len(own))] for own in (task.captions[place] for place in at)]
    # Each stage rises and falls by itself.
    place, steps = (
        (step, task.joint_steps) if frozen is None else (step - task.joint_steps, task.steps - task.joint_steps)
    )
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(config.learning_rate, config.warmup_share, place, steps)
    whole.train()
    optimizer.zero_grad(set_to_none=True)
    if frozen is None:
        tokens = whole.model.image_tokens(task.pictures.take(at))
    else:
        tokens = torch.from_numpy(np.asarray(frozen.tokens[at])).float()
    losses = whole.losses(
        tokens,
        torch.from_numpy(task.pictures.masks[at]),
        torch.from_numpy(task.instances[at]),
        task.tokenizer.rows(captions),
    )
    loss = losses["captions"] + config.instance_weight * (losses["objects"] + losses["pictures"])
    if not torch.isfinite(loss):
        raise ComposedError(
            f"pre-training diverged: loss is {loss.item()} at step {step} with learning_rate "
            f"{config.learning_rate}; lower it and start a new run"
        )
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return {name: value.item() for name, value in losses.items()}


def _frozen(model: AdaFocal, task: _Task, run: Path) -> FrozenFeatures:
    """What the image encoder, done with, makes of each picture."""
    names = [str(at) for at in range(len(task.instances))]
    return freeze_features(
        run / _FEATURES_DIRECTORY,
        names,
        lambda name: task.pictures.take(np.array([int(name)]))[0].numpy(),
        model,
    )


def _batch(instances: Positions, bank: Tensor, config: PretrainConfig, generator: np.random.Generator) -> Positions:
    """Positions of some pictures of some instances, half of which look like another of them as far as is known yet.

    An instance of few pictures repeats them.
    """
    wanted = min(config.instances_a_step, len(bank))
    leaders = generator.choice(len(bank), -(-wanted // 2), replace=False)
    closeness = bank[leaders] @ bank.T
    closeness[:, leaders] = -2.0
    alike = dict.fromkeys(closeness.argmax(dim=1).tolist())
    others = [each for each in generator.permutation(len(bank)).tolist() if each not in alike]
    rest = [each for each in (*alike, *others) if each not in set(leaders.tolist())]
    chosen = [*leaders.tolist(), *rest[: wanted - len(leaders)]]
    own = [generator.permutation(np.flatnonzero(instances == each)) for each in chosen]
    return np.concatenate([np.resize(each, config.pictures_an_instance) for each in own])
