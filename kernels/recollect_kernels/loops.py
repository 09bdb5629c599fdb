"""Hand tensors to the compiled loops, a share of them to each thread; without numba there are none."""

from collections.abc import Callable
from functools import cache, partial
from itertools import pairwise
from types import ModuleType
from typing import TypeGuard

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from recollect_kernels.tables import Table, gather_rows
from recollect_kernels.threads import ranges, run_all

_SHARED_FROM = 1 << 21
"""Multiplications from which threads share a call: some 100 µs of work, a few times what waking them costs."""
_READING = 64
"""Multiplications that take as long as it takes to read a row."""
_TARGETS_A_SHARE = 16
"""Targets for which a thread gathers a history that others gather as well."""
_GATHERED = 1 << 18
"""Behaviours whose rows are held in fp32 at once where the table is not."""


@cache
def compiled() -> ModuleType | None:
    """The loops, compiled or read from numba's cache; None where numba is not installed."""
    try:
        import numba  # noqa: F401
    except ImportError:
        return None
    from recollect_kernels import compiled_loops

    return compiled_loops


def search(
    query: Float[Tensor, "b t d"],
    keys: Table,
    rows: Int[Tensor, " e"],
    offsets: Int[Tensor, " b+1"],
    k: int,
    recency_bias: Float[Tensor, " p"] | None,
) -> tuple[Float[Tensor, "b t k"], Int64[Tensor, "b t k"]]:
    """Scores and positions of the k best behaviours, in the reference's order. Row ids are not checked."""
    shape = (*query.shape[:2], k)
    scores, positions = torch.empty(shape), torch.empty(shape, dtype=torch.int64)
    bias = torch.empty(0) if recency_bias is None else recency_bias.detach().float().contiguous()
    query, offsets = query.detach().float().contiguous(), offsets.long().contiguous()
    if is_plain(keys):
        _search_rows(query, keys.detach(), rows.contiguous(), offsets, bias, scores, positions)
        return scores, positions
    for b0, b1 in ranges(offsets.diff(), 1 + len(rows) // _GATHERED):
        begin, end = int(offsets[b0]), int(offsets[b1])
        gathered = gather_rows(keys, rows[begin:end]).detach().float().contiguous()
        own = torch.arange(end - begin, dtype=torch.int32)
        part = slice(b0, b1)
        here = offsets[b0 : b1 + 1] - begin
        _search_rows(query[part], gathered, own, here, bias, scores[part], positions[part])
    return scores, positions


def attend(
    scores: Float[Tensor, "b t k"],
    positions: Int64[Tensor, "b t k"],
    values: Float[Tensor, "v e"],
    rows: Int[Tensor, " n"],
    offsets: Int[Tensor, " b_and_one"],
    recency_values: Float[Tensor, "q r"] | None,
) -> tuple[Float[Tensor, "b t e_r"], Float[Tensor, "b t k"]]:
    """Output and weights of the found behaviours by the scores that they were found with."""
    beside = torch.empty(1, 0) if recency_values is None else recency_values.detach().float().contiguous()
    output = torch.empty(*scores.shape[:2], values.shape[1] + beside.shape[1])
    weights = torch.empty_like(scores)
    tensors = (scores, positions, values.detach(), rows.contiguous(), offsets.long().contiguous(), beside)
    arrays = [tensor.numpy() for tensor in tensors]
    filled = (output.numpy(), weights.numpy())
    loop = _loops().attend
    run_all(
        [
            partial(loop, *arrays, *share, *filled)
            for share in _shares(torch.full((len(scores),), scores.shape[2]), scores.shape[1], output.shape[2])
        ]
    )
    return output, weights


def is_plain(table: Table) -> TypeGuard[Tensor]:
    """Whether the loops read `table` as it stands; `attend` takes no other."""
    return isinstance(table, Tensor) and table.dtype == torch.float32 and table.is_contiguous()


def _search_rows(
    query: Tensor, table: Tensor, rows: Tensor, offsets: Tensor, bias: Tensor, scores: Tensor, positions: Tensor
) -> None:
    arrays = [tensor.numpy() for tensor in (query, table, rows, offsets, bias)]
    filled = (scores.view(torch.int32).numpy(), positions.numpy())
    loop = _loops().search
    shares = _shares(offsets.diff(), query.shape[1], query.shape[2])
    tasks: list[Callable[[], None]] = [partial(loop, *arrays, *share, *filled) for share in shares]
    run_all(tasks)


def _shares(lengths: Int[Tensor, " b"], targets: int, width: int) -> list[tuple[int, int, int, int]]:
    """Histories b0 … b1 and targets t0 … t1 of each thread."""
    threads = torch.get_num_threads()
    whole = (0, len(lengths), 0, targets)
    if threads == 1 or int(lengths.sum()) * (targets * width + _READING) < _SHARED_FROM:
        return [whole]
    if len(lengths) >= 2 * threads or targets < 2 * _TARGETS_A_SHARE:
        return [(b0, b1, 0, targets) for b0, b1 in ranges(lengths + 1, threads)]
    parts = min(threads, targets // _TARGETS_A_SHARE)
    borders = [round(part * targets / parts / 4) * 4 for part in range(parts)] + [targets]
    return [(0, len(lengths), t0, t1) for t0, t1 in pairwise(borders)]


def _loops() -> ModuleType:
    loops = compiled()
    assert loops is not None, "the caller has asked for the loops before"
    return loops
