"""The Triton pooling: outputs and all gradients against the reference's autograd in fp64, on poisoned memory.

Runs on a GPU where there is one, and in Triton's interpreter otherwise.
"""

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

pytest.importorskip("triton")

from recollect_kernels import launch, target_attention
from recollect_kernels.tables import ScaledTable, Table, gather_rows, quantize_rows
from recollect_kernels.target_attention import reference, segments, triton, triton_kept, triton_whole

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
Leaves = dict[str, Any]  # None for a leaf that a problem goes without
LEAVES = ("query", "keys", "values", "recency_bias", "recency_values")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Everything random, from one seed; leaves in fp64."""

    lengths: tuple[int, ...]
    targets: int = 1
    d: int = 8
    e: int = 8
    r: int = 0
    """Width of the recency values; 0 = none."""
    k: int = 5
    vocabulary: int = 30
    bias: int | None = 10
    recency_entries: int = 10
    seed: int = 0

    @property
    def longest(self) -> int:
        return max(self.lengths, default=0)

    def leaves(self, dtype: torch.dtype = torch.float64) -> Leaves:
        generator = torch.Generator().manual_seed(self.seed)

        def normal(*shape: int) -> Tensor:
            drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
            # fp32 holds them, so that both precisions begin with the same numbers
            return drawn.float().to(DEVICE, dtype).requires_grad_()

        return {
            "query": normal(len(self.lengths), self.targets, self.d),
            "keys": normal(self.vocabulary, self.d),
            "values": normal(self.vocabulary, self.e),
            "recency_bias": None if self.bias is None else normal(self.bias),
            "recency_values": normal(self.recency_entries, self.r) if self.r else None,
        }

    def histories(self) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(self.seed + 1)
        rows = torch.randint(0, self.vocabulary, (sum(self.lengths),), generator=generator)
        return rows.to(DEVICE), torch.tensor([0, *self.lengths], device=DEVICE).cumsum(0)

    def positions(self) -> Tensor:
        """k different positions a target in any order, -1 between them where the history is shorter."""
        generator = torch.Generator().manual_seed(self.seed + 2)
        chosen = torch.full((len(self.lengths), self.targets, self.k), -1)
        for b, length in enumerate(self.lengths):
            for t in range(self.targets):
                kept = torch.randperm(length, generator=generator)[: self.k]
                chosen[b, t, torch.randperm(self.k, generator=generator)[: len(kept)]] = kept
        return chosen.to(DEVICE)


CASES = [
    pytest.param(Problem(lengths=(1,), k=20), id="one-behaviour"),
    pytest.param(Problem(lengths=(0,), targets=3, r=8), id="empty-history"),
    pytest.param(Problem(lengths=(63, 0, 5), targets=3, e=24, r=8, vocabulary=12), id="ragged-with-empty"),
    pytest.param(Problem(lengths=(200, 1), d=16, k=20), id="no-recency-values"),
    pytest.param(Problem(lengths=(300,), targets=5, d=24, e=24, r=8, k=1, vocabulary=7), id="odd-width-few-rows"),
    pytest.param(Problem(lengths=(63, 9), targets=3, d=16, r=8, k=20, bias=None), id="no-bias"),
    pytest.param(Problem(lengths=(63, 9), r=8, bias=100, recency_entries=100), id="more-recencies-than-behaviours"),
    pytest.param(Problem(lengths=(63, 9), r=8, bias=1, recency_entries=1, k=20), id="one-recency"),
    pytest.param(Problem(lengths=(20, 20), r=8, bias=20, recency_entries=20), id="as-many-recencies-as-behaviours"),
    pytest.param(Problem(lengths=(30,), targets=19, vocabulary=40), id="more-targets-than-a-tile"),
]


@pytest.fixture(autouse=True)
def poisoned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a kernel does not write is NaN, or an id that no table has."""

    def empty(*shape: int, like: Tensor, dtype: torch.dtype) -> Tensor:
        worst = float("nan") if dtype.is_floating_point else torch.iinfo(dtype).min
        return torch.full(shape, worst, dtype=dtype, device=like.device)

    monkeypatch.setattr(launch, "empty", empty)


def run_triton(problem: Problem, leaves: Leaves, positions: Tensor | None) -> list[Tensor]:
    """[output], or [output, weights] for kept positions."""
    return call_triton(leaves, *problem.histories(), positions, problem.longest)


