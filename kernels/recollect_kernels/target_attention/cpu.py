"""The pooling on a CPU: compiled loops with gradients of their own where numba is installed, torch otherwise."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

from recollect_kernels import loops, ragged
from recollect_kernels.loops import NO_NUMBERS, NO_TENSOR, NO_VALUES
from recollect_kernels.tables import ScaledTable, Table, gather_rows
from recollect_kernels.target_attention import reference
from recollect_kernels.target_attention.cpu_gradients import Gradients
from recollect_kernels.threads import POOLING, READING, parts_of, plan, ranges, run_parts

_GATHERED = 1 << 18
"""Behaviours whose rows are held in fp32 at once where the table is not."""
_MOST_ROWS = 1 << 31
"""Rows of a table, and occurrences of them, that the loops can number."""

_NO_BYTES = np.empty((0, 0), np.uint8)


def attend_kept(
    query: Float[Tensor, "b t d"],
    keys: Table,
    values: Table,
    rows: Int[Tensor, " n"],
    offsets: Int[Tensor, " b_and_one"],
    positions: Int64[Tensor, "b t k"],
    recency_bias: Float[Tensor, " p"] | None,
    recency_values: Float[Tensor, "q r"] | None,
) -> tuple[Float[Tensor, "b t e_r"], Float[Tensor, "b t k"]]:
    """Output and weights of the behaviours at `positions`, those at -1 left out.

    Raises ValueError where offsets or rows do not fit, as `ragged.longest_history` does; of plain fp32 tables only the
    rows at `positions` are looked at.
    """
    learns = _learns(query, keys, values, recency_bias, recency_values)
    if len(rows) == 0 or not _suits_loops(learns, positions.numel(), keys, values, query, recency_bias, recency_values):
        _check(keys, rows, offsets)
        return reference.attend_kept(query, keys, values, rows, offsets, positions, recency_bias, recency_values)
    beside = recency_bias, recency_values
    if not _is_stored_alike(keys, values):
        _check(keys, rows, offsets)
        found = _find_kept(keys, values, rows, offsets, positions)
        tables = gather_rows(keys, found), gather_rows(values, found)
        return _pool_kept(query, *tables, rows[:0], offsets, positions, *beside)
    if not learns:
        return _pool_kept(query, keys, values, rows, offsets, positions, *beside)
    output, weights = _Kept.apply(  # type: ignore[no-untyped-call]
        query.float(), keys, values, rows, offsets, positions, *map(_in_fp32, beside)
    )
    return output, weights


def attend_all(
    query: Float[Tensor, "b t d"],
    keys: Table,
    values: Table,
    rows: Int[Tensor, " n"],
    offsets: Int[Tensor, " b_and_one"],
    recency_bias: Float[Tensor, " p"] | None,
    recency_values: Float[Tensor, "q r"] | None,
) -> Float[Tensor, "b t e_r"]:
    """Output of every behaviour.

    Raises ValueError where offsets or rows do not fit, as `ragged.longest_history` does.
    """
    _check(keys, rows, offsets)
    learns = _learns(query, keys, values, recency_bias, recency_values)
    if not _suits_loops(learns, len(rows), keys, values, query, recency_bias, recency_values):
        return reference.attend_all(query, keys, values, rows, offsets, recency_bias, recency_values)
    beside = recency_bias, recency_values
    if not (loops.is_plain(keys) and loops.is_plain(values)):
        return _pool_all_gathered(query, keys, values, rows, offsets, *beside)
    if not learns:
        return _pool_all(query, keys, values, rows, offsets, *beside)[0]
    output: Tensor = _Whole.apply(  # type: ignore[no-untyped-call]
        query.float(), keys, values, rows, offsets, *map(_in_fp32, beside)
    )
    return output


class _Kept(torch.autograd.Function):
    """`attend_kept` with gradients of its own."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, Tensor]:
        output, weights = _pool_kept(*arguments)
        ctx.save_for_backward(*arguments, weights)
        ctx.set_materialize_grads(False)
        return output, weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_output: Tensor | None, of_weights: Tensor | None) -> tuple[Tensor | None, ...]:
        query, keys, values, rows, offsets, positions, bias, beside, weights = ctx.saved_tensors
        needs = ctx.needs_input_grad
        gradients = Gradients(query, keys, values, bias, beside, (*needs[:3], *needs[6:]))
        if weights.numel() > 0 and not (of_output is None and of_weights is None):
            if of_output is None:
                of_output = query.new_zeros(*query.shape[:2], gradients.width)
            gradients.add_kept(rows, offsets, positions, weights, of_output, of_weights)
        of_query, of_keys, of_values, of_bias, of_beside = gradients.tensors()
        return of_query, of_keys, of_values, None, None, None, of_bias, of_beside


