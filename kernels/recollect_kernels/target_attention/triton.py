"""The pooling on a GPU: fused, differentiable, and the same bit for bit every time it runs.

No gathered [B, T, K, d] or [B, L, d] is ever held, forward or backward. Gradients of the tables are dense: hand in
tables of the rows that a batch needs. Computes in fp32 whatever the storage; fp64 is the reference's.
"""

from jaxtyping import Float, Int, Int64
from torch import Tensor

from recollect_kernels.tables import Table
from recollect_kernels.target_attention.inputs import split
from recollect_kernels.target_attention.triton_kept import AttendKept
from recollect_kernels.target_attention.triton_whole import AttendAll


def attend_all(
    query: Float[Tensor, "b t d"],
    keys: Table,
    values: Table,
    rows: Int[Tensor, " e"],
    offsets: Int[Tensor, " b_and_one"],
    recency_bias: Float[Tensor, " p"] | None,
    recency_values: Float[Tensor, "p r"] | None,
    longest: int,
) -> Float[Tensor, "b t e_r"]:
    """Pool every behaviour. `longest` is an upper bound of the histories' lengths; behaviours whose row is outside the
    table are left out."""
    tensors = (query, *split(keys), *split(values), rows, offsets, recency_bias, recency_values)
    output: Tensor = AttendAll.apply(longest, *tensors)
    return output


def attend_kept(
    query: Float[Tensor, "b t d"],
    keys: Table,
    values: Table,
    rows: Int[Tensor, " e"],
    offsets: Int[Tensor, " b_and_one"],
    positions: Int64[Tensor, "b t k"],
    recency_bias: Float[Tensor, " p"] | None,
    recency_values: Float[Tensor, "p r"] | None,
    longest: int,
) -> tuple[Float[Tensor, "b t e_r"], Float[Tensor, "b t k"]]:
    """Pool the behaviours at `positions`, those at -1 left out; also left out are positions beyond a history and rows
    outside the table. Arguments as in `attend_all`."""
    tensors = (query, *split(keys), *split(values), rows, offsets, recency_bias, recency_values)
    output, weights = AttendKept.apply(positions, longest, *tensors)
    return output, weights
