"""Hand tensors to the compiled loops; without numba there are none.

Calls of one target in a short history last some microseconds, so nothing is converted that is as it should be, and what
they take and give is told by its address: arrays of numpy would take longer to make than such a history to search.
"""

import threading
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple, TypeGuard

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from recollect_kernels import ragged
from recollect_kernels.tables import ScaledTable, Table, gather_rows
from recollect_kernels.threads import POOLING, READING, parts_of, plan, ranges, run_parts


def floats(*shape: int) -> Tensor:
    """Room for numbers in fp32, which begins on a cache line, whatever torch's defaults are."""
    return torch.empty(shape, dtype=torch.float32, device="cpu")


_GATHERED = 1 << 18
"""Behaviours whose rows are held in fp32 at once where the table is not."""
_KINDS = {
    (torch.float32, torch.int32): (np.empty(0, np.float32), np.empty(0, np.int32)),
    (torch.float32, torch.int64): (np.empty(0, np.float32), np.empty(0, np.int64)),
    (torch.float16, torch.int32): (np.empty(0, np.uint16), np.empty(0, np.int32)),
    (torch.int8, torch.int32): (np.empty(0, np.int8), np.empty(0, np.int32)),
}
"""Arrays of no size that tell the loops the types of a table's numbers and of the rows that name its rows."""


class _OfThread(threading.local):
    numbers = floats(0)


_mine = _OfThread()