class _Whole(torch.autograd.Function):
    """`attend_all` with gradients of its own."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        output, norms = _pool_all(*arguments, learns=True)
        ctx.save_for_backward(*arguments, output, norms)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_output: Tensor) -> tuple[Tensor | None, ...]:
        query, keys, values, rows, offsets, bias, beside, output, norms = ctx.saved_tensors
        needs = ctx.needs_input_grad
        gradients = Gradients(query, keys, values, bias, beside, (*needs[:3], *needs[5:]))
        if output.numel() > 0 and len(rows) > 0:
            gradients.add_all(rows, offsets, output, norms, of_output)
        of_query, of_keys, of_values, of_bias, of_beside = gradients.tensors()
        return of_query, of_keys, of_values, None, None, of_bias, of_beside


def _pool_kept(
    query: Tensor,
    keys: Table,
    values: Table,
    rows: Tensor,
    offsets: Tensor,
    positions: Tensor,
    recency_bias: Tensor | None,
    recency_values: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """`attend_kept` from tables that the loops read; without rows, they hold those of all positions in turn."""
    batch, targets, k = positions.shape
    d, e = query.shape[2], values.shape[1]
    of_keys, of_values = loops.stored(keys, rows), loops.stored(values, rows)
    assert of_keys is not None, "callers ask _is_stored_alike first"
    assert of_values is not None, "callers ask _is_stored_alike first"
    query, offsets, positions = (
        loops.plain(query, torch.float32), loops.plain(offsets, torch.int64), loops.plain(positions, torch.int64)
    )  # fmt: skip
    bias = NO_TENSOR if recency_bias is None else loops.plain(recency_bias, torch.float32)
    beside, n_beside, r = loops.recency_table(recency_values)
    output, weights = loops.floats(batch, targets, e + r), loops.floats(batch, targets, k)
    call = (
        *(*of_keys.kinds, query.data_ptr(), of_keys.table.data_ptr(), of_keys.scales.data_ptr()),
        *(of_values.table.data_ptr(), of_values.scales.data_ptr(), of_keys.rows.data_ptr(), offsets.data_ptr()),
        *(positions.data_ptr(), bias.data_ptr(), beside.data_ptr(), output.data_ptr(), weights.data_ptr()),
        *(batch, targets, d, e, r, k, keys.shape[0], rows.numel(), bias.numel(), n_beside, of_keys.is_scaled),
    )
    parts = parts_of(weights.numel() * (d + e + r + POOLING), batch * targets)
    if not run_parts(loops.needed().attend_kept, call, parts):
        ragged.longest_history(rows, offsets, keys.shape[0])
    return output, weights


def _pool_all(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    rows: Tensor,
    offsets: Tensor,
    recency_bias: Tensor | None,
    recency_values: Tensor | None,
    longest: int | None = None,
    *,
    learns: bool = False,
) -> tuple[Tensor, Tensor]:
    """`attend_all` from plain tables, and what `learns` keeps for the backward pass, [B, T, 2] or empty."""
    batch, targets, d = query.shape
    bias = NO_NUMBERS if recency_bias is None else loops.array(recency_bias, torch.float32)
    beside = NO_VALUES if recency_values is None else loops.array(recency_values, torch.float32)
    ends = loops.array(offsets, torch.int64)
    if longest is None:
        longest = int(np.diff(ends).max(initial=0))
    width = values.shape[1] + beside.shape[1]
    output = np.empty((batch, targets, width), np.float32)
    norms = np.empty((batch, targets, 2) if learns else (0, 0, 0), np.float32)
    call = (
        loops.array(query, torch.float32).reshape(-1),
        loops.array(keys),
        loops.array(values),
        loops.array(rows, torch.int32),
        ends,
        bias,
        beside,
        targets,
        longest,
        output.reshape(-1),
        norms.reshape(-1),
    )
    by, parts = plan(batch, targets, len(rows) * (targets * (d + width) + READING))
    run_parts(loops.needed().attend_all, (*call, by), parts)
    return torch.from_numpy(output), torch.from_numpy(norms)


def _find_kept(keys: Table, values: Table, rows: Tensor, offsets: Tensor, positions: Tensor) -> Tensor:
    """Rows of the behaviours at `positions`, flat and on their way into the cache."""
    found = np.empty(positions.numel(), np.int64)
    history = loops.array(rows), loops.array(offsets, torch.int64), loops.array(positions).reshape(-1)
    loops.needed().find_kept(_bytes(keys), _bytes(values), *history, found)
    return torch.from_numpy(found)


def _bytes(table: Table) -> Any:
    """What a table stores as bytes [V, …], or none where its rows lie apart."""
    stored = table if isinstance(table, Tensor) else table.rows
    return stored.detach().view(torch.uint8).numpy() if stored.is_contiguous() else _NO_BYTES


def _pool_all_gathered(
    query: Tensor,
    keys: Table,
    values: Table,
    rows: Tensor,
    offsets: Tensor,
    recency_bias: Tensor | None,
    recency_values: Tensor | None,
) -> Tensor:
    """`attend_all` from tables whose rows become fp32 first, some histories at a time."""
    longest = int(offsets.diff().max()) if len(query) else 0
    width = values.shape[1] + (0 if recency_values is None else recency_values.shape[1])
    output = loops.floats(*query.shape[:2], width)
    for b0, b1 in ranges(offsets.diff(), 1 + len(rows) // _GATHERED):
        here = rows[offsets[b0] : offsets[b1]]
        tables = gather_rows(keys, here), gather_rows(values, here)
        history = torch.arange(len(here), dtype=torch.int32, device="cpu"), offsets[b0 : b1 + 1] - offsets[b0]
        output[b0:b1], _ = _pool_all(query[b0:b1], *tables, *history, recency_bias, recency_values, longest)
    return output


def _check(keys: Table, rows: Tensor, offsets: Tensor) -> None:
    if loops.longest_history(rows, offsets, keys.shape[0]) is None:
        ragged.longest_history(rows, offsets, keys.shape[0])


def _is_stored_alike(keys: Table, values: Table) -> bool:
    """Whether the loops read both tables as they are stored, in one way."""
    kinds = {type(table) if isinstance(table, ScaledTable) else table.dtype for table in (keys, values)}
    return len(kinds) == 1 and loops.is_stored(keys) and loops.is_stored(values)


def _learns(*arguments: Table | None) -> bool:
    """Whether gradients are wanted; those of scaled tables never are."""
    return torch.is_grad_enabled() and any(isinstance(x, Tensor) and x.requires_grad for x in arguments)


def _suits_loops(learns: bool, occurrences: int, keys: Table, values: Table, *others: Tensor | None) -> bool:
    """Whether there are loops that compute in the precision of these, and can number them."""
    if loops.compiled() is None or max(keys.shape[0], occurrences) >= _MOST_ROWS:
        return False
    if any(isinstance(x, Tensor) and x.dtype == torch.float64 for x in (keys, values, *others)):
        return False
    return not learns or (loops.is_plain(keys) and loops.is_plain(values))


def _in_fp32(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.float()
