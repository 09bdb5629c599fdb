"""The arguments that both poolings share, as their kernels take them."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recollect_kernels.launch import padded
from recollect_kernels.tables import ScaledTable, Table


class Inputs(NamedTuple):
    """Contiguous tensors; a plain table has no scales."""

    query: Float[Tensor, "b t d"]
    keys: Tensor
    key_scales: Float[Tensor, " v"] | None
    values: Tensor
    value_scales: Float[Tensor, " v"] | None
    rows: Int[Tensor, " e"]
    offsets: Int[Tensor, " b_and_one"]
    recency_bias: Float[Tensor, " p"] | None
    recency_values: Float[Tensor, "p r"] | None

    @property
    def width(self) -> int:
        """Columns of the output: those of the values, and behind them those of the recency values."""
        return self.values.shape[1] + self.recency_width

    @property
    def recency_width(self) -> int:
        """Columns of `recency_values`, 0 without."""
        return 0 if self.recency_values is None else self.recency_values.shape[1]

    @property
    def bias_count(self) -> int:
        """Entries of `recency_bias`."""
        return 1 if self.recency_bias is None else len(self.recency_bias)

    @property
    def recency_count(self) -> int:
        """Entries of `recency_values`."""
        return 1 if self.recency_values is None else len(self.recency_values)

    def pointer(self, tensor: Tensor | None) -> Tensor:
        """`tensor`, or something that a kernel can be given in its place and never reads."""
        return self.query if tensor is None else tensor

    def tables(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Both tables and their scales."""
        return self.keys, self.pointer(self.key_scales), self.values, self.pointer(self.value_scales)

    def constants(self, least: int) -> dict[str, Any]:
        """What every kernel is compiled for; tiles are at least `least` wide."""
        d, e, r = self.query.shape[2], self.values.shape[1], self.recency_width
        return {
            "D": d, "DP": padded(d, least), "E": e, "EP": padded(e, least), "R": r, "RP": padded(r, least),
            "SCALED_KEYS": self.key_scales is not None, "SCALED_VALUES": self.value_scales is not None,
        }  # fmt: skip

    def zero_gradients(self, needs: tuple[Any, ...]) -> tuple[Tensor | None, ...]:
        """Gradients of those fields that `needs` has true, when there is nothing to pool."""
        return tuple(
            torch.zeros_like(x) if need and x is not None else None for x, need in zip(self, needs, strict=True)
        )


def split(table: Table) -> tuple[Tensor, Tensor | None]:
    """The rows of a table, and its scales where it has some."""
    return (table.rows, table.scales) if isinstance(table, ScaledTable) else (table, None)


def contiguous(*tensors: Tensor | None) -> Inputs:
    """The arguments of an autograd function as Inputs; copies only what is not contiguous."""
    return Inputs(*(None if tensor is None else tensor.contiguous() for tensor in tensors))  # type: ignore[arg-type]
