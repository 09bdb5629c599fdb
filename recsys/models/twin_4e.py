"""TWIN-4E: four embedding sets, so that targets and behaviours share nothing either (arXiv 2410.02604).

DARE decouples attention from representation and keeps one set each for targets and behaviours. Here an item is another
one as a target than as a behaviour, and nothing tells the model that the two are the same.
"""

from dataclasses import dataclass

import torch

from recsys.models.batch import Used
from recsys.models.dot_product import DotProductModel, Sides, position_scores, query_scale
from recsys.models.embeddings import FeatureEmbeddings
from recsys.models.model import rows_of
from recsys.models.sizes import ModelSizes


@dataclass(frozen=True, kw_only=True, slots=True)
class Twin4EConfig(ModelSizes):
    """Sizes of a TWIN-4E model."""

    attention_dim: int = 16
    """Size of each attention embedding (item, category, position), of targets and of behaviours."""


class Twin4E(DotProductModel):
    """Attention and representation, of targets and of behaviours: a set each."""

    kind = "twin-4e"
    sizes = Twin4EConfig

    config: Twin4EConfig

    def make_tables(self, generator: torch.Generator) -> None:
        """Four embedding sets."""
        rows = self.config.n_items, self.config.n_categories, self.config.n_positions
        attention, representation = self.config.attention_dim, self.config.representation_dim
        self.target_attention = FeatureEmbeddings(*rows, attention, generator=generator)
        self.behaviour_attention = FeatureEmbeddings(*rows, attention, generator=generator)
        self.target_representation = FeatureEmbeddings(*rows, representation, generator=generator)
        self.behaviour_representation = FeatureEmbeddings(*rows, representation, generator=generator)

    def sides(self, used: Used) -> Sides:
        """Each from a set of its own; of a target's position table only row 0 is read, of a behaviour's the others."""
        queries = self.target_attention.joined(used.items, self.category_of_item)  # [U, 2·d_a]
        bias = position_scores(
            self.target_attention.position.weight[0], self.behaviour_attention.position.weight[1:]
        )  # [N]
        return Sides(
            query=rows_of(queries, used.targets) * query_scale(self.config.attention_dim),  # [B, T, 2·d_a]
            keys=self.behaviour_attention.joined(used.items, self.category_of_item),
            recency_bias=bias,
            values=self.behaviour_representation.joined(used.items, self.category_of_item),
            recency_values=self.behaviour_representation.position.weight[1:],
            targets=self.target_representation.joined(used.items, self.category_of_item),
            target_position=self.target_representation.position.weight[0],
        )
