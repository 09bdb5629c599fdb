"""Item, category and position tables, the first two read as one joined row an item."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import embedding

INIT_STD = 0.01
"""Standard deviation of freshly initialised embeddings."""


class ItemEmbeddings(nn.Module):
    """A table each for items and categories, both of size `dim`; row 0 is padding and unknown: zero, and never
    trained.

    Gradients of the items' table are sparse, of the rows that were read, where its `sparse` is set.
    """

    def __init__(self, n_items: int, n_categories: int, dim: int, *, generator: torch.Generator) -> None:
        super().__init__()
        self.dim = dim
        self.item = _table(n_items + 1, dim, generator, padding=True)
        self.category = _table(n_categories + 1, dim, generator, padding=True)

    def joined(self, items: Int[Tensor, " u"] | None, category_of_item: Int[Tensor, " v"]) -> Float[Tensor, "u dd"]:
        """Item and category rows side by side, [U, 2·dim]: of `items`, or of the whole catalogue for None."""
        whole = items is None
        if items is None:
            items = torch.arange(len(category_of_item), device=category_of_item.device)
        categories = category_of_item[items]
        # The whole table has no sparse gradient: every row would be in it.
        pair = (
            embedding(items, self.item.weight, padding_idx=0, sparse=self.item.sparse and not whole),
            embedding(categories, self.category.weight, padding_idx=0),
        )
        return torch.cat(pair, dim=1)


class FeatureEmbeddings(ItemEmbeddings):
    """One embedding set: a table each for items, categories and positions, all of size `dim`.

    Row 0 of the position table belongs to the target, row 1 to the most recent behaviour, and the last row to
    everything older as well.
    """

    def __init__(
        self, n_items: int, n_categories: int, n_positions: int, dim: int, *, generator: torch.Generator
    ) -> None:
        super().__init__(n_items, n_categories, dim, generator=generator)
        self.position = _table(n_positions + 1, dim, generator, padding=False)


def _table(rows: int, dim: int, generator: torch.Generator, *, padding: bool) -> nn.Embedding:
    table = nn.Embedding(rows, dim, padding_idx=0 if padding else None)
    with torch.no_grad():
        table.weight.normal_(0.0, INIT_STD, generator=generator)
        if padding:
            table.weight[0] = 0.0
    return table
