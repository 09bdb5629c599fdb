"""TWIN with projections: one embedding set, decoupled by linear maps as a Transformer does it (arXiv 2410.02604).

Attention and representation, of targets and of behaviours, have a map each, without bias. A map of item and category
and one of position stand side by side: the released code has one for each feature, or one over all three.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from recsys.models.batch import Used
from recsys.models.dot_product import DotProductModel, Sides, position_scores, query_scale
from recsys.models.embeddings import FeatureEmbeddings
from recsys.models.model import rows_of
from recsys.models.sizes import ModelSizes


@dataclass(frozen=True, kw_only=True, slots=True)
class ProjectedTwinConfig(ModelSizes):
    """Sizes of a TWIN with projections; its one embedding set has `representation_dim`."""

    attention_dim: int = 16
    """What attention's maps make of each embedding (item, category, position)."""


class Projection(nn.Module):
    """Maps a joined row of 2·d to 2·d', and a position row of d to d'."""

    def __init__(self, dim: int, projected: int) -> None:
        super().__init__()
        self.joined = nn.Linear(2 * dim, 2 * projected, bias=False)
        self.position = nn.Linear(dim, projected, bias=False)

    def forward(
        self, joined: Float[Tensor, "u dd"], positions: Float[Tensor, "n d"]
    ) -> tuple[Float[Tensor, "u ee"], Float[Tensor, "n e"]]:
        """Both, mapped."""
        return self.joined(joined), self.position(positions)


class ProjectedTwin(DotProductModel):
    """One embedding set, a projection for each of its four uses."""

    kind = "twin-projected"
    sizes = ProjectedTwinConfig

    config: ProjectedTwinConfig

    def make_tables(self, generator: torch.Generator) -> None:
        """One embedding set and four projections."""
        rows = self.config.n_items, self.config.n_categories, self.config.n_positions
        dim, attention = self.config.representation_dim, self.config.attention_dim
        self.shared = FeatureEmbeddings(*rows, dim, generator=generator)
        self.target_attention = Projection(dim, attention)
        self.behaviour_attention = Projection(dim, attention)
        self.target_representation = Projection(dim, dim)
        self.behaviour_representation = Projection(dim, dim)

    def sides(self, used: Used) -> Sides:
        """The shared rows, each through the projection of its use."""
        joined = self.shared.joined(used.items, self.category_of_item)  # [U, 2·d]
        first, others = self.shared.position.weight[:1], self.shared.position.weight[1:]
        queries, query_position = self.target_attention(joined, first)
        keys, key_positions = self.behaviour_attention(joined, others)
        values, value_positions = self.behaviour_representation(joined, others)
        targets, target_position = self.target_representation(joined, first)
        return Sides(
            query=rows_of(queries, used.targets) * query_scale(self.config.attention_dim),
            keys=keys,
            recency_bias=position_scores(query_position[0], key_positions),
            values=values,
            recency_values=value_positions,
            targets=targets,
            target_position=target_position[0],
        )
