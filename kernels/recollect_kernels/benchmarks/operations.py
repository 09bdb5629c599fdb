"""The ops as they are measured: what is called, what it is compared to, and the work that it cannot avoid.

On a CPU the ops check row ids, as torch's gather does; on a GPU they are told the longest history instead, and nothing
waits for the device, as nothing does in torch's gather there. Recency values are left out everywhere.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from recollect_kernels import (
    AttentionResult,
    Backend,
    ScaledTable,
    Table,
    behavior_search,
    search_and_attend,
    target_attention,
)
from recollect_kernels.benchmarks import peers
from recollect_kernels.benchmarks.agreement import POOLED_TOLERANCE, check_attention, check_close, check_search
from recollect_kernels.benchmarks.floors import Work
from recollect_kernels.benchmarks.inputs import RECENCIES, Inputs
from recollect_kernels.benchmarks.shapes import Shape
from recollect_kernels.benchmarks.timing import Call

ON_CPU_ALONE = "it computes on the CPU"


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One op at one shape."""

    ours: Call
    peers: dict[str, Call]
    """By name; `torch` is always there. Results have the form of ours."""
    left_out: dict[str, str]
    """Peers that cannot take part, and why."""
    check: Callable[[Any], None]
    """Raises WrongResultError unless a result of turn 0 is the reference's."""
    work: Work
    k: int
    """Behaviours pooled or kept."""
    gradients: bool = False
    """Whether gradients are part of what is measured."""


def search_case(inputs: Inputs, backend: Backend) -> Case:
    """`behavior_search` beside gather, bmm and topk, and what numpy and FAISS offer for it."""
    shape, options = inputs.shape, _options(inputs)

    def search(turn: int, backend: Backend) -> tuple[Tensor, Tensor]:
        return behavior_search(
            inputs.query, inputs.keys, _at(inputs.rows, turn), inputs.offsets, k=shape.k, backend=backend, **options
        )

    def peer(function: Callable[..., object], turn: int) -> object:
        rows = _at(inputs.rows, turn)
        return function(inputs.query, inputs.keys, rows, inputs.recency_bias, inputs.recency, shape.k)

    expected = cache(partial(search, 0, "reference"))
    found, left_out = _torch_peers(inputs, peers.torch_search, peer)
    numpy_left_out = _why_not_numpy(inputs)
    if numpy_left_out is None:
        found["numpy"] = partial(peer, peers.numpy_search)
    else:
        left_out["numpy"] = numpy_left_out
    faiss_left_out = numpy_left_out or ("FAISS is not installed" if find_spec("faiss") is None else None)
    if faiss_left_out is None:
        # Optional and without types, so it is not imported by name.
        found["faiss"] = partial(peer, partial(peers.faiss_search, import_module("faiss")))
    else:
        left_out["faiss"] = faiss_left_out
    histories = shape.b * shape.length
    results = shape.b * shape.t * shape.k
    return Case(
        ours=partial(search, backend=backend),
        peers=found,
        left_out=left_out,
        check=lambda result: check_search(inputs, result, expected()),
        work=Work(
            gathered=_row_reads(inputs.keys, histories),
            streamed=_always_read(shape) + 4 * histories + (4 + 8) * results,
            operations=2 * shape.t * histories * shape.d,
        ),
        k=shape.k,
    )


