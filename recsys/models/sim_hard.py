"""SIM with hard search: the latest behaviours of the target's own category, then target attention (arXiv 2006.05639).

The search needs no embeddings: an index by category answers it. What has no category finds nothing. The attention that
follows, and everything else, is that of `twin.py`, so that this is the TWIN with hard search of arXiv 2410.02604.
"""

import torch
from jaxtyping import Int64
from torch import Tensor

from recsys.models.batch import Batch, Used
from recsys.models.dot_product import Sides
from recsys.models.rectangle import Rectangle
from recsys.models.twin import Twin


class SimHard(Twin):
    """TWIN, but for its search."""

    kind = "sim-hard"

    @torch.no_grad()
    def search(self, used: Used, sides: Sides, batch: Batch) -> Int64[Tensor, "b t k"]:  # noqa: ARG002 - one signature
        """The K most recent behaviours of the target's category."""
        of = self.category_of_item if used.items is None else self.category_of_item[used.items]
        histories = Rectangle.of(used.rows, batch.offsets)
        wanted = of[used.targets.long()].unsqueeze(2)  # [B, T, 1]
        same = (of[histories.rows].unsqueeze(1) == wanted) & histories.real.unsqueeze(1) & (wanted != 0)  # [B, T, L]
        k = self.config.search_k
        columns, found = histories.best_columns(torch.zeros(same.shape, device=same.device), same, k)
        return histories.positions(columns, found, k)
