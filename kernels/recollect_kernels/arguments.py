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


def check_values(keys: Table, values: Table, recency_values: Tensor | None) -> None:
    """Raise ValueError unless `values` [V, e] holds a row for each of `keys` [V, d] and `recency_values` is [P, r]."""
    check_table("values", values)
    if values.shape[0] != keys.shape[0]:
        raise ValueError(
            f"values must be [{keys.shape[0]}, e] to match keys {tuple(keys.shape)}, got {tuple(values.shape)}"
        )
    if recency_values is not None and (recency_values.dim() != 2 or recency_values.shape[0] == 0):
        raise ValueError(f"recency_values must be [P, r] with P at least 1, got {tuple(recency_values.shape)}")


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
