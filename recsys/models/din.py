"""DIN: a small network scores each behaviour against the target, regardless of when it was (arXiv 1706.06978).

As the baseline of arXiv 2410.02604: items and categories, no positions; every behaviour is scored, and the K best are
kept and pooled by softmax as the other models do. The original sums up all behaviours, weighted by their scores as
they are. One embedding set compares and represents.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from recollect_kernels.target_attention.reference import masked_softmax
from recsys.models.batch import Batch, used_items
from recsys.models.embeddings import ItemEmbeddings
from recsys.models.model import Found, Model, Pooled, rows_of
from recsys.models.rectangle import Rectangle
from recsys.models.sizes import ModelSizes


@dataclass(frozen=True, kw_only=True, slots=True)
class DinConfig(ModelSizes):
    """Sizes of a DIN model; `n_positions` counts for nothing."""

    attention_hidden: int = 36
    """Width of the attention network's hidden layer."""


class AttentionNetwork(nn.Module):
    """[q, k, q − k, q⊙k] → Linear → PReLU → Linear 1, divided by the width of q."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.width = width
        self.inner = nn.Linear(4 * width, hidden)
        self.slope = nn.PReLU()
        self.outer = nn.Linear(hidden, 1)

    def forward(self, query: Float[Tensor, "b t f"], keys: Float[Tensor, "b l f"]) -> Float[Tensor, "b t l"]:
        """The score of each behaviour for each target.

        The first layer reads q and k apart, (W₁ + W₃)q + (W₂ − W₃ + W₄⊙q)k, so that the four inputs of every pair need
        not be laid side by side.
        """
        first, second, third, fourth = torch.split(self.inner.weight, self.width, dim=1)  # [H, F] each
        from_query = query @ (first + third).T + self.inner.bias  # [B, T, H]
        of_keys = query.unsqueeze(2) * fourth + (second - third)  # [B, T, H, F]
        hidden = torch.baddbmm(from_query.flatten(1).unsqueeze(2), of_keys.flatten(1, 2), keys.transpose(1, 2))
        scores: Tensor = self.outer.weight @ self.slope(hidden.view(*from_query.shape, -1))  # [B, T, 1, L]
        return (scores.squeeze(2) + self.outer.bias) / self.width


class Din(Model):
    """Searches and attends by the scores of a network."""

    kind = "din"
    sizes = DinConfig

    features = 2
    config: DinConfig

    def make_tables(self, generator: torch.Generator) -> None:
        """One embedding set without positions, and the network."""
        dim = self.config.representation_dim
        self.shared = ItemEmbeddings(self.config.n_items, self.config.n_categories, dim, generator=generator)
        self.network = AttentionNetwork(2 * dim, self.config.attention_hidden)

    def pool(self, batch: Batch, *, whole: bool) -> Pooled:
        """Pool each history for each target by the K highest scores, and `whole` if asked for."""
        used = used_items(batch, self.config.n_items + 1)
        joined = self.shared.joined(used.items, self.category_of_item)  # [U, 2·d]
        histories = Rectangle.of(used.rows, batch.offsets)
        target = rows_of(joined, used.targets)  # [B, T, 2·d]
        behaviours = rows_of(joined, histories.rows)  # [B, L, 2·d]
        scores = self.network(target, behaviours)  # [B, T, L]
        real, k = histories.real.unsqueeze(1), self.config.search_k
        columns, found = histories.best_columns(scores, real, k)  # [B, T, J]
        weights = masked_softmax(scores.gather(-1, columns), found)
        kept = torch.zeros_like(scores).scatter(-1, columns, weights)
        return Pooled(
            target=target,
            best=kept @ behaviours,
            whole=masked_softmax(scores, real) @ behaviours if whole else None,
            found=Found(
                histories.positions(columns, found, k),
                nn.functional.pad(weights.detach(), (0, k - weights.shape[-1])),
            ),
        )
