"""Whether attention and representation pull an embedding in opposite directions (arXiv 2410.02604).

The loss reaches an embedding on two ways: through the scores that search and weigh behaviours (attention), and through
the vectors that are pooled and handed to the head (representation). A model that shares one table for both takes the
sum of the two gradients. Where their cosine is negative each undoes part of the other; where one is much the longer it
decides alone. A model with a table for each adds nothing up: there the cosine says what angle the two would have, which
is no conflict. Two random directions have a negative cosine half of the time.
"""

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from recsys.data.event_store import EventStore
from recsys.data.samples import SampleSet
from recsys.errors import ConfigError
from recsys.models.batch import Batch, collate, used_items
from recsys.models.dot_product import DotProductModel, Sides
from recsys.models.model import Model, prediction_loss
from recsys.training.config import TrainConfig
from recsys.training.loop import groups_a_step, order_of_epoch, steps_in_all
from recsys.training.step import make_optimizer, train_step

FEATURES = ("item", "category", "position")
HISTOGRAM_BINS = 40
"""Of cosines from −1 to 1."""
_ATTENTION = ("query", "keys", "recency_bias")
_REPRESENTATION = ("values", "recency_values", "targets", "target_position")
_SETS = {
    "dare": (("", "attention", "representation"),),
    "twin-4e": (
        (" of targets", "target_attention", "target_representation"),
        (" of behaviours", "behaviour_attention", "behaviour_representation"),
    ),
}
"""Embedding sets that do one thing each, by kind; the others share one set."""


class Pair(NamedTuple):
    """What attention and what representation read of a feature."""

    name: str
    attention: nn.Embedding
    representation: nn.Embedding

    @property
    def shared(self) -> bool:
        """Whether it is one table."""
        return self.attention is self.representation


class RowGradients(NamedTuple):
    """The two gradients of the rows of a pair, [V, d_a] and [V, d_r]; not yet added up where the table is shared."""

    attention: Tensor
    representation: Tensor


def pairs_of(model: Model) -> list[Pair]:
    """The tables of a model. ConfigError for one whose gradients cannot be told apart."""
    require_two_ways(model)
    found = []
    for suffix, attention, representation in _SETS.get(model.kind, (("", "shared", "shared"),)):
        one, other = model.get_submodule(attention), model.get_submodule(representation)
        found += [
            Pair(f"{feature}{suffix}", one.get_submodule(feature), other.get_submodule(feature))  # type: ignore[arg-type]
            for feature in FEATURES
        ]
    return found


def require_two_ways(model: Model) -> None:
    """Raise ConfigError unless the loss reaches the embeddings of `model` on two ways that can be told apart."""
    if not isinstance(model, DotProductModel):
        raise ConfigError(
            f"gradients of {model.kind} cannot be told apart: only models that search and weigh by dot products have "
            "gradients of attention and of representation"
        )


def split_gradients(model: Model, batch: Batch) -> dict[str, RowGradients]:
    """The gradients of one training step, by the name of the pair; `model` is in training mode, and gets none itself.

    Their sum, of a shared table, is the gradient that the step takes. The penalty on weights reaches no table.
    """
    assert isinstance(model, DotProductModel), "pairs_of refuses others"
    pairs = pairs_of(model)
    used = used_items(batch, model.config.n_items + 1)
    sides = model.sides(used)
    # Every tensor as a leaf of its own, since some kinds hand out one tensor for several uses.
    leaves = Sides(*(tensor.detach().requires_grad_() for tensor in sides))
    pooled = model.pool_sides(leaves, used, batch, whole=model.auxiliary)
    loss = prediction_loss(*model.judge(pooled), batch.labels)
    reached = torch.autograd.grad(loss, list(leaves), materialize_grads=True, allow_unused=True)
    by_side = dict(zip(Sides._fields, zip(sides, reached, strict=True), strict=True))
    attention = _pulled_back(by_side, _ATTENTION, [pair.attention.weight for pair in pairs])
    representation = _pulled_back(by_side, _REPRESENTATION, [pair.representation.weight for pair in pairs])
    return {
        pair.name: RowGradients(one, other) for pair, one, other in zip(pairs, attention, representation, strict=True)
    }


def _pulled_back(
    by_side: dict[str, tuple[Tensor, Tensor]], names: tuple[str, ...], tables: list[Tensor]
) -> list[Tensor]:
    """The gradients of `tables` that come through the sides `names`."""
    outputs, gradients = zip(*(by_side[name] for name in names), strict=True)
    return list(
        torch.autograd.grad(
            outputs, tables, grad_outputs=gradients, retain_graph=True, allow_unused=True, materialize_grads=True
        )
    )


