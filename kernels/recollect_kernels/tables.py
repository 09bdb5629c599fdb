"""Row tables as the ops read them: plain floating point, or int8 rows with one scale each."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int, Int8
from torch import Tensor
from torch.nn.functional import embedding


class ScaledTable(NamedTuple):
    """int8 rows that stand for `rows * scales[:, None]`."""

    rows: Int8[Tensor, "v d"]
    scales: Float[Tensor, " v"]

    @property
    def shape(self) -> torch.Size:
        """[V, d]."""
        return self.rows.shape


Table = Tensor | ScaledTable
"""[V, d] in fp32, fp16 or bf16, or a ScaledTable."""


def gather_rows(table: Table, ids: Int[Tensor, "..."]) -> Float[Tensor, "... d"]:
    """Rows of `table` at `ids` in fp32, or fp64 where the table is; differentiable for a plain table."""
    if isinstance(table, ScaledTable):
        return table.rows[ids].float() * table.scales[ids].unsqueeze(-1)
    return at_least_fp32(embedding(ids, table))


def at_least_fp32(tensor: Tensor) -> Tensor:
    """`tensor` in the precision that the ops compute in: fp32, or fp64 for who checks gradients."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def quantize_rows(table: Float[Tensor, "v d"]) -> ScaledTable:
    """Round each row to int8 with the scale that maps its largest magnitude to 127; a zero row keeps scale 0."""
    scales = table.float().abs().amax(dim=1) / 127
    rows = torch.round(table.float() / torch.where(scales > 0, scales, 1.0).unsqueeze(1))
    return ScaledTable(rows.to(torch.int8), scales)