def call_triton(leaves: Leaves, rows: Tensor, offsets: Tensor, positions: Tensor | None, longest: int) -> list[Tensor]:
    query, keys, values, bias, recency_values = (leaves[name] for name in LEAVES)
    if positions is None:
        return [triton.attend_all(query, keys, values, rows, offsets, bias, recency_values, longest)]
    return list(triton.attend_kept(query, keys, values, rows, offsets, positions, bias, recency_values, longest))


def run_reference(problem: Problem, leaves: Leaves, positions: Tensor | None) -> list[Tensor]:
    return call_reference(leaves, *problem.histories(), positions)


def call_reference(leaves: Leaves, rows: Tensor, offsets: Tensor, positions: Tensor | None) -> list[Tensor]:
    query, keys, values, bias, recency_values = (leaves[name] for name in LEAVES)
    if positions is None:
        return [reference.attend_all(query, keys, values, rows, offsets, bias, recency_values)]
    return list(reference.attend_kept(query, keys, values, rows, offsets, positions, bias, recency_values))


def gradients(outputs: list[Tensor], leaves: Leaves, use: tuple[bool, ...]) -> dict[str, Tensor]:
    """Gradients of a random sum of those outputs that are in `use`, the same for both precisions."""
    generator = torch.Generator().manual_seed(9)
    upstream = [torch.randn(output.shape, generator=generator) for output in outputs]
    loss = sum((output * g.to(output)).sum() for output, g, used in zip(outputs, upstream, use, strict=False) if used)
    wanted = {name: leaf for name, leaf in leaves.items() if leaf is not None and leaf.requires_grad}
    found = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(wanted, found, strict=True))


def assert_near(ours: Tensor, exact: Tensor, what: str) -> None:
    """fp32 sums of up to some thousands of terms: far below what a wrong or missing term would make."""
    scale = max(1.0, float(exact.detach().abs().max()) if exact.numel() else 0.0)
    torch.testing.assert_close(
        ours.double(), exact.double(), rtol=1e-5, atol=1e-5 * scale, msg=lambda message: f"{what}: {message}"
    )


def assert_equals_reference(
    problem: Problem, positions: Tensor | None, use: tuple[bool, ...] = (True, True)
) -> dict[str, Tensor]:
    """Outputs and gradients against the reference in fp64; returns our gradients."""
    ours, exact = problem.leaves(torch.float32), problem.leaves()
    outputs, expected = run_triton(problem, ours, positions), run_reference(problem, exact, positions)
    for name, output, wanted in zip(("output", "weights"), outputs, expected, strict=False):
        assert output.dtype == torch.float32
        assert_near(output, wanted, name)
    grads, expected_grads = gradients(outputs, ours, use), gradients(expected, exact, use)
    assert grads.keys() == expected_grads.keys()
    for name, gradient in grads.items():
        assert_near(gradient, expected_grads[name], f"gradient of {name}")
    return grads


ODD = [
    pytest.param(float("nan"), id="nan"),
    *(pytest.param(float(each), id=each, marks=pytest.mark.slow) for each in ("inf", "-inf")),
]


@pytest.mark.parametrize("problem", CASES)
def test_kept_equals_the_reference(problem: Problem) -> None:
    assert_equals_reference(problem, problem.positions())


@pytest.mark.parametrize("problem", CASES)
def test_whole_equals_the_reference(problem: Problem) -> None:
    assert_equals_reference(problem, None)


@pytest.mark.parametrize("use", [(True, False), (False, True)], ids=["through-output", "through-weights"])
def test_gradients_through_one_output_of_the_kept(use: tuple[bool, bool]) -> None:
    problem = Problem(lengths=(63, 0, 5), targets=3, r=8, vocabulary=12)
    grads = assert_equals_reference(problem, problem.positions(), use)
    assert (grads["values"].abs().sum() > 0) == use[0]
    assert grads["keys"].abs().sum() > 0


def test_a_position_named_twice_counts_twice() -> None:
    problem = Problem(lengths=(6,), r=8)
    assert_equals_reference(problem, torch.tensor([[[2, 4, 2, -1, 2]]], device=DEVICE))


@pytest.mark.parametrize("k", [1, 17, *(pytest.param(k, marks=pytest.mark.slow) for k in (16, 40))])
def test_more_kept_than_a_tile_holds(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_kept, "_TILE", 16)
    problem = Problem(lengths=(50, 18), targets=2, r=8, k=k)
    assert triton_kept.tile(inputs_of(problem), k)["BLOCK_K"] == min(16, k)
    assert_equals_reference(problem, problem.positions())


