"""Histories of a batch as a rectangle, for models that score behaviours otherwise than by a dot product."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor
from torch.nn.functional import embedding

from recollect_kernels.behavior_search.ordering import PADDING_KEY, sort_key
from recollect_kernels.ragged import pad_left


class Rectangle(NamedTuple):
    """B histories of at most L behaviours; column L - 1 is the newest of each."""

    rows: Int64[Tensor, "b l"]
    """0 where padded."""
    real: Bool[Tensor, "b l"]
    padding: Int64[Tensor, " b"]
    """Columns before each history's oldest behaviour."""

    @classmethod
    def of(cls, rows: Int[Tensor, " e"], offsets: Int64[Tensor, " b_and_one"]) -> "Rectangle":
        """Ragged histories, padded on the left."""
        return cls(*pad_left(rows, offsets))

    def position_values(self, table: Float[Tensor, "n p"]) -> Float[Tensor, "l p"]:
        """The rows of a table by recency under the columns; its last serves all that are older."""
        recency = torch.arange(self.rows.shape[1] - 1, -1, -1, device=self.rows.device)
        return embedding(recency.clamp(max=len(table) - 1), table)

    def best_columns(
        self, scores: Float[Tensor, "b t l"], eligible: Bool[Tensor, "b #t l"], k: int
    ) -> tuple[Int64[Tensor, "b t j"], Bool[Tensor, "b t j"]]:
        """Columns of the highest scores among the eligible, at most K, and which of them are; a tie goes to the
        newest."""
        flipped = scores.detach().flip(-1)  # the key's own rule gives a tie to the first
        order = sort_key(flipped).masked_fill(~eligible.flip(-1), PADDING_KEY)
        best, column = order.topk(min(k, scores.shape[-1]), dim=-1)
        return scores.shape[-1] - 1 - column, best != PADDING_KEY

    def positions(
        self, columns: Int64[Tensor, "b t j"], found: Bool[Tensor, "b t j"], k: int
    ) -> Int64[Tensor, "b t k"]:
        """Columns as positions in the history as given, filled up to K with -1."""
        positions = torch.where(found, columns - self.padding.view(-1, 1, 1), -1)
        return torch.nn.functional.pad(positions, (0, k - positions.shape[-1]), value=-1)
