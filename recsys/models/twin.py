"""TWIN: search and attention by one score, over one embedding set for everything (arXiv 2302.02352).

As the baseline of arXiv 2410.02604: the set that scores the behaviours also represents them, without the projections of
the original (`twin_projected.py` has them) and without user features.
"""

import torch

from recsys.models.batch import Used
from recsys.models.dot_product import DotProductModel, Sides, query_scale, recency_bias
from recsys.models.embeddings import FeatureEmbeddings
from recsys.models.model import rows_of


class Twin(DotProductModel):
    """One embedding set compares and represents, targets and behaviours."""

    kind = "twin"

    def make_tables(self, generator: torch.Generator) -> None:
        """One embedding set."""
        rows = self.config.n_items, self.config.n_categories, self.config.n_positions
        self.shared = FeatureEmbeddings(*rows, self.config.representation_dim, generator=generator)

    def sides(self, used: Used) -> Sides:
        """The same rows throughout."""
        joined = self.shared.joined(used.items, self.category_of_item)  # [U, 2·d]
        positions = self.shared.position.weight
        return Sides(
            query=rows_of(joined, used.targets) * query_scale(self.config.representation_dim),  # [B, T, 2·d]
            keys=joined,
            recency_bias=recency_bias(self.shared),
            values=joined,
            recency_values=positions[1:],
            targets=joined,
            target_position=positions[0],
        )