def inputs_of(problem: Problem) -> triton_kept.Inputs:
    leaves = problem.leaves(torch.float32)
    query, keys, values, bias, recency_values = (leaves[name] for name in LEAVES)
    return triton_kept.contiguous(query, keys, None, values, None, *problem.histories(), bias, recency_values)


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["kept", "whole"])
@pytest.mark.parametrize(
    ("walk", "lengths", "vocabulary"),
    [(16, (63, 80), 3), (256, (300, 300, 300), 2), (16, (320,), 1)],
    ids=["many-short-chunks", "two-rows-in-long-chunks", "more-chunks-than-a-tile"],
)
def test_rows_with_more_occurrences_than_a_chunk(
    walk: int, lengths: tuple[int, ...], vocabulary: int, pool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "WALK", walk)
    problem = Problem(lengths=lengths, r=8, k=100, vocabulary=vocabulary, bias=2, recency_entries=2)
    assert_equals_reference(problem, problem.positions() if pool == "kept" else None)


@pytest.mark.parametrize("pool", ["kept", "whole"])
@pytest.mark.parametrize(
    "frozen", [("keys",), ("values",), ("keys", "values"), ("query", "recency_bias")], ids="-".join
)
def test_leaves_that_want_no_gradient(frozen: tuple[str, ...], pool: str) -> None:
    problem = Problem(lengths=(20, 5), targets=2, r=8)
    positions = problem.positions() if pool == "kept" else None
    ours, exact = problem.leaves(torch.float32), problem.leaves()
    for leaves in (ours, exact):
        for name in frozen:
            leaf = leaves[name]
            leaf.requires_grad_(False)
    grads = gradients(run_triton(problem, ours, positions), ours, (True, True))
    expected = gradients(run_reference(problem, exact, positions), exact, (True, True))
    assert grads.keys() == set(LEAVES) - set(frozen)
    for name, gradient in grads.items():
        assert_near(gradient, expected[name], name)