def search_and_attend_case(inputs: Inputs, backend: Backend) -> Case:
    """`search_and_attend` beside torch's search, gather, softmax and bmm."""
    shape, options = inputs.shape, _options(inputs)
    tables = inputs.keys, inputs.values

    def ours(turn: int) -> tuple[Tensor, ...]:
        rows = _at(inputs.rows, turn)
        return search_and_attend(inputs.query, *tables, rows, inputs.offsets, k=shape.k, backend=backend, **options)

    def peer(function: Callable[..., object], turn: int) -> object:
        rows = _at(inputs.rows, turn)
        return function(inputs.query, *tables, rows, inputs.recency_bias, inputs.recency, shape.k)

    search = search_case(inputs, backend)

    def check(result: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
        output, scores, positions, weights = result
        search.check((scores, positions))
        # At the result's own positions: behaviours of equal scores may have taken each other's place.
        expected = target_attention(
            inputs.query,
            *tables,
            inputs.rows[0],
            inputs.offsets,
            positions=positions,
            recency_bias=inputs.recency_bias,
            backend="reference",
        )
        check_attention((output, weights), expected)

    found, left_out = _torch_peers(inputs, peers.torch_search_and_attend, peer)
    results = shape.b * shape.t * shape.k
    return Case(
        ours=ours,
        peers=found,
        left_out=left_out,
        check=check,
        work=Work(
            gathered=search.work.gathered + _row_reads(inputs.values, _distinct(shape)),
            streamed=search.work.streamed + 4 * results + 4 * shape.b * shape.t * shape.e,
            operations=search.work.operations + 2 * results * shape.e,
        ),
        k=shape.k,
    )


def attention_case(inputs: Inputs, backend: Backend) -> Case:
    """`target_attention` over kept behaviours beside gather, bmm, softmax and bmm."""
    shape, options = inputs.shape, _options(inputs)
    tables = inputs.keys, inputs.values

    def attend(turn: int, backend: Backend) -> AttentionResult:
        rows, positions = _at(inputs.rows, turn), _at(inputs.positions, turn)
        return target_attention(
            inputs.query, *tables, rows, inputs.offsets, positions=positions, backend=backend, **options
        )

    def peer(function: Callable[..., object], turn: int) -> object:
        rows, positions = _at(inputs.rows, turn), _at(inputs.positions, turn)
        return function(inputs.query, *tables, rows, positions, inputs.recency_bias, inputs.recency)

    expected = cache(partial(attend, 0, "reference"))

    def check(result: tuple[Tensor, Tensor | None]) -> None:
        check_attention(result, expected())

    found, left_out = _torch_peers(inputs, peers.torch_attend, peer)
    results, rows_read = shape.b * shape.t * shape.k, _distinct(shape)
    return Case(
        ours=partial(attend, backend=backend),
        peers=found,
        left_out=left_out,
        check=check,
        work=Work(
            gathered=_row_reads(inputs.keys, rows_read) + _row_reads(inputs.values, rows_read),
            streamed=_always_read(shape) + 4 * rows_read + (8 + 4) * results + 4 * shape.b * shape.t * shape.e,
            operations=2 * results * (shape.d + shape.e),
        ),
        k=shape.k,
    )


def attention_gradients_case(inputs: Inputs, backend: Backend) -> Case:
    """Forward and backward of `target_attention` over kept behaviours beside torch's autograd of the same."""
    return _gradients_case(inputs, backend, whole=False)


def whole_attention_gradients_case(inputs: Inputs, backend: Backend) -> Case:
    """Forward and backward over the whole history, which DARE's auxiliary head learns from."""
    return _gradients_case(inputs, backend, whole=True)


CASES: dict[str, Callable[[Inputs, Backend], Case]] = {
    "behavior_search": search_case,
    "search_and_attend": search_and_attend_case,
    "target_attention": attention_case,
    "target_attention_with_gradients": attention_gradients_case,
    "whole_attention_with_gradients": whole_attention_gradients_case,
}


def ops_of(shape: Shape) -> list[str]:
    """Names of the CASES that a shape is measured in: training searches and pools apart, with gradients."""
    if not shape.trained:
        return ["behavior_search", "search_and_attend", "target_attention"]
    return ["behavior_search", "target_attention_with_gradients", "whole_attention_with_gradients"]


def _gradients_case(inputs: Inputs, backend: Backend, *, whole: bool) -> Case:
    """The result is the output and the gradients of query, keys, values and recency bias."""
    shape = inputs.shape
    if isinstance(inputs.keys, ScaledTable) or isinstance(inputs.values, ScaledTable):
        raise ValueError(f"gradients need plain tables, got {shape.table}")
    leaves = [part.detach().requires_grad_() for part in (inputs.query, inputs.keys, inputs.values)]
    leaves.append(inputs.recency_bias.detach().requires_grad_())
    query, keys, values, bias = leaves
    generator = torch.Generator().manual_seed(1)
    direction = torch.randn(shape.b, shape.t, shape.e, generator=generator).to(query.device)
    longest = _options(inputs)["longest"]

    def backward(output: Tensor) -> tuple[Tensor, ...]:
        return (output.detach(), *torch.autograd.grad(output, leaves, grad_outputs=direction))

    def attend(turn: int, backend: Backend) -> tuple[Tensor, ...]:
        result = target_attention(
            query,
            keys,
            values,
            _at(inputs.rows, turn),
            inputs.offsets,
            positions=None if whole else _at(inputs.positions, turn),
            recency_bias=bias,
            longest=longest,
            backend=backend,
        )
        return backward(result.output)

    def peer(function: Callable[..., Any], turn: int) -> object:
        rows = _at(inputs.rows, turn)
        if whole:
            return backward(function(query, keys, values, rows, bias, inputs.recency))
        output, _ = function(query, keys, values, rows, _at(inputs.positions, turn), bias, inputs.recency)
        return backward(output)

    expected = cache(partial(attend, 0, "reference"))

    def check(result: tuple[Tensor, ...]) -> None:
        names = "output", "query's gradient", "keys' gradient", "values' gradient", "recency bias's gradient"
        for name, mine, wanted in zip(names, result, expected(), strict=True):
            check_close(name, mine, wanted, POOLED_TOLERANCE)

    found, left_out = _torch_peers(inputs, peers.torch_attend_all if whole else peers.torch_attend, peer)
    pooled = shape.length if whole else shape.k
    rows_read = shape.b * shape.length if whole else _distinct(shape)
    summed = shape.b * shape.t * pooled * (shape.d + shape.e)
    return Case(
        ours=partial(attend, backend=backend),
        peers=found,
        left_out=left_out,
        check=check,
        work=Work(
            gathered=_row_reads(keys, rows_read) + _row_reads(values, rows_read),
            # Read: query, bias, ids, positions, output's gradient. Written: the output, and dense gradients of all.
            streamed=2 * _always_read(shape)
            + 4 * rows_read
            + (0 if whole else 8 * shape.b * shape.t * shape.k)
            + 2 * 4 * shape.b * shape.t * shape.e
            + 4 * shape.vocabulary * (shape.d + shape.e),
            operations=2 * summed + 4 * summed,
        ),
        k=pooled,
        gradients=True,
    )


def _at(sets: tuple[Tensor, ...], turn: int) -> Tensor:
    return sets[turn % len(sets)]


def _options(inputs: Inputs) -> dict[str, Any]:
    longest = inputs.shape.length if inputs.query.is_cuda else None
    return {"recency_bias": inputs.recency_bias, "longest": longest}


def _torch_peers(
    inputs: Inputs, function: Callable[..., object], peer: Callable[[Callable[..., object], int], object]
) -> tuple[dict[str, Call], dict[str, str]]:
    """Torch as it is, and on a GPU what its compiler makes of it."""
    found: dict[str, Call] = {"torch": partial(peer, function)}
    if not inputs.query.is_cuda:
        return found, {"compiled": "measured on a GPU only"}
    found["compiled"] = partial(peer, torch.compile(function, dynamic=False))
    return found, {}


def _why_not_numpy(inputs: Inputs) -> str | None:
    if inputs.query.is_cuda:
        return ON_CPU_ALONE
    if inputs.shape.table in ("bfloat16", "float8"):
        return f"numpy has no {inputs.shape.table}"
    return None


def _row_reads(table: Table, rows: int) -> tuple[tuple[int, int], ...]:
    """Reads of `rows` rows, the scales of a scaled table counted as rows of their own."""
    if isinstance(table, ScaledTable):
        return (rows, table.rows.shape[1] * table.rows.itemsize), (rows, table.scales.itemsize)
    return ((rows, table.shape[1] * table.itemsize),)


def _distinct(shape: Shape) -> int:
    """The most behaviours that all results together can name."""
    return shape.b * min(shape.t * shape.k, shape.length)


def _always_read(shape: Shape) -> int:
    """Bytes of query, recency bias and offsets."""
    return 4 * shape.b * shape.t * shape.d + 4 * min(RECENCIES, shape.length) + 8 * (shape.b + 1)
