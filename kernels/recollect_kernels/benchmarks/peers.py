"""What people use instead of the ops, each written as fast as its library allows.

All of them may rely on what the ops may not: that histories are equally long, so that no padding is needed. None of
them orders ties or NaN.
"""

from typing import Any

import torch
from torch import Tensor

from recollect_kernels.tables import ScaledTable, Table


def torch_rows(table: Table, ids: Tensor) -> Tensor:
    """Rows of `table` at `ids`, [*ids, width] in fp32; `index_select` is the fastest gather torch has on a CPU."""
    flat = ids.flatten()
    if isinstance(table, ScaledTable):
        rows, scales = table
        # Of the one-byte types, index_select knows int8 alone.
        gathered = rows.view(torch.int8).index_select(0, flat).view(rows.dtype).float()
        gathered = gathered * scales.index_select(0, flat).unsqueeze(1)
    else:
        gathered = table.index_select(0, flat).float()
    return gathered.view(*ids.shape, table.shape[1])


def torch_search(
    query: Tensor, keys: Table, rows: Tensor, recency_bias: Tensor, recency: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """Gather, bmm and topk: scores and positions, [B, T, k] each.

    On a GPU, half-precision rows are multiplied as they are, with fp32 results.
    """
    batch = len(query)
    bias = recency_bias.index_select(0, recency)  # [L]
    if isinstance(keys, Tensor) and keys.is_cuda and keys.dtype in (torch.float16, torch.bfloat16):
        behaviours = keys.index_select(0, rows).view(batch, -1, query.shape[2])
        scores = torch.bmm(query.to(keys.dtype), behaviours.transpose(1, 2), out_dtype=torch.float32) + bias
    else:
        behaviours = torch_rows(keys, rows.view(batch, -1))  # [B, L, d]
        scores = torch.baddbmm(bias, query, behaviours.transpose(1, 2))  # [B, T, L]
    best = scores.topk(k)
    return best.values, best.indices


def torch_search_and_attend(
    query: Tensor, keys: Table, values: Table, rows: Tensor, recency_bias: Tensor, recency: Tensor, k: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The search, then softmax of its scores, a gather of the kept values and bmm: output [B, T, e], scores,
    positions and weights."""
    scores, positions = torch_search(query, keys, rows, recency_bias, recency, k)
    weights = scores.softmax(-1)
    return _pool(weights, values, _rows_at(rows, positions)), scores, positions, weights


def torch_attend(
    query: Tensor, keys: Table, values: Table, rows: Tensor, positions: Tensor, recency_bias: Tensor, recency: Tensor
) -> tuple[Tensor, Tensor]:
    """Gather of the kept rows, bmm, softmax, bmm: output [B, T, e] and weights [B, T, k]; differentiable."""
    found = _rows_at(rows, positions)  # [B, T, k]
    kept = torch_rows(keys, found)  # [B, T, k, d]
    bias = recency_bias.index_select(0, recency.index_select(0, positions.flatten()))
    scores = (kept @ query.unsqueeze(3)).squeeze(3) + bias.view(positions.shape)
    weights = scores.softmax(-1)
    return _pool(weights, values, found), weights


def torch_attend_all(
    query: Tensor, keys: Table, values: Table, rows: Tensor, recency_bias: Tensor, recency: Tensor
) -> Tensor:
    """Gather of the whole history, bmm, softmax, bmm: output [B, T, e]; differentiable."""
    history = rows.view(len(query), -1)
    scores = torch.baddbmm(
        recency_bias.index_select(0, recency), query, torch_rows(keys, history).transpose(1, 2)
    )  # [B, T, L]
    return torch.bmm(scores.softmax(-1), torch_rows(values, history))


def _rows_at(rows: Tensor, positions: Tensor) -> Tensor:
    return rows.view(len(positions), -1).gather(1, positions.flatten(1)).view(positions.shape)


def _pool(weights: Tensor, values: Table, found: Tensor) -> Tensor:
    return (weights.unsqueeze(2) @ torch_rows(values, found)).squeeze(2)


def numpy_rows(table: Table, ids: Any) -> Any:
    """Rows of a table at `ids`, [n, width] in fp32."""
    if isinstance(table, ScaledTable):
        return table.rows.numpy()[ids].astype("float32") * table.scales.numpy()[ids, None]
    return table.numpy()[ids].astype("float32", copy=False)


def numpy_search(
    query: Tensor, keys: Table, rows: Tensor, recency_bias: Tensor, recency: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """As `torch_search` by a matrix product and `argpartition`, whose k best are sorted; numpy sets its own threads."""
    import numpy as np

    batch, _, d = query.shape
    behaviours = numpy_rows(keys, rows.numpy()).reshape(batch, -1, d)
    scores = query.numpy() @ behaviours.transpose(0, 2, 1)
    scores += recency_bias.numpy()[recency.numpy()]
    best = np.argpartition(scores, scores.shape[2] - k, axis=2)[..., -k:]
    found = np.take_along_axis(scores, best, axis=2)
    order = np.argsort(-found, axis=2)
    return (
        torch.from_numpy(np.take_along_axis(found, order, axis=2)),
        torch.from_numpy(np.take_along_axis(best, order, axis=2)),
    )


def faiss_search(
    faiss: Any, query: Tensor, keys: Table, rows: Tensor, recency_bias: Tensor, recency: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """As `torch_search` by `faiss.knn`, history by history, since it takes one at a time.

    The bias is one more feature of each behaviour, to which each target has 1. `faiss` is the module.
    """
    import numpy as np

    batch, targets, d = query.shape
    wanted = np.ones((batch, targets, d + 1), dtype="float32")
    wanted[..., :d] = query.numpy()
    behaviours = np.empty((len(recency), d + 1), dtype="float32")
    behaviours[:, d] = recency_bias.numpy()[recency.numpy()]
    scores = np.empty((batch, targets, k), dtype="float32")
    positions = np.empty((batch, targets, k), dtype="int64")
    for b, history in enumerate(rows.numpy().reshape(batch, -1)):
        behaviours[:, :d] = numpy_rows(keys, history)
        scores[b], positions[b] = faiss.knn(wanted[b], behaviours, k, metric=faiss.METRIC_INNER_PRODUCT)
    return torch.from_numpy(scores), torch.from_numpy(positions)
