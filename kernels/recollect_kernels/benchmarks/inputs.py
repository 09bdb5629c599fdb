"""Tables, histories and targets of a shape: the same on every run, and cold in the caches as a server finds them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from recollect_kernels.benchmarks.shapes import Shape
from recollect_kernels.tables import ScaledTable, Table, quantize_rows

RECENCIES = 200
"""P, entries of the recency bias."""
_COLD_BYTES = 1 << 27
"""What all sets of histories together touch at least, where that takes no more than `_MOST_SETS`: more than a cache."""
_MOST_SETS = 256
_CACHE_LINE = 64
_SCALED = {"int8": torch.int8, "float8": torch.float8_e4m3fn}
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """Arguments of the ops at one shape. All histories are equally long, which peers may rely on.

    There are several sets of histories, and each call takes the next: one set over and over would be timed out of the
    cache, where no request finds its history.
    """

    shape: Shape
    query: Tensor
    """[B, T, d] fp32, of values that the tables' floating point type holds exactly, so that peers may round it."""
    keys: Table
    """[V, d]."""
    values: Table
    """[V, e]."""
    recency_bias: Tensor
    """[P] fp32."""
    offsets: Tensor
    """[B + 1] int64."""
    rows: tuple[Tensor, ...]
    """Each [B·L] int32, drawn uniformly: no popular row is ever near by chance."""
    positions: tuple[Tensor, ...]
    """Each [B, T, k] int64, one from each of k equal stretches of the history, in any order."""
    recency: Tensor
    """[L] int64: entry of the recency bias for each behaviour."""


def make_inputs(shape: Shape, device: str) -> Inputs:
    """Draw the inputs of `shape`; ValueError where its k is above its length, which few peers can do."""
    if shape.k > shape.length:
        raise ValueError(f"a benchmark's k must be at most the length of its histories, got {shape.k} > {shape.length}")
    generator = torch.Generator().manual_seed(0)
    dtype = _DTYPES.get(shape.table, torch.float32)
    scale = shape.d**-0.5  # as a model scales it: a score then has about the size of its bias
    query = (torch.randn(shape.b, shape.t, shape.d, generator=generator) * scale).to(dtype).float()
    sets = min(_MOST_SETS, -(-_COLD_BYTES // (shape.b * shape.length * _CACHE_LINE)))
    return Inputs(
        shape=shape,
        query=query.to(device),
        keys=_table(shape, shape.d, generator, device),
        values=_table(shape, shape.e, generator, device),
        recency_bias=torch.randn(RECENCIES, generator=generator).to(device),
        offsets=(torch.arange(shape.b + 1) * shape.length).to(device),
        rows=tuple(_rows(shape, generator).to(device) for _ in range(sets)),
        positions=tuple(_positions(shape, generator).to(device) for _ in range(sets)),
        recency=torch.arange(shape.length - 1, -1, -1).clamp(max=RECENCIES - 1).to(device),
    )


def _table(shape: Shape, width: int, generator: torch.Generator, device: str) -> Table:
    table = torch.randn(shape.vocabulary, width, generator=generator)
    if shape.table in _SCALED:
        return ScaledTable(*(part.to(device) for part in quantize_rows(table, _SCALED[shape.table])))
    return table.to(_DTYPES[shape.table]).to(device)


def _rows(shape: Shape, generator: torch.Generator) -> Tensor:
    return torch.randint(0, shape.vocabulary, (shape.b * shape.length,), generator=generator, dtype=torch.int32)


def _positions(shape: Shape, generator: torch.Generator) -> Tensor:
    edges = torch.arange(shape.k + 1) * shape.length // shape.k
    within = torch.rand(shape.b, shape.t, shape.k, generator=generator) * edges.diff()
    drawn = edges[:-1] + within.long()
    return drawn[..., torch.randperm(shape.k, generator=generator)]
