"""Hand tensors to the compiled loops, a share of them to each thread; without numba there are none.

Calls of one target in a short history last some microseconds, so tensors become arrays once and nothing is converted
that is as it should be.
"""

import threading
from functools import cache, partial
from types import ModuleType
from typing import Any, TypeGuard

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from recollect_kernels import ragged
from recollect_kernels.tables import ScaledTable, Table, gather_rows
from recollect_kernels.threads import READING, ranges, run_all, run_shares, shares

_GATHERED = 1 << 18
"""Behaviours whose rows are held in fp32 at once where the table is not."""


class _OfThread(threading.local):
    numbers: Any = np.empty(0, np.float32)


_mine = _OfThread()

NO_NUMBERS = np.empty(0, np.float32)
"""What stands for a vector that is not given."""
NO_VALUES = np.empty((1, 0), np.float32)
"""What stands for recency values that are not given."""


@cache
def compiled() -> ModuleType | None:
    """The loops, compiled or read from numba's cache; None where numba is not installed."""
    try:
        import numba  # noqa: F401
    except ImportError:
        return None
    from recollect_kernels import compiled as loops

    return loops


def needed() -> ModuleType:
    """The loops, for those who have asked `compiled` whether there are any."""
    loops = compiled()
    assert loops is not None, "callers ask for the loops first"
    return loops


def longest_history(rows: Int[Tensor, " e"], offsets: Int[Tensor, " b_and_one"], n_rows: int) -> int | None:
    """Length of the longest history; None where they are not well formed, or there are no loops to say so."""
    loops = compiled()
    if loops is None or not rows.is_cpu:
        return None
    found = int(loops.longest_history(array(rows), array(offsets, torch.int64), n_rows))
    return None if found < 0 else found


def search(
    query: Float[Tensor, "b t d"],
    keys: Table,
    rows: Int[Tensor, " e"],
    offsets: Int[Tensor, " b+1"],
    k: int,
    recency_bias: Float[Tensor, " p"] | None,
) -> tuple[Float[Tensor, "b t k"], Int64[Tensor, "b t k"]]:
    """Scores and positions of the k best behaviours, in the reference's order.

    Raises ValueError where rows or offsets do not fit, as `ragged.longest_history` does.
    """
    shape = (*query.shape[:2], k)
    scores, positions = np.empty(shape, np.int32), np.empty(shape, np.int64)
    bias = NO_NUMBERS if recency_bias is None else array(recency_bias, torch.float32)
    wanted, borders = array(query, torch.float32), array(offsets, torch.int64)
    taken = stored(keys, rows)
    if taken is not None:
        found = _search_rows(wanted, *taken, borders, bias, scores, positions)
    else:
        found = longest_history(rows, offsets, keys.shape[0])
        for b0, b1 in ranges(offsets.diff(), 1 + len(rows) // _GATHERED) if found is not None else []:
            begin, end = int(borders[b0]), int(borders[b1])
            gathered = array(gather_rows(keys, rows[begin:end]), torch.float32)
            own, here = np.arange(end - begin, dtype=np.int32), borders[b0 : b1 + 1] - begin
            _search_rows(wanted[b0:b1], gathered, NO_NUMBERS, own, here, bias, scores[b0:b1], positions[b0:b1])
    if found is None:
        ragged.longest_history(rows, offsets, keys.shape[0])
    return torch.from_numpy(scores.view(np.float32)), torch.from_numpy(positions)


def attend_found(
    scores: Float[Tensor, "b t k"],
    positions: Int64[Tensor, "b t k"],
    values: Table,
    rows: Int[Tensor, " n"],
    offsets: Int[Tensor, " b_and_one"],
    recency_values: Float[Tensor, "q r"] | None,
) -> tuple[Float[Tensor, "b t e_r"], Float[Tensor, "b t k"]]:
    """Output and weights of the found behaviours by the scores that they were found with; `values` must be stored as
    `is_stored` says."""
    beside = NO_VALUES if recency_values is None else array(recency_values, torch.float32)
    batch, targets, k = scores.shape
    output = np.empty((batch, targets, values.shape[1] + beside.shape[1]), np.float32)
    weights = np.empty((batch, targets, k), np.float32)
    taken = stored(values, rows)
    assert taken is not None, "callers ask is_stored first"
    call = (
        array(scores).reshape(-1),
        array(positions).reshape(-1),
        *taken,
        array(offsets, torch.int64),
        beside,
        targets,
        output.reshape(-1),
        weights.reshape(-1),
    )
    run_shares(needed().attend_found, call, shares(None, batch, targets, scores.numel() * (output.shape[2] + READING)))
    return torch.from_numpy(output), torch.from_numpy(weights)


def is_plain(table: Table) -> TypeGuard[Tensor]:
    """Whether `table` is fp32, one row behind the other, as the loops with gradients take it."""
    return isinstance(table, Tensor) and table.dtype == torch.float32 and table.is_contiguous()


def array(tensor: Tensor, dtype: torch.dtype | None = None) -> Any:
    """`tensor` as a contiguous array of `dtype`, without a copy where it is one."""
    if dtype is not None and tensor.dtype != dtype:
        tensor = tensor.to(dtype)
    if tensor.requires_grad:
        tensor = tensor.detach()
    found = tensor.numpy()
    return found if found.flags.c_contiguous else np.ascontiguousarray(found)


def is_stored(table: Table) -> bool:
    """Whether the search and what pools what it keeps read `table` as it is stored: fp32, fp16 or int8 rows, one behind
    the other."""
    rows = table.rows if isinstance(table, ScaledTable) else table
    return rows.is_contiguous() and rows.dtype in (torch.float32, torch.float16, torch.int8)


def stored(table: Table, rows: Tensor) -> tuple[Any, Any, Any] | None:
    """A table as the loops read it, its scales, and `rows`; None for one whose rows must become fp32 first."""
    if is_plain(table):
        return array(table), NO_NUMBERS, array(rows)
    if not is_stored(table):
        return None
    if isinstance(table, ScaledTable):
        return array(table.rows), array(table.scales, torch.float32), array(rows, torch.int32)
    return array(table).view(np.uint16), NO_NUMBERS, array(rows, torch.int32)


def _search_rows(
    query: Any, table: Any, scales: Any, rows: Any, offsets: Any, bias: Any, scores: Any, positions: Any
) -> int | None:
    """Length of the longest history; None where the histories are not well formed, and nothing is done then."""
    loops = needed()
    call = (query, table, scales, rows, offsets, bias, scores, positions)
    batch, targets, d = query.shape
    # Products that stay in registers take half as long as others, beside which rows take twice as long to read.
    parts = shares(offsets, batch, targets, len(rows) * (targets * d // 2 + 2 * READING))
    if len(parts) == 1:
        found = loops.search(*call, _scratch(targets, call), True, *parts[0])
    else:
        found = loops.longest_history(rows, offsets, len(table))
        if found >= 0:
            run_all([partial(_search_share, call, share) for share in parts])
    return None if found < 0 else found


def _search_share(call: tuple[Any, ...], share: tuple[int, int, int, int]) -> None:
    loops = needed()
    loops.search(*call, _scratch(share[3] - share[2], call), False, *share)


def _scratch(targets: int, call: tuple[Any, ...]) -> Any:
    """Scratch of this thread's own, kept from call to call: fresh memory would cost a page fault every 4 KB."""
    query, scores = call[0], call[6]
    size = needed().scratch(targets, scores.shape[2], query.shape[2])
    if _mine.numbers.size < size:
        _mine.numbers = np.empty(size, np.float32)
    return _mine.numbers
