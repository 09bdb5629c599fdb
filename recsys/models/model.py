"""What every model is to training, evaluation and model directories: a pooled history under one head, and a loss.

A model says how it pools a history for a target (`Model.pool`). Head, loss and penalty are the same for all of them, so
that a comparison compares the pooling alone.
"""

import copy
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, Int64, UInt8
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, embedding

from recsys.errors import ConfigError
from recsys.models.batch import Batch
from recsys.models.head import PredictionHead
from recsys.models.sizes import ModelSizes


class Found(NamedTuple):
    """The behaviours that explain each score."""

    positions: Int64[Tensor, "b t k"]
    """Index into the history, 0 = oldest; -1 where it holds fewer than K behaviours."""
    weights: Float[Tensor, "b t k"]
    """Attention weight; those of a target add up to 1 unless nothing was found."""


class Pooled(NamedTuple):
    """Targets and their histories as the head sees them."""

    target: Float[Tensor, "b t f"]
    """v: the target's representation."""
    best: Float[Tensor, "b t f"]
    """r: the history, pooled for the target."""
    whole: Float[Tensor, "b t f"] | None
    """p: every behaviour pooled by the same attention, for the auxiliary head; None unless asked for, and of models
    without one."""
    found: Found


@runtime_checkable
class Scorer(Protocol):
    """A model in the form that scores."""

    @property
    def device(self) -> torch.device:
        """Where the arguments of `score` must be."""
        ...

    def score(
        self,
        rows: Int[Tensor, " e"],
        offsets: Int[Tensor, " b_and_one"],
        targets: Int[Tensor, "b t"],
        *,
        longest: int | None = None,
    ) -> tuple[Float[Tensor, "b t"], Found]:
        """Probability of interest in each target, and the behaviours that were found for it.

        `longest` is a bound on the histories' lengths that the caller knows.
        """
        ...


class Model(nn.Module):
    """A model in training form: `loss` is what it learns from, `serving()` what it scores with.

    A kind says what tables it has (`make_tables`) and how it pools (`pool`).
    """

    kind: ClassVar[str]
    """Its name in model directories and on the command line."""
    sizes: ClassVar[type[ModelSizes]] = ModelSizes
    """The configuration it takes."""
    features: ClassVar[int] = 3
    """Embeddings that make up a representation: item, category, position."""
    auxiliary: ClassVar[bool] = True
    """Whether the whole history is pooled as well, for an auxiliary head."""
    searches: ClassVar[bool] = True
    """Whether it keeps K behaviours of a history and pools those alone."""

    config: ModelSizes
    category_of_item: Tensor

    def __init__(self, config: ModelSizes, category_of_item: Int[Tensor, " v"], *, generator: torch.Generator) -> None:
        """`category_of_item` is [V + 1]; `generator` draws the tables, torch's own the layers."""
        super().__init__()
        if category_of_item.shape != (config.n_items + 1,):
            raise ConfigError(
                f"category_of_item must be [{config.n_items + 1}], got {tuple(category_of_item.shape)}; "
                "give one category row for each item row, row 0 included"
            )
        self.config = config
        self.register_buffer("category_of_item", category_of_item.long(), persistent=False)
        self.make_tables(generator)
        width = 3 * self.features * config.representation_dim
        self.head = PredictionHead(width, config.hidden)
        self.aux_head = PredictionHead(width, config.aux_hidden) if self.auxiliary else None

    def make_tables(self, generator: torch.Generator) -> None:
        """Make what `pool` reads, of the sizes in `config`."""
        raise NotImplementedError

    def pool(self, batch: Batch, *, whole: bool) -> Pooled:
        """Pool each history of `batch` for each of its targets; `whole` as well for the auxiliary head."""
        raise NotImplementedError

    def forward(
        self, batch: Batch, *, precision: torch.dtype = torch.float32
    ) -> tuple[Float[Tensor, "b t 2"], Float[Tensor, "b t 2"] | None]:
        """Logits of the head and of the auxiliary head, which pools the whole history instead of the K best.

        `precision` is that of the heads' matrix products; the search, the pooling and BatchNorm stay in fp32.
        """
        return self.judge(self.pool(batch, whole=self.auxiliary), precision=precision)

    def judge(
        self, pooled: Pooled, *, precision: torch.dtype = torch.float32
    ) -> tuple[Float[Tensor, "b t 2"], Float[Tensor, "b t 2"] | None]:
        """What the heads make of pooled histories, in the precision of these."""
        lower = precision != torch.float32
        with torch.autocast(pooled.best.device.type, precision, enabled=lower):
            main: Tensor = self.head(head_input(pooled.target, pooled.best))
            aux: Tensor | None = None
            if self.aux_head is not None and pooled.whole is not None:
                aux = self.aux_head(head_input(pooled.target, pooled.whole))
        if not lower:
            return main, aux
        return main.float(), None if aux is None else aux.float()

    def loss(self, batch: Batch, *, l2: float, precision: torch.dtype = torch.float32) -> Tensor:
        """CE_main + CE_aux + l2·Σw² over the weights that are neither bias nor embedding, a scalar in fp32."""
        main, aux = self(batch, precision=precision)
        error = prediction_loss(main, aux, batch.labels)
        penalty = sum((weight.square().sum() for weight in self.penalised()), start=error.new_zeros(()))
        return error + l2 * penalty

    def penalised(self) -> list[nn.Parameter]:
        """The weights that are neither bias nor embedding."""
        tables = {id(module.weight) for module in self.modules() if isinstance(module, nn.Embedding)}
        return [
            weight for name, weight in self.named_parameters() if id(weight) not in tables and not name.endswith("bias")
        ]

    def serving(self) -> Scorer:
        """A frozen copy of what the model is now, to score with; it shares nothing with the model."""
        return FrozenModel(self)


