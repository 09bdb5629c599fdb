"""Launch the kernels that pool whole histories, forward and backward."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recollect_kernels import launch
from recollect_kernels.target_attention.inputs import Inputs, contiguous
from recollect_kernels.target_attention.segments import cut, fold_recency, histories_of, join_chunks, room_for_sums
from recollect_kernels.target_attention.whole_kernels import (
    attend_all_kernel,
    query_gradient_kernel,
    recency_gradient_kernel,
    table_gradient_kernel,
)

_TARGETS = 16
"""Targets that one program pools for at most."""
_LEAST = 16
"""Least width of a tile that goes into a matrix product."""
_PROGRAMS = 1024
"""Programs that share the gradient of the recency arguments: some for each processor of a large GPU, while their
partial sums stay small."""


class AttendAll(torch.autograd.Function):
    """Output alone: weights of a whole history are never held."""

    @staticmethod
    def forward(ctx: Any, longest: int, *tensors: Tensor | None) -> Tensor:
        """`tensors` are the fields of Inputs."""
        given = contiguous(*tensors)
        batch, targets, _ = given.query.shape
        output = launch.empty(batch, targets, given.width, like=given.query, dtype=torch.float32)
        log_sum = launch.empty(batch, targets, like=given.query, dtype=torch.float32)
        if _nothing(given, longest):
            output.zero_()
        else:
            sizes = tile(given)
            with launch.on_device_of(given.query):
                attend_all_kernel[(batch, -(-targets // sizes["BLOCK_T"]))](
                    given.query, *given.tables(), given.rows, given.offsets, given.pointer(given.recency_bias),
                    given.pointer(given.recency_values), output, log_sum,
                    targets, len(given.keys), given.bias_count, given.recency_count, longest, **sizes,
                )  # fmt: skip
        ctx.save_for_backward(output, log_sum, *given)
        ctx.longest = longest
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        """Each kernel computes the weights it needs again: along histories, along rows' occurrences, along
        recencies."""
        output, log_sum, *saved = ctx.saved_tensors
        given = Inputs(*saved)
        needs = Inputs(*ctx.needs_input_grad[1:])
        if _nothing(given, ctx.longest):
            return (None, *given.zero_gradients(needs))
        grad_output = grad_output.contiguous()
        with launch.on_device_of(given.query):
            grad_query, delta = _grad_query(given, output, log_sum, grad_output)
            grads = {"query": grad_query}
            if needs.keys or needs.values:
                grads |= _grad_tables(given, log_sum, delta, grad_output, bool(needs.keys), bool(needs.values))
            if needs.recency_bias or needs.recency_values:
                sums = _grad_recency(given, log_sum, delta, grad_output, ctx.longest)
                if needs.recency_bias and given.recency_bias is not None:
                    grads["recency_bias"] = fold_recency(sums, given.bias_count)[:, 0].to(given.recency_bias.dtype)
                if needs.recency_values and given.recency_values is not None:
                    folded = fold_recency(sums[:, 1:], given.recency_count)
                    grads["recency_values"] = folded.to(given.recency_values.dtype)
        return (None, *(grads.get(field) for field in Inputs._fields))


def tile(given: Inputs) -> dict[str, Any]:
    """Widths, targets and behaviours a tile for `given`."""
    constants = given.constants(_LEAST)
    width = max(constants["DP"], constants["EP"])
    return constants | {
        "HAS_BIAS": given.recency_bias is not None,
        "BLOCK_T": min(_TARGETS, launch.padded(given.query.shape[1])),
        "BLOCK_L": max(16, min(64, 2048 // width)),
        "num_warps": 4,
    }


def _nothing(given: Inputs, longest: int) -> bool:
    return longest == 0 or given.query.numel() == 0


def _grad_query(given: Inputs, output: Tensor, log_sum: Tensor, grad_output: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient of the query, and output · its gradient [B, T]."""
    batch, targets, _ = given.query.shape
    grad_query = launch.empty(*given.query.shape, like=given.query, dtype=given.query.dtype)
    delta = launch.empty(batch, targets, like=given.query, dtype=torch.float32)
    sizes = tile(given)
    query_gradient_kernel[(batch, -(-targets // sizes["BLOCK_T"]))](
        given.query, *given.tables(), given.rows, given.offsets, given.pointer(given.recency_bias),
        given.pointer(given.recency_values), output, log_sum, grad_output, grad_query, delta,
        targets, len(given.keys), given.bias_count, given.recency_count, **sizes,
    )  # fmt: skip
    return grad_query, delta


def _grad_tables(
    given: Inputs, log_sum: Tensor, delta: Tensor, grad_output: Tensor, of_keys: bool, of_values: bool
) -> dict[str, Tensor]:
    """Gradients of the tables that want one, by field of Inputs."""
    batch, targets, _ = given.query.shape
    v = len(given.keys)
    history_of = histories_of(given.rows, given.offsets)
    there = (history_of >= 0) & (history_of < batch) & (given.rows >= 0) & (given.rows < v)
    segments = cut(torch.where(there, given.rows, v).to(torch.int32), v, targets)
    rooms = {}
    if of_keys:
        rooms["keys"] = room_for_sums(segments, given.keys.shape[1], given.keys.dtype)
    if of_values:
        rooms["values"] = room_for_sums(segments, given.values.shape[1], given.values.dtype)
    nowhere = given.query, given.query  # the kernel leaves alone what it is told not to sum
    (grad_keys, partial_keys), (grad_values, partial_values) = (rooms.get(x, nowhere) for x in ("keys", "values"))
    constants = given.constants(1)
    width = constants["DP"] + constants["EP"] + 2 * constants["RP"]
    table_gradient_kernel[(len(segments.starts) - 1,)](
        given.query, *given.tables(), given.offsets, given.pointer(given.recency_bias),
        given.pointer(given.recency_values), log_sum, delta, grad_output,
        segments.starts, segments.ids, segments.order, history_of, grad_keys, grad_values, partial_keys, partial_values,
        targets, given.bias_count, given.recency_count, len(segments.ids), v,
        HAS_BIAS=given.recency_bias is not None, GRAD_KEYS=of_keys, GRAD_VALUES=of_values,
        CHUNK=segments.chunk, BLOCK=16, num_warps=1 if width <= 128 else 4, **constants,
    )  # fmt: skip
    for sums, partial in rooms.values():
        join_chunks(segments, sums, partial)
    return {field: sums for field, (sums, _) in rooms.items()}


def _grad_recency(given: Inputs, log_sum: Tensor, delta: Tensor, grad_output: Tensor, longest: int) -> Tensor:
    """Gradients of bias and values at each recency, joined: [longest, 1 + r]."""
    batch, targets, _ = given.query.shape
    sizes = tile(given)
    del sizes["BLOCK_T"]
    tiles = -(-longest // sizes["BLOCK_L"])
    share = -(-batch // max(1, _PROGRAMS // tiles))
    shares = -(-batch // share)
    width = 1 + given.recency_width
    partial = launch.empty(shares, tiles * sizes["BLOCK_L"], width, like=given.query, dtype=torch.float32)
    recency_gradient_kernel[(tiles, shares)](
        given.query, *given.tables(), given.rows, given.offsets, given.pointer(given.recency_bias),
        given.pointer(given.recency_values), log_sum, delta, grad_output, partial,
        batch, targets, len(given.keys), given.bias_count, given.recency_count, share, **sizes,
    )  # fmt: skip
    return partial.sum(0)[:longest]