NO_NUMBERS = np.empty(0, np.float32)
"""What stands for a vector that is not given."""
NO_VALUES = np.empty((1, 0), np.float32)
"""What stands for recency values that are not given."""
NO_TENSOR = floats(0)
"""What stands for what is not given where addresses are."""


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
    scores, positions = _fresh(shape, np.float32), _fresh(shape, np.int64)
    query, offsets = plain(query, torch.float32), plain(offsets, torch.int64)
    bias = NO_TENSOR if recency_bias is None else plain(recency_bias, torch.float32)
    taken = stored(keys, rows)
    if taken is not None:
        found = _search_rows(query, taken, offsets, bias, scores, positions)
    else:
        found = longest_history(rows, offsets, keys.shape[0])
        for b0, b1 in ranges(offsets.diff(), 1 + len(rows) // _GATHERED) if found is not None else []:
            here = rows[offsets[b0] : offsets[b1]]
            gathered = stored(gather_rows(keys, here), torch.arange(len(here), dtype=torch.int32, device="cpu"))
            assert gathered is not None, "rows are gathered in fp32"
            own = offsets[b0 : b1 + 1] - offsets[b0]
            _search_rows(query[b0:b1], gathered, own, bias, scores[b0:b1], positions[b0:b1])
    if found is None:
        ragged.longest_history(rows, offsets, keys.shape[0])
    return scores, positions


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
    taken = stored(values, rows)
    assert taken is not None, "callers ask is_stored first"
    beside, n_beside, r = recency_table(recency_values)
    offsets = plain(offsets, torch.int64)
    n_rows, e = taken.table.shape
    batch, targets, k = scores.shape
    output, weights = floats(batch, targets, e + r), floats(batch, targets, k)
    call = (
        *(*taken.kinds, scores.data_ptr(), positions.data_ptr(), taken.table.data_ptr(), taken.scales.data_ptr()),
        *(taken.rows.data_ptr(), offsets.data_ptr(), beside.data_ptr(), output.data_ptr(), weights.data_ptr()),
        *(batch, targets, e, r, k, n_rows, taken.rows.numel(), n_beside, taken.is_scaled),
    )
    run_parts(needed().attend_found, call, parts_of(scores.numel() * (e + r + POOLING), batch * targets))
    return output, weights


def is_plain(table: Table) -> TypeGuard[Tensor]:
    """Whether `table` is fp32, one row behind the other, as the loops with gradients take it."""
    return isinstance(table, Tensor) and table.dtype == torch.float32 and table.is_contiguous()


def plain(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """`tensor` in that type and contiguous, without a copy where it is."""
    if tensor.dtype != dtype:
        tensor = tensor.to(dtype)
    return tensor if tensor.is_contiguous() else tensor.contiguous()


def array(tensor: Tensor, dtype: torch.dtype | None = None) -> Any:
    """`tensor` as a contiguous array of `dtype`, without a copy where it is one."""
    return plain(tensor, dtype or tensor.dtype).detach().numpy()


def is_stored(table: Table) -> bool:
    """Whether the search and what pools what it keeps read `table` as it is stored: fp32, fp16 or int8 rows, one behind
    the other."""
    rows = table.rows if isinstance(table, ScaledTable) else table
    return rows.is_contiguous() and rows.dtype in (torch.float32, torch.float16, torch.int8)


class Stored(NamedTuple):
    """A table as the loops read it, with the rows that histories name."""

    table: Tensor
    scales: Tensor
    """[V] where it is scaled."""
    is_scaled: bool
    rows: Tensor
    kinds: tuple[Any, Any]
    """What tells the loops the types of both."""


def stored(table: Table, rows: Tensor) -> Stored | None:
    """What the loops take of a table and of the rows that histories name; None for one that must become fp32 first."""
    if not is_stored(table):
        return None
    if isinstance(table, ScaledTable):
        numbers, scales, scaled = table.rows, plain(table.scales, torch.float32), True
    else:
        numbers, scales, scaled = table, NO_TENSOR, False
    kinds = _KINDS.get((numbers.dtype, rows.dtype))
    if kinds is None:
        # What int32 does not hold is in no table, and must not come to be a row of one.
        rows = rows.clamp(-1, torch.iinfo(torch.int32).max).to(torch.int32)
        kinds = _KINDS[numbers.dtype, torch.int32]
    return Stored(numbers, scales, scaled, plain(rows, rows.dtype), kinds)


def recency_table(recency_values: Tensor | None) -> tuple[Tensor, int, int]:
    """Recency values [P, r] as the loops take them, P and r; r is 0 where there are none."""
    if recency_values is None:
        return NO_TENSOR, 1, 0
    return plain(recency_values, torch.float32), *recency_values.shape


def _fresh(shape: tuple[int, ...], dtype: type[np.generic]) -> Tensor:
    """Room that takes half as long to make as `floats`, and begins anywhere."""
    return torch.from_numpy(np.empty(shape, dtype))


def _search_rows(
    query: Tensor, taken: Stored, offsets: Tensor, bias: Tensor, scores: Tensor, positions: Tensor
) -> int | None:
    """Length of the longest history; None where the histories are not well formed, and nothing is done then."""
    loops = needed()
    batch, targets, d = query.shape
    k, n_rows, behaviours = scores.shape[2], taken.table.shape[0], taken.rows.numel()
    # Products that stay in registers take half as long as others, beside which rows take twice as long to read.
    by, parts = plan(batch, targets, behaviours * (targets * d // 2 + 2 * READING), behaviours=True)
    numbers = _scratch(parts * loops.scratch(targets, k, d) if targets > 1 else 0)
    call = (
        *(*taken.kinds, query.data_ptr(), taken.table.data_ptr(), taken.scales.data_ptr(), taken.rows.data_ptr()),
        *(offsets.data_ptr(), bias.data_ptr(), scores.data_ptr(), positions.data_ptr(), numbers.data_ptr()),
        *(batch, targets, d, k, n_rows, behaviours, bias.numel(), taken.is_scaled, by),
    )
    found = int(run_parts(loops.search, call, parts))
    return None if found < 0 else found


def _scratch(size: int) -> Tensor:
    """Scratch of this thread's own, kept from call to call: fresh memory would cost a page fault every 4 KB."""
    if _mine.numbers.numel() < size:
        _mine.numbers = floats(size)
    return _mine.numbers
