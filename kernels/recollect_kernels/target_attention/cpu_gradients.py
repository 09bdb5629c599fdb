"""Gradients of the pooling on a CPU, by compiled loops: the same bit for bit for any number of threads."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recollect_kernels import loops
from recollect_kernels.loops import NO_NUMBERS, NO_VALUES
from recollect_kernels.threads import READING, parts_of, ranges, run_parts

_PARTS = 32
"""Ranges of histories whose sums for the recency tables are made apart and then added, whoever makes them."""
_HELD = 1 << 22
"""Weights of whole histories, and as many slopes, that the backward pass holds at once: 32 MB."""


class Gradients:
    """Those of query, keys, values, recency bias and recency values that `needs` has true, which begin as 0."""

    def __init__(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        recency_bias: Tensor | None,
        recency_values: Tensor | None,
        needs: tuple[bool, ...],
    ) -> None:
        self._needs = needs
        self._shape = query.shape
        self._arguments = (loops.array(query).reshape(-1), loops.array(keys), loops.array(values))
        self._bias = NO_NUMBERS if recency_bias is None else loops.array(recency_bias)
        self._beside = NO_VALUES if recency_values is None else loops.array(recency_values)
        self._of_query = np.zeros(query.numel() if needs[0] else 0, np.float32)
        self._of_bias = np.zeros(self._bias.shape, np.float32)
        self._of_beside = np.zeros(self._beside.shape, np.float32)
        self._of_tables: tuple[Any, Any] | None = None
        self.width = values.shape[1] + self._beside.shape[1]

    def add_kept(
        self,
        rows: Tensor,
        offsets: Tensor,
        positions: Tensor,
        weights: Tensor,
        of_output: Tensor,
        of_weights: Tensor | None,
    ) -> None:
        """Add what reaches the arguments through pooled behaviours at `positions`."""
        batch, targets, _ = positions.shape
        count = positions.numel()
        history = loops.array(rows, torch.int32), loops.array(offsets, torch.int64)
        pooled = loops.array(positions).reshape(-1), self._beside, targets, loops.array(weights).reshape(-1)
        gradient = loops.array(of_output).reshape(-1)
        given = (gradient, NO_NUMBERS if of_weights is None else loops.array(of_weights).reshape(-1))
        borders = _borders(torch.ones(batch))
        held = count if self._learns_tables else 0
        coefficients = np.empty((held, 2), np.float32)
        owners, found = np.empty(held, np.int32), np.empty(held, np.int32)
        loop = partial(
            loops.needed().attend_kept_backward,
            *(*self._arguments[1:], *history, *pooled, *given, borders),
            *(self._of_query, coefficients, owners, found),
        )
        self._sum_parts(loop, len(borders) - 1, count)
        if self._learns_tables:
            self._sum_rows(found, coefficients, owners, gradient)

    def add_all(self, rows: Tensor, offsets: Tensor, output: Tensor, norms: Tensor, of_output: Tensor) -> None:
        """Add what reaches the arguments through whole histories."""
        targets = self._shape[1]
        behaviours, ends = loops.array(rows, torch.int32), loops.array(offsets, torch.int64)
        gradient = loops.array(of_output).reshape(-1)
        results = loops.array(output).reshape(-1), loops.array(norms).reshape(-1), gradient
        lengths = torch.from_numpy(np.diff(ends))
        step = max(1, min(targets, _HELD // max(1, int(lengths.max()))))
        for b0, b1 in _held(ends, step):
            here = behaviours[ends[b0] : ends[b1]]
            borders = _borders(lengths[b0:b1] + 1) + b0
            for t0 in range(0, targets, step):
                t1 = min(targets, t0 + step)
                held = len(here) if self._learns_tables else 0
                coefficients, owners = np.empty((held, 2 * (t1 - t0)), np.float32), np.empty(held, np.int32)
                loop = partial(
                    loops.needed().attend_all_backward,
                    *(*self._arguments, behaviours, ends, self._bias, self._beside, targets, *results),
                    *(t0, t1, borders, self._of_query, coefficients, owners),
                )
                self._sum_parts(loop, len(borders) - 1, len(here) * (t1 - t0))
                if self._learns_tables:
                    self._sum_rows(here, coefficients, owners, gradient)

    def tensors(self) -> tuple[Tensor | None, ...]:
        """Gradients of query, keys, values, recency bias and recency values; None where none is needed."""
        if self._of_tables is None:
            self._of_tables = self._tables(np.zeros)
        of_query = self._of_query.reshape(self._shape) if self._needs[0] else None
        arrays = (of_query, *self._of_tables, self._of_bias, self._of_beside)
        return tuple(torch.from_numpy(x) if need else None for x, need in zip(arrays, self._needs, strict=True))

    @property
    def _learns_tables(self) -> bool:
        return self._needs[1] or self._needs[2]

    def _tables(self, make: Callable[..., Any]) -> tuple[Any, Any]:
        """Arrays for the gradients of both tables, without columns where none is needed."""
        _, *tables = self._arguments
        of_keys, of_values = (
            make((len(table), table.shape[1] if need else 0), np.float32)
            for table, need in zip(tables, self._needs[1:3], strict=True)
        )
        return of_keys, of_values

    def _sum_parts(self, loop: Callable[..., None], parts: int, pairs: int) -> None:
        """Let threads share the ranges of histories, and add their sums for the recency tables in turn."""
        of_bias = np.zeros((parts, len(self._bias)) if self._needs[3] else (0, 0), np.float32)
        of_beside = np.zeros((parts, *self._beside.shape) if self._needs[4] else (0, 0, 0), np.float32)
        cost = pairs * (self._shape[2] + self.width + READING)
        run_parts(loop, (of_bias, of_beside), parts_of(cost, parts))
        self._of_bias += of_bias.sum(0) if self._needs[3] else 0
        self._of_beside += of_beside.sum(0) if self._needs[4] else 0

    def _sum_rows(self, rows: Any, coefficients: Any, owners: Any, of_output: Any) -> None:
        """Add to the gradients of both tables what the occurrences of `rows` bring."""
        query, keys, _ = self._arguments
        starts = np.zeros(len(keys) + 2, np.int64)
        order, ordered_owners = np.empty(len(rows), np.int32), np.empty(len(rows), np.int32)
        loops.needed().group(rows, owners, starts, order, ordered_owners)
        added = self._of_tables is not None
        if self._of_tables is None:
            self._of_tables = self._tables(np.empty)
        grouped = coefficients, starts, order, ordered_owners
        loop = partial(loops.needed().sum_rows, *grouped, query, of_output, self.width, added, *self._of_tables)
        columns = sum(table.shape[1] for table in self._of_tables)
        cost = len(rows) * (coefficients.shape[1] // 2 * columns + READING)
        run_parts(loop, (), parts_of(cost, len(keys)))


def _borders(weights: Tensor) -> Any:
    """Where each of the ranges of histories begins, and the last ends: the same for any number of threads."""
    cut = ranges(weights, _PARTS)
    return np.array([0, *(end for _, end in cut)], np.int64)


def _held(ends: Any, targets: int) -> list[tuple[int, int]]:
    """Cut histories into ranges whose weights for so many targets are held at once."""
    borders = [0]
    while borders[-1] < len(ends) - 1:
        reach = np.searchsorted(ends, ends[borders[-1]] + _HELD // targets, side="right") - 1
        borders.append(max(int(reach), borders[-1] + 1))
    return list(pairwise(borders))