def prediction_loss(
    main: Float[Tensor, "b t 2"], aux: Float[Tensor, "b t 2"] | None, labels: UInt8[Tensor, "b t"]
) -> Tensor:
    """CE_main + CE_aux, a scalar, without the latter of models that have no auxiliary head."""
    wanted = labels.long().flatten()
    loss = cross_entropy(main.flatten(0, 1), wanted)
    return loss if aux is None else loss + cross_entropy(aux.flatten(0, 1), wanted)


class FrozenModel:
    """A copy of a model in evaluation mode: what scores where no faster form exists."""

    def __init__(self, model: Model) -> None:
        self._model = copy.deepcopy(model).eval().requires_grad_(False)

    @property
    def device(self) -> torch.device:
        """Where the tables are, and the arguments of `score` must be."""
        return self._model.category_of_item.device

    @torch.inference_mode()
    def score(
        self,
        rows: Int[Tensor, " e"],
        offsets: Int[Tensor, " b_and_one"],
        targets: Int[Tensor, "b t"],
        *,
        longest: int | None = None,
    ) -> tuple[Float[Tensor, "b t"], Found]:
        """Probability of interest in each target, and the behaviours that were found for it."""
        return score_by(self._model, rows, offsets, targets, longest=longest)


@torch.inference_mode()
def score_by(
    model: Model,
    rows: Int[Tensor, " e"],
    offsets: Int[Tensor, " b_and_one"],
    targets: Int[Tensor, "b t"],
    *,
    longest: int | None = None,
) -> tuple[Float[Tensor, "b t"], Found]:
    """What `model`, in evaluation mode, says of each target, as `Scorer.score` does."""
    if longest is None:
        longest = int(offsets.diff().max()) if len(offsets) > 1 else 0
    unknown = torch.zeros(targets.shape, dtype=torch.uint8, device=targets.device)
    pooled = model.pool(Batch(rows, offsets, targets, unknown, longest), whole=False)
    logits = model.head(head_input(pooled.target, pooled.best))
    return torch.softmax(logits, dim=-1)[..., 1], pooled.found


def rows_of(table: Float[Tensor, "u f"], numbers: Int[Tensor, "*dims"]) -> Float[Tensor, "*dims f"]:
    """table[numbers]; but threads add up its gradient in one order, so that equal seeds give equal weights."""
    return embedding(numbers, table)


def target_values(joined: Float[Tensor, "b t dd"], position: Float[Tensor, " d"]) -> Float[Tensor, "b t ddd"]:
    """v: the target's representation of item, category and position 0."""
    return torch.cat([joined, position.expand(*joined.shape[:2], -1)], dim=-1)


def head_input(target: Float[Tensor, "b t f"], pooled: Float[Tensor, "b t f"]) -> Float[Tensor, "b t fff"]:
    """[v, r, r⊙v]; the last is the paper's target-aware representation."""
    return torch.cat([target, pooled, pooled * target], dim=-1)
