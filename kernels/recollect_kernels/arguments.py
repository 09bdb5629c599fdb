"""Check what the ops share of their arguments, so that no kernel is launched on what does not fit."""

import torch
from torch import Tensor

from recollect_kernels import loops
from recollect_kernels.ragged import check_ragged, longest_history
from recollect_kernels.tables import ScaledTable, Table

_PLAIN = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_SCALED = (torch.int8, torch.float8_e4m3fn)


def check_history(query: Tensor, keys: Table, rows: Tensor, offsets: Tensor, recency_bias: Tensor | None) -> None:
    """Raise ValueError unless shapes and types of the arguments that search and attention share fit together."""
    if query.dim() != 3:
        raise ValueError(f"query must be [B, T, d], got {tuple(query.shape)}; a single target is [1, 1, d]")
    if not query.is_floating_point():
        raise ValueError(f"query must be floating point, got {query.dtype}")
    check_table("keys", keys)
    # Asked one by one on a CPU, where short calls last microseconds.
    if not (query.is_cpu and _is_on_cpu(keys) and rows.is_cpu and offsets.is_cpu and _is_on_cpu(recency_bias)):
        _check_places(query, keys=keys, rows=rows, offsets=offsets, recency_bias=recency_bias)
    if query.shape[2] == 0:
        raise ValueError(f"query must be [B, T, d] with d at least 1, got {tuple(query.shape)}")
    _check_precision(query, "keys", keys)
    if keys.shape[1] != query.shape[2]:
        raise ValueError(
            f"keys must be [V, {query.shape[2]}] to match query {tuple(query.shape)}, got {tuple(keys.shape)}"
        )
    check_ragged(rows, offsets, query.shape[0])
    if recency_bias is not None and (recency_bias.dim() != 1 or recency_bias.shape[0] == 0):
        raise ValueError(f"recency_bias must be [P] with P at least 1, got {tuple(recency_bias.shape)}")


def bound_lengths(keys: Table, rows: Tensor, offsets: Tensor, longest: int | None) -> int:
    """A bound on the histories' lengths: `longest` on a GPU, where given; else rows and offsets are read for it.

    Raises ValueError for a bound that is none, and where rows or offsets do not fit.
    """
    if longest is not None and longest < 0:
        raise ValueError(f"longest must be at least 0, got {longest}")
    if longest is not None and not rows.is_cpu:
        return longest
    found = loops.longest_history(rows, offsets, keys.shape[0])
    if found is None:
        found = longest_history(rows, offsets, keys.shape[0])
    if longest is not None and longest < found:
        raise ValueError(f"longest must be at least {found}, the longest history, got {longest}")
    return found


def _is_on_cpu(table: Table | None) -> bool:
    """Whether it is on the CPU, or not there at all."""
    if table is None:
        return True
    return table.is_cpu if isinstance(table, Tensor) else table.rows.is_cpu and table.scales.is_cpu


def _check_places(query: Tensor, **others: Table | None) -> None:
    """Raise ValueError for one of the others that is not where `query` is."""
    for name, other in others.items():
        for tensor in other if isinstance(other, ScaledTable) else (other,):
            if tensor is not None and tensor.device != query.device:
                raise ValueError(f"{name} must be on {query.device} as query is, got {tensor.device}; move it there")


def _check_precision(query: Tensor, name: str, table: Table) -> None:
    """Raise ValueError where one of both is fp64 and the other is not."""
    found = table.dtype if isinstance(table, Tensor) else torch.float32
    if (query.dtype == torch.float64) != (found == torch.float64):
        raise ValueError(f"{name} and query must both be float64 or neither, got {found} and {query.dtype}; cast one")


def check_values(query: Tensor, keys: Table, values: Table, recency_values: Tensor | None) -> None:
    """Raise ValueError unless `values` [V, e] holds a row for each of `keys` [V, d] and `recency_values` is [P, r]."""
    check_table("values", values)
    if not (query.is_cpu and _is_on_cpu(values) and _is_on_cpu(recency_values)):
        _check_places(query, values=values, recency_values=recency_values)
    _check_precision(query, "values", values)
    if values.shape[0] != keys.shape[0]:
        raise ValueError(
            f"values must be [{keys.shape[0]}, e] to match keys {tuple(keys.shape)}, got {tuple(values.shape)}"
        )
    if recency_values is not None and (recency_values.dim() != 2 or recency_values.shape[0] == 0):
        raise ValueError(f"recency_values must be [P, r] with P at least 1, got {tuple(recency_values.shape)}")


def check_positions(query: Tensor, positions: Tensor) -> None:
    """Raise ValueError unless `positions` is [B, T, K] int64 to fit `query` [B, T, d]."""
    if not (query.is_cpu and positions.is_cpu):
        _check_places(query, positions=positions)
    if positions.dim() != 3 or positions.shape[:2] != query.shape[:2] or positions.dtype != torch.int64:
        raise ValueError(
            f"positions must be [{query.shape[0]}, {query.shape[1]}, K] int64, as behavior_search gives them, "
            f"got {tuple(positions.shape)} {positions.dtype}"
        )


def check_k(k: int) -> None:
    """Raise ValueError for a k below 1."""
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")


def check_table(name: str, table: Table) -> None:
    """Raise ValueError unless `table` is [V, d] of a type that the ops read."""
    stored = table.rows if isinstance(table, ScaledTable) else table
    if stored.dim() != 2:
        raise ValueError(f"{name} must be [V, d], got {tuple(stored.shape)}")
    allowed = _SCALED if isinstance(table, ScaledTable) else _PLAIN
    if stored.dtype not in allowed:
        names = ", ".join(str(dtype).removeprefix("torch.") for dtype in allowed)
        hint = "" if isinstance(table, ScaledTable) else "; wrap 8-bit rows in a ScaledTable"
        raise ValueError(f"{name} must be one of {names}, got {str(stored.dtype).removeprefix('torch.')}{hint}")
    if isinstance(table, ScaledTable) and table.scales.shape != stored.shape[:1]:
        raise ValueError(f"{name} must carry {stored.shape[0]} scales, one a row, got {tuple(table.scales.shape)}")
