"""DARE computed the way the released code computes it: the peer that throughput is measured against.

Written from the description in arXiv 2410.02604 and kept to the released design where that costs or saves time: every
sample carries its own padded history of N behaviours, all three features of both sets are gathered for all N, in
inference as well, where the auxiliary pooling is computed too, and Adam is the plain one. It shares no code with
`recsys.models.dare`.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


class PaddedBatch(NamedTuple):
    """S samples with one target each."""

    items: Tensor
    """[S, N] int64 item rows, 0 where padded."""
    categories: Tensor
    """[S, N] int64 category rows."""
    targets: Tensor
    """[S] int64 item rows."""
    target_categories: Tensor
    """[S] int64 category rows."""
    labels: Tensor
    """[S] int64."""


class PeerDare(nn.Module):
    """Both embedding sets of size d for item, category and position, and the two heads."""

    def __init__(self, n_items: int, n_categories: int, *, d: int, n: int, k: int) -> None:
        super().__init__()
        self.d, self.n, self.k = d, n, k

        def tables() -> nn.ModuleList:
            return nn.ModuleList([nn.Embedding(rows + 1, d) for rows in (n_items, n_categories, n)])

        self.attention, self.representation = tables(), tables()
        for table in (*self.attention, *self.representation):
            nn.init.normal_(table.weight, std=0.01)
        self.head = _head(9 * d, (200, 80))
        self.aux_head = _head(9 * d, (200,))

    def forward(self, batch: PaddedBatch) -> tuple[Tensor, Tensor]:
        """Logits of the head and of the auxiliary head, [S, 2] each."""
        steps = torch.arange(self.n, 0, -1).expand_as(batch.items)
        history = (batch.items, batch.categories, steps)
        target = (batch.targets, batch.target_categories, torch.zeros_like(batch.targets))
        key = torch.stack([table(x) for table, x in zip(self.attention, history, strict=True)], 2)  # [S, N, 3, d]
        query = torch.stack([table(x) for table, x in zip(self.attention, target, strict=True)], 1)  # [S, 3, d]
        value = torch.cat([table(x) for table, x in zip(self.representation, history, strict=True)], 2)  # [S, N, 3d]
        v = torch.cat([table(x) for table, x in zip(self.representation, target, strict=True)], 1)  # [S, 3d]
        dots = torch.einsum("snfd,sfd->snf", key, query)
        scores = dots[..., :2].sum(-1) / math.sqrt(2 * self.d) + dots[..., 2] / math.sqrt(self.d)
        scores = scores.masked_fill(batch.items == 0, -1e9)
        best, index = scores.topk(self.k, dim=1)
        kept = value.gather(1, index.unsqueeze(-1).expand(-1, -1, 3 * self.d))
        pooled = torch.einsum("sk,ske->se", best.softmax(1), kept)
        whole = torch.einsum("sn,sne->se", scores.softmax(1), value)
        return self.head(torch.cat([v, pooled, pooled * v], 1)), self.aux_head(torch.cat([v, whole, whole * v], 1))

    def step(self, optimizer: torch.optim.Optimizer, batch: PaddedBatch, l2: float) -> None:
        """One training step."""
        optimizer.zero_grad()
        main, aux = self(batch)
        heads = (*self.head.named_parameters(), *self.aux_head.named_parameters())
        penalty = torch.stack([weight.square().sum() for name, weight in heads if not name.endswith("bias")]).sum()
        loss = cross_entropy(main, batch.labels) + cross_entropy(aux, batch.labels) + l2 * penalty
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def _head(width: int, hidden: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = [nn.BatchNorm1d(width)]
    for size in hidden:
        layers += [nn.Linear(width, size), nn.PReLU()]
        width = size
    return nn.Sequential(*layers, nn.Linear(width, 2))
