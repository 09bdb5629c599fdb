"""ETA: search by the Hamming distance of SimHash codes, then target attention (arXiv 2108.04468).

A code has a bit for each of m fixed random hyperplanes: the side of it that an embedding lies on. Distances of codes
order behaviours about as angles between embeddings do, and cost less; codes are made anew from what the embeddings are
now, and nothing is learned through them. Of equally distant behaviours the most recent are kept. The attention that
follows, and everything else, is that of `twin.py`.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from recollect_kernels import behavior_search
from recsys.models.batch import Batch, Used
from recsys.models.dot_product import Sides
from recsys.models.sizes import ModelSizes
from recsys.models.twin import Twin


@dataclass(frozen=True, kw_only=True, slots=True)
class EtaConfig(ModelSizes):
    """Sizes of an ETA model."""

    hash_bits: int = 64
    """m, bits of a code."""


class Eta(Twin):
    """TWIN, but for its search."""

    kind = "eta"
    sizes = EtaConfig
    config: EtaConfig
    hyperplanes: Tensor

    def make_tables(self, generator: torch.Generator) -> None:
        """One embedding set, and the hyperplanes."""
        super().make_tables(generator)
        planes = torch.randn(2 * self.config.representation_dim, self.config.hash_bits, generator=generator)
        self.register_buffer("hyperplanes", planes)  # [2·d, m]

    @torch.no_grad()
    def search(self, used: Used, sides: Sides, batch: Batch) -> Int64[Tensor, "b t k"]:
        """The K behaviours whose codes differ from the target's in the fewest bits.

        The dot product of two codes of ±1 is m less twice their distance, so it differs by 2 or not at all; a bias
        below that, falling with age, decides between equals. It has an entry for each age, also beyond the positions
        of the model, since the search takes the oldest of what is still equal.
        """
        ages = max(1, batch.longest)
        fading = -torch.arange(ages, device=sides.keys.device, dtype=sides.keys.dtype) / ages
        return behavior_search(
            self.codes(sides.query),
            self.codes(sides.keys),
            used.rows,
            batch.offsets,
            k=self.config.search_k,
            recency_bias=fading,
            longest=batch.longest,
        ).positions

    def codes(self, embeddings: Float[Tensor, "*dims a"]) -> Float[Tensor, "*dims m"]:
        """±1 for each hyperplane; +1 on the plane itself, where unknown items are."""
        return torch.where(embeddings @ self.hyperplanes >= 0, 1.0, -1.0).to(embeddings.dtype)
