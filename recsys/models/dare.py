"""DARE: attention and representation from decoupled embeddings (arXiv 2410.02604).

Two independent embedding sets. The attention set scores each behaviour of a history for a target; the K best are kept
and pooled, by the softmax of the same scores over those K alone, from the representation set. The released code pads,
so that padding can be selected when fewer than K behaviours exist, and evaluates BatchNorm with batch statistics;
neither happens here.
"""

import copy
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recollect_kernels import Table, gather_rows, quantize_rows, search_and_attend
from recsys.models.batch import Used
from recsys.models.dot_product import DotProductModel, Sides, query_scale, recency_bias
from recsys.models.embeddings import FeatureEmbeddings
from recsys.models.model import Found, head_input, rows_of, target_values
from recsys.models.sizes import ModelSizes

TableDtype = Literal["float32", "float16", "int8"]
"""How a serving table stores its rows; int8 rows carry one fp32 scale each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DareConfig(ModelSizes):
    """Sizes of a DARE model."""

    attention_dim: int = 16
    """Size of each attention embedding (item, category, position); the cost of the search is proportional to it."""


class Dare(DotProductModel):
    """The model in training form: `loss` is what it learns from, `serving()` what it answers with."""

    kind = "dare"
    sizes = DareConfig

    config: DareConfig

    def make_tables(self, generator: torch.Generator) -> None:
        """An embedding set for attention, another one for representation."""
        rows = self.config.n_items, self.config.n_categories, self.config.n_positions
        self.attention = FeatureEmbeddings(*rows, self.config.attention_dim, generator=generator)
        self.representation = FeatureEmbeddings(*rows, self.config.representation_dim, generator=generator)

    def sides(self, used: Used) -> Sides:
        """Both sides are compared by the attention set and represented by the representation set."""
        keys = self.attention.joined(used.items, self.category_of_item)  # [U, 2·d_a]
        values = self.representation.joined(used.items, self.category_of_item)  # [U, 2·d_r]
        positions = self.representation.position.weight
        return Sides(
            query=rows_of(keys, used.targets) * query_scale(self.config.attention_dim),  # [B, T, 2·d_a]
            keys=keys,
            recency_bias=recency_bias(self.attention),
            values=values,
            recency_values=positions[1:],
            targets=values,
            target_position=positions[0],
        )

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
        query = gather_rows(self.keys, targets) * query_scale(self.config.attention_dim)
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


def _stored(table: Float[Tensor, "v d"], dtype: TableDtype) -> Table:
    if dtype == "int8":
        return quantize_rows(table)
    return table.to(torch.float16 if dtype == "float16" else torch.float32)
