"""Two stages over scaled dot products: search the K best behaviours, then pool them by the softmax of the same scores.

What DARE, the TWINs, ETA and SIM's hard search share. They differ in the tables that each side reads (`sides`) and in
how the K behaviours are found (`search`).
"""

import math
from functools import partial
from typing import NamedTuple

from jaxtyping import Float, Int64
from torch import Tensor

from recollect_kernels import behavior_search, target_attention
from recsys.models.batch import Batch, Used, used_items
from recsys.models.embeddings import FeatureEmbeddings
from recsys.models.model import Found, Model, Pooled, rows_of, target_values


class Sides(NamedTuple):
    """What a batch's targets and behaviours are compared by and represented by; tables have U rows, one a used item."""

    query: Float[Tensor, "b t a"]
    """Attention rows of the targets, scaled."""
    keys: Float[Tensor, "u a"]
    """Attention rows of behaviours."""
    recency_bias: Float[Tensor, " n"]
    """What a behaviour's position adds to its score."""
    values: Float[Tensor, "u r"]
    """Representation rows of behaviours."""
    recency_values: Float[Tensor, "n p"]
    """Representation of a behaviour's position."""
    targets: Float[Tensor, "u r"]
    """Representation rows of targets."""
    target_position: Float[Tensor, " p"]
    """Representation of position 0."""


class DotProductModel(Model):
    """A model whose attention is `query · key / √d` plus a bias by position."""

    def sides(self, used: Used) -> Sides:
        """The tables of the items in `used`."""
        raise NotImplementedError

    def search(self, used: Used, sides: Sides, batch: Batch) -> Int64[Tensor, "b t k"]:
        """Positions of the behaviours to keep, -1 where there are fewer than K: those of the highest score."""
        return behavior_search(
            sides.query,
            sides.keys,
            used.rows,
            batch.offsets,
            k=self.config.search_k,
            recency_bias=sides.recency_bias,
            longest=batch.longest,
        ).positions

    def pool(self, batch: Batch, *, whole: bool) -> Pooled:
        """Pool each history for each target: by the K behaviours that `search` finds, and `whole` if asked for."""
        used = used_items(batch, self.config.n_items + 1)
        return self.pool_sides(self.sides(used), used, batch, whole=whole)

    def pool_sides(self, sides: Sides, used: Used, batch: Batch, *, whole: bool) -> Pooled:
        """`pool`, of the tables that `sides` gave."""
        positions = self.search(used, sides, batch)
        attend = partial(
            target_attention,
            *(sides.query, sides.keys, sides.values, used.rows, batch.offsets),
            recency_bias=sides.recency_bias,
            recency_values=sides.recency_values,
            longest=batch.longest,
        )
        best, weights = attend(positions=positions)
        assert weights is not None, "kept behaviours come with their weights"
        everything = attend().output if whole else None
        target = target_values(rows_of(sides.targets, used.targets), sides.target_position)
        return Pooled(target, best, everything, Found(positions, weights.detach()))


def query_scale(attention_dim: int) -> float:
    """1/√(d_item + d_cat), folded into the query."""
    return 1 / math.sqrt(2 * attention_dim)


def position_scores(target: Float[Tensor, " d"], behaviours: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """q_pos·k_pos/√d_pos of each behaviour position; the target's position is always 0, so this is one vector."""
    return behaviours @ target / math.sqrt(len(target))


def recency_bias(attention: FeatureEmbeddings) -> Float[Tensor, " n"]:
    """The position scores of a set that targets and behaviours share."""
    return position_scores(attention.position.weight[0], attention.position.weight[1:])
