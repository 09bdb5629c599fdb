"""Row tables as the ops read them: plain floating point, or 8-bit rows with one scale each."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.nn.functional import embedding

_LARGEST = {torch.int8: 127.0, torch.float8_e4m3fn: 448.0}
"""The magnitude that each 8-bit type maps a row's largest entry to."""


class ScaledTable(NamedTuple):
    """8-bit rows that stand for `rows * scales[:, None]`."""

    rows: Shaped[Tensor, "v d"]
    """int8 or float8_e4m3fn."""
    scales: Float[Tensor, " v"]

    @property
    def shape(self) -> torch.Size:
        """[V, d]."""
        return self.rows.shape


Table = Tensor | ScaledTable
"""[V, d] in fp32, fp16 or bf16, or a ScaledTable."""


def gather_rows(table: Table, ids: Int[Tensor, "..."]) -> Float[Tensor, "... d"]:
    """Rows of `table` at `ids` in fp32, or fp64 where the table is; differentiable for a plain table."""
    flat = ids.flatten()
    if isinstance(table, ScaledTable):
        # Of the one-byte types, index_select knows int8 alone.
        rows = table.rows.view(torch.int8).index_select(0, flat).view(table.rows.dtype).float()
        gathered = rows.mul_(table.scales.index_select(0, flat).unsqueeze(1))
    elif table.is_cuda:
        gathered = at_least_fp32(embedding(flat, table))  # index_select adds gradients in any order there
    else:
        gathered = at_least_fp32(table.index_select(0, flat))  # several times as fast on a CPU
    return gathered.view(*ids.shape, table.shape[1])


def at_least_fp32(tensor: Tensor) -> Tensor:
    """`tensor` in the precision that the ops compute in: fp32, or fp64 for who checks gradients."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def quantize_rows(table: Float[Tensor, "v d"], dtype: torch.dtype = torch.int8) -> ScaledTable:
    """Round each row to `dtype`, int8 or float8_e4m3fn, with the scale that maps its largest magnitude to the largest
    that the type has; a zero row keeps scale 0.

    int8 spreads its steps evenly over a row; float8 keeps three bits of each entry, however small beside the largest.
    """
    if dtype not in _LARGEST:
        raise ValueError(f"dtype must be torch.int8 or torch.float8_e4m3fn, got {dtype}")
    scales = table.float().abs().amax(dim=1) / _LARGEST[dtype]
    rows = table.float() / torch.where(scales > 0, scales, 1.0).unsqueeze(1)
    return ScaledTable((rows.round() if dtype == torch.int8 else rows).to(dtype), scales)