@dataclass(kw_only=True, slots=True)
class Conflict:
    """What the two gradients of a pair are to each other, over steps; rows count that both reach in a step."""

    table: str
    shared: bool
    steps: int = 0
    """Steps with a row that both reach."""
    rows: int = 0
    """Rows, once for each step."""
    conflicting_rows: int = 0
    """Those whose cosine is negative."""
    conflicting_steps: int = 0
    """Steps whose rows have a negative cosine on average: the share that the released analysis of the paper reports."""
    representation_longer: int = 0
    """Rows whose gradient of representation is the longer."""
    cosines: float = 0.0
    """Sum over rows."""
    attention_norm: float = 0.0
    """Sum over rows of the length of attention's gradient."""
    representation_norm: float = 0.0
    """The same of representation's."""
    histogram: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(HISTOGRAM_BINS, dtype=np.int64))
    """Rows by cosine."""
    comparable: bool = True
    """Whether both gradients have one size; else there is no cosine."""

    def add(self, gradients: RowGradients) -> None:
        """Count a step."""
        one, other = (gradient.detach().double() for gradient in gradients)
        norms = one.norm(dim=1), other.norm(dim=1)
        both = (norms[0] > 0) & (norms[1] > 0)
        if not both.any():
            return
        one, other = one[both], other[both]
        lengths = norms[0][both], norms[1][both]
        self.steps += 1
        self.rows += len(one)
        self.attention_norm += float(lengths[0].sum())
        self.representation_norm += float(lengths[1].sum())
        self.representation_longer += int((lengths[1] > lengths[0]).sum())
        self.comparable = one.shape == other.shape
        if self.comparable:
            cosines = ((one / lengths[0][:, None]) * (other / lengths[1][:, None])).sum(dim=1).clamp(-1, 1)
            self.cosines += float(cosines.sum())
            self.conflicting_rows += int((cosines < 0).sum())
            self.conflicting_steps += int(cosines.mean() < 0)
            self.histogram += np.histogram(cosines.cpu().numpy(), bins=HISTOGRAM_BINS, range=(-1, 1))[0]

    def as_row(self) -> dict[str, Any]:
        """Shares and means; None where nothing was reached, or sizes differ."""
        rows, steps = self.rows or None, self.steps or None
        angle = rows if self.comparable else None
        return {
            "table": self.table,
            "shared": self.shared,
            "steps": self.steps,
            "rows": self.rows,
            "negative_cosine_rows": angle and self.conflicting_rows / angle,
            "negative_cosine_steps": steps and angle and self.conflicting_steps / steps,
            "cosine": angle and self.cosines / angle,
            "attention_norm": rows and self.attention_norm / rows,
            "representation_norm": rows and self.representation_norm / rows,
            "representation_longer": rows and self.representation_longer / rows,
            "cosines": self.histogram.tolist() if angle else None,
        }


def measure_conflicts(
    model: Model,
    batches: Iterable[Batch],
    *,
    learning_rate: float | None = None,
    l2: float = 0.0,
    progress: Callable[[], None] | None = None,
) -> list[Conflict]:
    """What the two gradients are to each other in the steps that `batches` would be, for each pair of tables.

    `model` is copied and left as it is. With a `learning_rate` the copy takes each step after it was measured, as
    training by dense Adam does (`l2` is that of training); without one, all are measured at the weights of `model`.
    """
    training = copy.deepcopy(model).train().requires_grad_(True)
    conflicts = {pair.name: Conflict(table=pair.name, shared=pair.shared) for pair in pairs_of(training)}
    optimizer = None if learning_rate is None else make_optimizer(training, learning_rate)
    for batch in batches:
        for name, gradients in split_gradients(training, batch).items():
            conflicts[name].add(gradients)
        if optimizer is not None:
            train_step(training, optimizer, batch, l2=l2, samples_of_all_workers=batch.n_samples)
        if progress is not None:
            progress()
    return list(conflicts.values())


def training_batches(
    store: EventStore, samples: SampleSet, config: TrainConfig, *, most: int | None = None
) -> Iterator[Batch]:
    """The batches of a training run of one worker, in its order: the first `most`, or all for None."""
    groups, total = groups_a_step(samples, config), steps_in_all(samples, config)
    an_epoch = total // config.epochs
    order = np.empty(0, dtype=np.int64)
    for step in range(total if most is None else min(most, total)):
        epoch, position = divmod(step, an_epoch)
        if position == 0:
            order = order_of_epoch(samples, config, epoch)
        yield collate(store, samples.take(order[position * groups : (position + 1) * groups]))
