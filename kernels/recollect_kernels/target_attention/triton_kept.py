"""Launch the kernels that pool the behaviours a search kept, forward and backward."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recollect_kernels import launch
from recollect_kernels.target_attention.inputs import Inputs, contiguous
from recollect_kernels.target_attention.kept_kernels import attend_kept_gradient_kernel, attend_kept_kernel
from recollect_kernels.target_attention.segments import cut, fold_recency, weighted_sums

_TILE = 8192
"""Values of one gathered tile at most, where that leaves 16 behaviours in it."""
_WARP_TILE = 1024
"""Values of a gathered tile for each warp."""


class AttendKept(torch.autograd.Function):
    """Output and weights; gradients come in through both."""

    @staticmethod
    def forward(ctx: Any, positions: Tensor, longest: int, *tensors: Tensor | None) -> tuple[Tensor, Tensor]:
        """`tensors` are the fields of Inputs."""
        given, positions = contiguous(*tensors), positions.contiguous()
        batch, targets, k = positions.shape
        output = launch.empty(batch, targets, given.width, like=given.query, dtype=torch.float32)
        weights = launch.empty(batch, targets, k, like=given.query, dtype=torch.float32)
        if weights.numel() == 0:
            output.zero_()
        else:
            with launch.on_device_of(given.query):
                attend_kept_kernel[(batch * targets,)](
                    given.query, *given.tables(), given.rows, given.offsets, positions,
                    given.pointer(given.recency_bias), given.pointer(given.recency_values), output, weights,
                    targets, len(given.keys), given.bias_count, given.recency_count,
                    K=k, HAS_BIAS=given.recency_bias is not None, **tile(given, k),
                )  # fmt: skip
        ctx.save_for_backward(positions, output, weights, *given)
        ctx.longest = longest
        ctx.set_materialize_grads(False)
        return output, weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor | None, grad_weights: Tensor | None) -> tuple[Tensor | None, ...]:
        """One pass over the targets leaves the gradient of each score; each table then sums its rows' occurrences."""
        positions, output, weights, *saved = ctx.saved_tensors
        given = Inputs(*saved)
        needs = Inputs(*ctx.needs_input_grad[2:])
        if weights.numel() == 0:
            return (None, None, *given.zero_gradients(needs))
        grad_output = torch.zeros_like(output) if grad_output is None else grad_output.contiguous()
        with launch.on_device_of(given.query):
            grad_query, grad_scores, row, recency = _grad_scores(
                given, positions, output, weights, grad_output, grad_weights, ctx.longest
            )
            vectors = given.query.flatten(0, 1), grad_output.flatten(0, 1)  # [B * T, d], [B * T, e + r]
            grads: dict[str, Tensor] = {"query": grad_query}
            if needs.keys or needs.values:
                grads |= _grad_tables(given, needs, row, grad_scores, weights, *vectors)
            if needs.recency_bias or needs.recency_values:
                grads |= _grad_recency(given, needs, recency, grad_scores, weights, vectors[1], ctx.longest)
        return (None, None, *(grads.get(field) for field in Inputs._fields))


def tile(given: Inputs, k: int) -> dict[str, Any]:
    """Widths, behaviours a tile and warps for `given`."""
    constants = given.constants(1)
    width = max(constants["DP"], constants["EP"], constants["RP"])
    block = min(launch.padded(k), max(16, _TILE // width))
    return constants | {"BLOCK_K": block, "num_warps": min(4, max(1, block * width // _WARP_TILE))}


def _grad_scores(
    given: Inputs,
    positions: Tensor,
    output: Tensor,
    weights: Tensor,
    grad_output: Tensor,
    grad_weights: Tensor | None,
    longest: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the query and of the scores [B, T, K], and what each slot read: rows and recencies, int32."""
    batch, targets, k = positions.shape
    grad_query = launch.empty(*given.query.shape, like=given.query, dtype=given.query.dtype)
    grad_scores = launch.empty(batch, targets, k, like=given.query, dtype=torch.float32)
    row = launch.empty(batch, targets, k, like=given.query, dtype=torch.int32)
    recency = launch.empty(batch, targets, k, like=given.query, dtype=torch.int32)
    attend_kept_gradient_kernel[(batch * targets,)](
        *given.tables(), given.rows, given.offsets, positions, given.pointer(given.recency_values), output, weights,
        grad_output, given.pointer(None if grad_weights is None else grad_weights.contiguous()), grad_query,
        grad_scores, row, recency, targets, len(given.keys), given.recency_count, longest,
        K=k, HAS_GRAD_WEIGHTS=grad_weights is not None, **tile(given, k),
    )  # fmt: skip
    return grad_query, grad_scores, row, recency


def _grad_tables(
    given: Inputs, needs: Inputs, row: Tensor, grad_scores: Tensor, weights: Tensor, query: Tensor, grad_output: Tensor
) -> dict[str, Tensor]:
    """Gradients of the tables that need one, by field of Inputs; `row` [B, T, K] is what each slot read."""
    segments = cut(row.flatten(), len(given.keys))
    grads = {}
    if needs.keys:
        columns = slice(0, query.shape[1])
        grads["keys"] = weighted_sums(segments, grad_scores, query, columns, given.keys.dtype)
    if needs.values:
        columns = slice(0, given.values.shape[1])
        grads["values"] = weighted_sums(segments, weights, grad_output, columns, given.values.dtype)
    return grads


def _grad_recency(
    given: Inputs,
    needs: Inputs,
    recency: Tensor,
    grad_scores: Tensor,
    weights: Tensor,
    grad_output: Tensor,
    longest: int,
) -> dict[str, Tensor]:
    """As `_grad_tables` for what depends on recency alone."""
    segments = cut(recency.flatten(), longest)
    grads = {}
    if needs.recency_bias and given.recency_bias is not None:
        one = torch.ones(len(grad_output), 1, device=grad_output.device)
        sums = weighted_sums(segments, grad_scores, one, slice(0, 1), torch.float32)
        grads["recency_bias"] = fold_recency(sums, given.bias_count)[:, 0].to(given.recency_bias.dtype)
    if needs.recency_values and given.recency_values is not None:
        columns = slice(given.values.shape[1], given.width)
        sums = weighted_sums(segments, weights, grad_output, columns, torch.float32)
        grads["recency_values"] = fold_recency(sums, given.recency_count).to(given.recency_values.dtype)
    return grads
