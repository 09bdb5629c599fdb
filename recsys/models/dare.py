"""DARE, whole: attention and representation from decoupled embeddings (arXiv 2410.02604).

Two independent embedding sets. The attention set scores each behaviour of a history for a target; the K best are kept
and pooled, by the softmax of the same scores over those K alone, from the representation set. The released code pads,
so that padding can be selected when fewer than K behaviours exist, and evaluates BatchNorm with batch statistics;
neither happens here.
"""

import copy
import math
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from recollect_kernels import (
    Table,
    behavior_search,
    gather_rows,
    quantize_rows,
    search_and_attend,
    target_attention,
)
from recsys.errors import ConfigError
from recsys.models.batch import Batch
from recsys.models.embeddings import FeatureEmbeddings
from recsys.models.head import PredictionHead

TableDtype = Literal["float32", "float16", "int8"]
"""How a serving table stores its rows; int8 rows carry one fp32 scale each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DareConfig:
    """Sizes of a DARE model."""

    n_items: int
    """V, items in the catalogue, without row 0."""
    n_categories: int
    """C, categories in the catalogue, without row 0."""
    attention_dim: int = 16
    """Size of each attention embedding (item, category, position); the cost of the search is proportional to it."""
    representation_dim: int = 16
    """Size of each representation embedding (item, category, position)."""
    n_positions: int = 200
    """N, position rows for behaviours; older behaviours share the last row."""
    search_k: int = 20
    """K, behaviours kept by the search."""
    hidden: tuple[int, ...] = (200, 80)
    """Widths of the head's hidden layers."""
    aux_hidden: tuple[int, ...] = (200,)
    """Widths of the auxiliary head's hidden layers; it exists in training only."""

    def __post_init__(self) -> None:
        for name in ("n_items", "n_categories", "attention_dim", "representation_dim", "n_positions", "search_k"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")


class Found(NamedTuple):
    """The behaviours that explain each score."""

    positions: Int64[Tensor, "b t k"]
    """Index into the history, 0 = oldest; -1 where it holds fewer than K behaviours."""
    weights: Float[Tensor, "b t k"]
    """Attention weight; those of a target add up to 1 unless its history is empty."""


class Dare(nn.Module):
    """The model in training form: `loss` is what it learns from, `serving()` what it answers with."""

    category_of_item: Tensor

    def __init__(self, config: DareConfig, category_of_item: Int[Tensor, " v"], *, generator: torch.Generator) -> None:
        super().__init__()
        if category_of_item.shape != (config.n_items + 1,):
            raise ConfigError(
                f"category_of_item must be [{config.n_items + 1}], got {tuple(category_of_item.shape)}; "
                "give one category row for each item row, row 0 included"
            )
        self.config = config
        sizes = config.n_items, config.n_categories, config.n_positions
        self.attention = FeatureEmbeddings(*sizes, config.attention_dim, generator=generator)
        self.representation = FeatureEmbeddings(*sizes, config.representation_dim, generator=generator)
        self.register_buffer("category_of_item", category_of_item.long(), persistent=False)
        head_width = 3 * 3 * config.representation_dim
        self.head = PredictionHead(head_width, config.hidden)
        self.aux_head = PredictionHead(head_width, config.aux_hidden)

    def forward(self, batch: Batch) -> tuple[Float[Tensor, "b t 2"], Float[Tensor, "b t 2"]]:
        """Logits of the head and of the auxiliary head, which pools the whole history instead of the K best."""
        rows, targets, used = _compact(batch, self.config.n_items + 1)
        keys = self.attention.joined(used, self.category_of_item)  # [U, 2·d_a]
        values = self.representation.joined(used, self.category_of_item)  # [U, 2·d_r]
        query = keys[targets] * query_scale(self.config)  # [B, T, 2·d_a]
        bias = recency_bias(self.attention)
        recency_values = self.representation.position.weight[1:]
        found = behavior_search(
            query, keys, rows, batch.offsets, k=self.config.search_k, recency_bias=bias, longest=batch.longest
        )
        attend = partial(
            target_attention,
            *(query, keys, values, rows, batch.offsets),
            recency_bias=bias,
            recency_values=recency_values,
            longest=batch.longest,
        )
        best, whole = attend(positions=found.positions).output, attend().output
        target = target_values(values[targets], self.representation.position.weight[0])
        return self.head(head_input(target, best)), self.aux_head(head_input(target, whole))

    def loss(self, batch: Batch, *, l2: float) -> Tensor:
        """CE_main + CE_aux + l2·Σw² over the weights that are neither bias nor embedding, a scalar."""
        main, aux = self(batch)
        labels = batch.labels.long().flatten()
        penalty = sum((weight.square().sum() for weight in self.penalised()), start=main.new_zeros(()))
        return cross_entropy(main.flatten(0, 1), labels) + cross_entropy(aux.flatten(0, 1), labels) + l2 * penalty

    def penalised(self) -> list[nn.Parameter]:
        """The weights of both heads, biases left out."""
        heads = (*self.head.named_parameters(), *self.aux_head.named_parameters())
        return [weight for name, weight in heads if not name.endswith("bias")]

    def serving(self, dtype: TableDtype = "float32") -> "DareServing":
        """A frozen copy of what the model is now, to score with; it shares nothing with the model."""
        return DareServing(self, dtype=dtype)


class DareServing:
    """The model in serving form: one joined row an item, the position score as one vector, no auxiliary head.

    Tables are kept in `dtype`; arithmetic is fp32. With "float32", scores equal those of the training form in
    evaluation mode.
    """

    def __init__(self, model: Dare, *, dtype: TableDtype = "float32") -> None:
        self.config = model.config
        self.head = copy.deepcopy(model.head).eval()
        with torch.no_grad():
            self.keys = _stored(model.attention.joined(None, model.category_of_item), dtype)
            self.values = _stored(model.representation.joined(None, model.category_of_item), dtype)
            self.recency_bias = recency_bias(model.attention)
            self.target_position = model.representation.position.weight[0].detach().clone()
            self.recency_values = model.representation.position.weight[1:].detach().clone()

    @property
    def device(self) -> torch.device:
        """Where the tables are, and the arguments of `score` must be."""
        return self.recency_bias.device

    @torch.inference_mode()
    def score(
        self,
        rows: Int[Tensor, " e"],
        offsets: Int[Tensor, " b_and_one"],
        targets: Int[Tensor, "b t"],
        *,
        longest: int | None = None,
    ) -> tuple[Float[Tensor, "b t"], Found]:
        """Probability of interest in each target, and the behaviours that were found for it.

        `longest`, a bound on the histories' lengths, spares a GPU from being asked for it.
        """
        query = gather_rows(self.keys, targets) * query_scale(self.config)
        pooled, _, positions, weights = search_and_attend(
            *(query, self.keys, self.values, rows, offsets),
            k=self.config.search_k,
            recency_bias=self.recency_bias,
            recency_values=self.recency_values,
            longest=longest,
        )
        target = target_values(gather_rows(self.values, targets), self.target_position)
        logits = self.head(head_input(target, pooled))
        return torch.softmax(logits, dim=-1)[..., 1], Found(positions, weights)


def query_scale(config: DareConfig) -> float:
    """1/√(d_item + d_cat), folded into the query."""
    return 1 / math.sqrt(2 * config.attention_dim)


def recency_bias(attention: FeatureEmbeddings) -> Float[Tensor, " n"]:
    """q_pos·k_pos/√d_pos of each behaviour position; the target's position is always 0, so this is one vector."""
    positions = attention.position.weight
    return positions[1:] @ positions[0] / math.sqrt(attention.dim)


def target_values(joined: Float[Tensor, "b t dd"], position: Float[Tensor, " d"]) -> Float[Tensor, "b t ddd"]:
    """v: the target's representation of item, category and position 0."""
    return torch.cat([joined, position.expand(*joined.shape[:2], -1)], dim=-1)


def head_input(target: Float[Tensor, "b t f"], pooled: Float[Tensor, "b t f"]) -> Float[Tensor, "b t fff"]:
    """[v, r, r⊙v]; the last is the paper's target-aware representation."""
    return torch.cat([target, pooled, pooled * target], dim=-1)


def _stored(table: Float[Tensor, "v d"], dtype: TableDtype) -> Table:
    if dtype == "int8":
        return quantize_rows(table)
    return table.to(torch.float16 if dtype == "float16" else torch.float32)


def _compact(batch: Batch, n_rows: int) -> tuple[Int[Tensor, " e"], Int[Tensor, "b t"], Int64[Tensor, " u"] | None]:
    """Rows and targets renumbered into the items that the batch uses, and those items.

    A catalogue smaller than the batch is used whole (None): joining all of it costs less than finding what is used.
    """
    ids = torch.cat([batch.rows, batch.targets.flatten()])
    if len(ids) >= n_rows:
        return batch.rows, batch.targets, None
    used, numbers = torch.unique(ids.long(), return_inverse=True)
    return numbers[: len(batch.rows)], numbers[len(batch.rows) :].view(batch.targets.shape), used