@pytest.mark.parametrize("pool", ["kept", "whole"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_leaves_receive_gradients_of_their_type(dtype: torch.dtype, pool: str) -> None:
    problem = Problem(lengths=(40, 5), targets=2, vocabulary=12)
    positions = problem.positions() if pool == "kept" else None
    ours = problem.leaves(dtype)
    exact = {name: None if leaf is None else leaf.detach().double().requires_grad_() for name, leaf in ours.items()}
    outputs, expected = run_triton(problem, ours, positions), run_reference(problem, exact, positions)
    assert_near(outputs[0], expected[0], "output")
    expected_grads = gradients(expected, exact, (True, True))
    for name, gradient in gradients(outputs, ours, (True, True)).items():
        assert gradient.dtype == dtype
        # one rounding at the end: half a unit in the last place
        torch.testing.assert_close(gradient.double(), expected_grads[name], rtol=torch.finfo(dtype).eps, atol=1e-5)


def scaled(table: Tensor, storage: str) -> ScaledTable:
    quantized = quantize_rows(table.detach())
    if storage == "int8":
        return quantized
    scales = table.detach().abs().amax(1) / 448
    return ScaledTable((table.detach() / scales.unsqueeze(1)).to(torch.float8_e4m3fn), scales)


@pytest.mark.parametrize("pool", ["kept", "whole"])
@pytest.mark.parametrize("storage", ["int8", "float8"])
def test_scaled_tables_are_read_and_receive_no_gradient(storage: str, pool: str) -> None:
    problem = Problem(lengths=(20, 5), targets=2, d=24, r=8)
    positions = problem.positions() if pool == "kept" else None
    ours, exact = problem.leaves(torch.float32), problem.leaves()
    tables: dict[str, Table] = {}
    for name in ("keys", "values"):
        leaf = ours.pop(name)
        tables[name] = scaled(leaf, storage)
        exact[name] = gather_rows(tables[name], torch.arange(problem.vocabulary, device=DEVICE)).double()
    outputs = call_triton(ours | tables, *problem.histories(), positions, problem.longest)
    expected = run_reference(problem, exact, positions)
    for output, wanted in zip(outputs, expected, strict=True):
        assert_near(output, wanted, "output")
    grads = gradients(outputs, ours, (True, True))
    expected_grads = gradients(expected, exact, (True, True))
    assert grads.keys() == {"query", "recency_bias", "recency_values"}
    for name, gradient in grads.items():
        assert_near(gradient, expected_grads[name], name)


@pytest.mark.parametrize("pool", ["kept", "whole"])
def test_two_runs_are_equal_bit_for_bit(pool: str) -> None:
    problem = Problem(lengths=(63, 40), targets=3, r=8, vocabulary=5)
    positions = problem.positions() if pool == "kept" else None
    runs = []
    for _ in range(2):
        leaves = problem.leaves(torch.float32)
        outputs = run_triton(problem, leaves, positions)
        runs.append([*outputs, *gradients(outputs, leaves, (True, True)).values()])
    for first, second in zip(*runs, strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("pool", ["kept", "whole"])
def test_the_order_of_the_batch_does_not_matter(pool: str) -> None:
    problem = Problem(lengths=(40, 0, 17, 63), targets=2, r=8, vocabulary=9)
    swapped = [2, 0, 3, 1]
    rows, offsets = problem.histories()
    positions = problem.positions() if pool == "kept" else None
    pieces = rows.split(list(problem.lengths))
    lengths = [problem.lengths[b] for b in swapped]
    found = []
    for order, of_rows, of_offsets in (
        (list(range(4)), rows, offsets),
        (swapped, torch.cat([pieces[b] for b in swapped]), torch.tensor([0, *lengths], device=DEVICE).cumsum(0)),
    ):
        leaves = problem.leaves(torch.float32)
        query = leaves["query"]
        batch = leaves | {"query": query[order]}
        outputs = call_triton(batch, of_rows, of_offsets, None if positions is None else positions[order], 63)
        back = torch.tensor(order).argsort()
        found.append(gradients([output[back] for output in outputs], leaves, (True, True)))
    for name, gradient in found[0].items():
        assert_near(found[1][name], gradient, name)


@pytest.mark.parametrize("pool", ["kept", "whole"])
@pytest.mark.parametrize("lengths", [(), (0, 0)], ids=["no-histories", "empty-histories"])
def test_nothing_to_pool(lengths: tuple[int, ...], pool: str) -> None:
    problem = Problem(lengths=lengths, targets=2, r=8)
    leaves = problem.leaves(torch.float32)
    outputs = run_triton(problem, leaves, problem.positions() if pool == "kept" else None)
    assert outputs[0].shape == (len(lengths), 2, 16)
    assert all(bool((output == 0).all()) for output in outputs)
    for name, gradient in gradients(outputs, leaves, (True, True)).items():
        assert bool((gradient == 0).all()), name


def test_no_slots_are_no_behaviours() -> None:
    problem = Problem(lengths=(3, 2), k=0)
    leaves = problem.leaves(torch.float32)
    output, weights = run_triton(problem, leaves, problem.positions())
    assert weights.shape == (2, 1, 0)
    assert bool((output == 0).all())
    assert all(bool((gradient == 0).all()) for gradient in gradients([output], leaves, (True,)).values())


@pytest.mark.parametrize("pool", ["kept", "whole"])
def test_rows_outside_the_table_are_left_out(pool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(ids: Tensor, n_ids: int, *each: int) -> segments.Segments:
        assert bool(((ids >= 0) & (ids <= n_ids)).all()), "a sum would be written outside the gradient"
        return segments.cut(ids, n_ids, *each)

    monkeypatch.setattr(triton_kept, "cut", cut)
    monkeypatch.setattr(triton_whole, "cut", cut)
    problem = Problem(lengths=(12, 4), targets=2, r=8, k=12)
    rows, offsets = problem.histories()
    broken = rows.clone()
    broken[[1, 5]], broken[[7, 13]] = -1, problem.vocabulary
    everywhere = torch.arange(12, device=DEVICE).expand(2, 2, 12).clone()
    everywhere[1, :, 4:] = -1
    without = everywhere.clone()
    without[0, :, [1, 5, 7]] = without[1, :, 1] = -1
    ours, exact = problem.leaves(torch.float32), problem.leaves()
    outputs = call_triton(ours, broken, offsets, everywhere if pool == "kept" else None, 12)[:1]
    expected = call_reference(exact, rows, offsets, without)[:1]
    assert_near(outputs[0], expected[0], "output")
    expected_grads = gradients(expected, exact, (True,))
    for name, gradient in gradients(outputs, ours, (True,)).items():
        assert_near(gradient, expected_grads[name], name)


def test_positions_beyond_the_history_are_left_out() -> None:
    problem = Problem(lengths=(6, 3), k=3)
    leaves = problem.leaves(torch.float32)
    beyond = torch.tensor([[[0, 6, 99]], [[1, 3, 4]]], device=DEVICE)
    within = torch.tensor([[[0, -1, -1]], [[1, -1, -1]]], device=DEVICE)
    outputs, expected = run_triton(problem, leaves, beyond), run_triton(problem, leaves, within)
    for output, wanted in zip(outputs, expected, strict=True):
        assert torch.equal(output, wanted)


@pytest.mark.parametrize("pool", ["kept", "whole"])
@pytest.mark.parametrize("longest", [64, *(pytest.param(bound, marks=pytest.mark.slow) for bound in (63, 1000))])
def test_any_bound_of_the_lengths_gives_the_same(longest: int, pool: str) -> None:
    problem = Problem(lengths=(63, 5), r=8)
    positions = problem.positions() if pool == "kept" else None
    found = []
    for bound in (problem.longest, longest):
        leaves = problem.leaves(torch.float32)
        outputs = call_triton(leaves, *problem.histories(), positions, bound)
        found.append([*outputs, *gradients(outputs, leaves, (True, True)).values()])
    for exact, bounded in zip(*found, strict=True):
        torch.testing.assert_close(bounded, exact, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("pool", ["kept", "whole"])
@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("all_rows", [False, True], ids=["one-row", "all-rows"])
@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")  # the interpreter computes in numpy
def test_scores_that_are_no_numbers(odd: float, all_rows: bool, pool: str) -> None:
    problem = Problem(lengths=(12, 20), targets=2, k=14, bias=None)
    positions = problem.positions() if pool == "kept" else None
    rows, _ = problem.histories()
    leaves, exact = problem.leaves(torch.float32), problem.leaves()
    found = []
    for mine in (leaves, exact):
        query, keys = mine["query"], mine["keys"]
        with torch.no_grad():
            query.abs_()
            keys[slice(None) if all_rows else int(rows[0])] = odd
    found = run_triton(problem, leaves, positions)
    for output, wanted in zip(found, run_reference(problem, exact, positions), strict=True):
        torch.testing.assert_close(output, wanted.float(), equal_nan=True, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pool", ["kept", "whole"])
@pytest.mark.parametrize("odd", ODD)
@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
def test_gradients_of_scores_that_are_no_numbers(odd: float, pool: str) -> None:
    """The one history that holds the odd row, and the rows in it, receive what the reference gives; no other does."""
    problem = Problem(lengths=(12, 9, 12), targets=2, k=9, r=8, bias=12, recency_entries=12)
    rows, offsets = problem.histories()
    rows[:12] = torch.arange(12)
    rows[12:] = 12 + rows[12:] % 10
    positions = torch.arange(9, device=DEVICE).expand(3, 2, 9).contiguous() if pool == "kept" else None
    ours, exact = problem.leaves(torch.float32), problem.leaves()
    for leaves in (ours, exact):
        with torch.no_grad():
            leaves["query"].abs_()
            leaves["keys"][3] = odd
    grads = gradients(call_triton(ours, rows, offsets, positions, 12), ours, (True, True))
    expected = gradients(call_reference(exact, rows, offsets, positions), exact, (True, True))
    for name, gradient in grads.items():
        torch.testing.assert_close(gradient, expected[name].float(), equal_nan=True, rtol=1e-4, atol=1e-4)
    assert bool(grads["values"][12:].isfinite().all())


@pytest.mark.parametrize("pool", ["kept", "whole"])
def test_a_bias_of_minus_infinity_takes_a_recency_out(pool: str) -> None:
    problem = Problem(lengths=(12, 3), targets=2, r=8, k=12)
    positions = problem.positions() if pool == "kept" else None
    ours, exact = problem.leaves(torch.float32), problem.leaves()
    for leaves in (ours, exact):
        bias = leaves["recency_bias"]
        with torch.no_grad():
            bias[[1, 4]] = -torch.inf
    outputs, expected = run_triton(problem, ours, positions), run_reference(problem, exact, positions)
    assert_near(outputs[0], expected[0], "output")
    expected_grads = gradients(expected, exact, (True, True))
    for name, gradient in gradients(outputs, ours, (True, True)).items():
        assert_near(gradient, expected_grads[name], name)


def test_arguments_need_not_be_contiguous() -> None:
    problem = Problem(lengths=(9, 4), targets=2, r=8)
    ours, exact = problem.leaves(torch.float32), problem.leaves()
    scattered: Leaves = {}
    for name, leaf in ours.items():
        scattered[name] = leaf.mT.contiguous().mT if leaf.dim() > 1 else leaf.repeat_interleave(2)[::2]
    for positions in (None, problem.positions()):
        output = run_triton(problem, scattered, positions)[0]
        expected = run_reference(problem, exact, positions)[0]
        wanted = [leaf for leaf in ours.values() if leaf is not None]
        found = torch.autograd.grad(output.sum(), wanted)  # its gradient is one number with stride 0
        exact_leaves = [leaf for leaf in exact.values() if leaf is not None]
        for gradient, one in zip(found, torch.autograd.grad(expected.sum(), exact_leaves), strict=True):
            assert_near(gradient, one, "gradient")


class NothingRead(TorchDispatchMode):
    """Fails when a value is read on the host, which would wait for a GPU."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        waits = ("_local_scalar_dense", "nonzero", "unique", "masked_select", "is_nonzero", "repeat_interleave")
        assert not any(name in str(func) for name in waits), f"{func} reads values on the host"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("pool", ["kept", "whole"])
def test_no_value_is_read_on_the_host(pool: str) -> None:
    problem = Problem(lengths=(30, 4), targets=2, r=8, vocabulary=3)
    positions = problem.positions() if pool == "kept" else None
    leaves, histories = problem.leaves(torch.float32), problem.histories()
    with NothingRead():
        outputs = call_triton(leaves, *histories, positions, problem.longest)
        gradients(outputs, leaves, (True, True))


class LargestTensor(TorchDispatchMode):
    """Notes the largest tensor that any operation returns; bytes are the interpreter's copies."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple) else (result,):
            if isinstance(tensor, Tensor) and tensor.dtype != torch.uint8:
                self.elements = max(self.elements, tensor.numel())
        return result


@pytest.mark.parametrize("pool", ["kept", "whole"])
def test_no_gathered_rows_and_no_weights_of_whole_histories_are_held(
    pool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_whole, "_PROGRAMS", 2)
    problem = Problem(lengths=(64, 64), targets=8, d=32, e=32, r=4, k=32, vocabulary=20)
    positions = problem.positions() if pool == "kept" else None
    leaves, histories = problem.leaves(torch.float32), problem.histories()
    with LargestTensor() as largest:
        outputs = call_triton(leaves, *histories, positions, problem.longest)
        for output in outputs:
            output.sum().backward(retain_graph=True)
    weights = 2 * 8 * 64  # [B, T, L]; of [B, L, d] and [B, T, K, d] there are more
    assert 0 < largest.elements < weights


def test_int32_histories() -> None:
    problem = replace(CASES[2].values[0], seed=4)
    rows, offsets = problem.histories()
    for positions in (None, problem.positions()):
        leaves, other = problem.leaves(torch.float32), problem.leaves(torch.float32)
        narrow = call_triton(leaves, rows.int(), offsets.int(), positions, problem.longest)
        wide = call_triton(other, rows, offsets, positions, problem.longest)
        for a, b in zip(
            gradients(narrow, leaves, (True, True)).values(), gradients(wide, other, (True, True)).values(), strict=True
        ):
            assert torch.equal(a, b)


@pytest.mark.parametrize("positions", [True, False], ids=["kept", "whole"])
def test_the_op_hands_over_to_triton(positions: bool) -> None:
    problem = Problem(lengths=(20, 0, 5), targets=2, r=8)
    query, keys, values, bias, recency_values = (problem.leaves(torch.float32)[name] for name in LEAVES)
    chosen = problem.positions() if positions else None
    results = [
        target_attention(
            query,
            keys,
            values,
            *problem.histories(),
            positions=chosen,
            recency_bias=bias,
            recency_values=recency_values,
            backend=backend,
        )
        for backend in ("triton", "reference")
    ]
    assert results[0].output.grad_fn is not None
    assert "Attend" in results[0].output.grad_fn.name()
    assert_near(results[0].output, results[1].output, "output")
    if positions:
        assert_near(results[0].weights, results[1].weights, "weights")
    else:
        assert results[0].weights is None
