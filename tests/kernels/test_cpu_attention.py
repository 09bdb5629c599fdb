"""The compiled attention: outputs and all gradients against the reference in fp64, whatever shares the work."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from recollect_kernels import loops, quantize_rows
from recollect_kernels import threads as sharing
from recollect_kernels.target_attention import cpu, cpu_gradients, reference
from recsys.models import dare, dot_product
from recsys.models.batch import Batch

pytest.importorskip("numba")

LEAVES = ("query", "keys", "values", "recency_bias", "recency_values")
HISTORY = ("query", "keys", "values", "rows", "offsets")
TOLERANCE = {"rtol": 1e-4, "atol": 2e-5}
POOLS = ["kept", "whole"]


def draw(
    lengths: list[int],
    targets: int,
    *,
    d: int = 16,
    e: int = 16,
    k: int = 20,
    vocabulary: int = 300,
    bias: int | None = 40,
    beside: tuple[int, int] | None = (15, 7),
    rows_dtype: torch.dtype = torch.int32,
) -> dict[str, Any]:
    """Arguments of both poolings; a fifth of the positions is -1, and all of those that a history has not."""
    generator = torch.Generator().manual_seed(17)
    positions = torch.full((len(lengths), targets, k), -1)
    for b, length in enumerate(lengths):
        for t in range(targets):
            drawn = torch.randperm(length, generator=generator)[:k]
            kept = torch.rand(len(drawn), generator=generator) > 0.2
            positions[b, t, : len(drawn)] = drawn.where(kept, -1)
    return {
        "query": torch.randn(len(lengths), targets, d, generator=generator) / math.sqrt(d),
        "keys": torch.randn(vocabulary, d, generator=generator),
        "values": torch.randn(vocabulary, e, generator=generator),
        "rows": torch.randint(0, vocabulary, (sum(lengths),), generator=generator, dtype=rows_dtype),
        "offsets": torch.tensor([0, *lengths]).cumsum(0),
        "positions": positions,
        "recency_bias": None if bias is None else torch.randn(bias, generator=generator),
        "recency_values": None if beside is None else torch.randn(beside, generator=generator),
    }


def pool(module: Any, given: dict[str, Any], how: str) -> tuple[Tensor, ...]:
    """Output, and behind it weights where positions are kept."""
    history, beside = [given[name] for name in HISTORY], [given["recency_bias"], given["recency_values"]]
    if how == "kept":
        return tuple(module.attend_kept(*history, given["positions"], *beside))
    return (module.attend_all(*history, *beside),)


def results(
    module: Any,
    given: dict[str, Any],
    how: str,
    *,
    learning: tuple[str, ...] = LEAVES,
    dtype: torch.dtype = torch.float32,
    through: tuple[bool, bool] = (True, True),
) -> dict[str, Tensor]:
    """Output, weights and the gradients of what is `learning`, through output and weights or one of them."""
    own = dict(given)
    for name in LEAVES:
        if given[name] is not None:
            own[name] = given[name].detach().to(dtype).requires_grad_(name in learning)
    pooled = pool(module, own, how)
    generator = torch.Generator().manual_seed(18)
    directions = [torch.randn(part.shape, generator=generator).to(dtype) for part in pooled]
    taken = [(part, to) for part, to, wanted in zip(pooled, directions, through, strict=False) if wanted]
    leaves = {name: own[name] for name in learning if own[name] is not None}
    gradients = torch.autograd.grad(
        [part for part, _ in taken], list(leaves.values()), [to for _, to in taken], materialize_grads=True
    )
    found = {"output": pooled[0].detach(), **({"weights": pooled[1].detach()} if how == "kept" else {})}
    return found | dict(zip(leaves, gradients, strict=True))


def check_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, wanted in expected.items():
        assert found[name].dtype == torch.float32, name
        torch.testing.assert_close(found[name].double(), wanted, **TOLERANCE, msg=lambda text, name=name: name + text)


@pytest.fixture
def threads() -> Iterator[None]:
    """Restore torch's threads after a test that changes them."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


CASES = [
    pytest.param(draw([0, 1, 63, 200, 700], 3, d=32, e=32, bias=200, beside=(200, 16)), id="as-in-training"),
    pytest.param(draw([200] * 5, 1, d=17, e=5, k=5, vocabulary=7), id="rows-that-repeat"),
    pytest.param(draw([1, 0], 5, d=3, e=19, k=1, vocabulary=3, bias=None, beside=None), id="nothing-of-recency"),
    pytest.param(draw([300, 2], 3, d=8, e=33, bias=900, beside=(1, 7)), id="bias-longer-than-histories"),
    pytest.param(draw([64, 128, 129], 4, bias=1, beside=(500, 0)), id="whole-blocks"),
    pytest.param(draw([30, 50], 2, d=1, e=1, k=37, rows_dtype=torch.int64), id="k-above-the-length"),
    pytest.param(draw([10], 2, k=3) | {"positions": torch.full((1, 2, 3), -1)}, id="none-kept"),
    pytest.param(draw([0, 0], 2), id="all-empty"),
    pytest.param(draw([5], 2, k=0), id="k-of-0"),
]


@pytest.mark.parametrize("how", POOLS)
@pytest.mark.parametrize("given", CASES)
def test_outputs_and_gradients_equal_the_reference(given: dict[str, Any], how: str) -> None:
    found = results(cpu, given, how)
    check_close(found, results(reference, given, how, dtype=torch.float64))
    for name, alone in zip(("output", "weights"), pool(cpu, given, how), strict=False):
        assert torch.equal(found[name], alone), f"{name} without gradients"


@pytest.mark.parametrize("how", POOLS)
@pytest.mark.parametrize("shape", [pytest.param((0, 3), id="no-histories"), pytest.param((2, 0), id="no-targets")])
def test_nothing_to_pool_for(shape: tuple[int, int], how: str) -> None:
    given = draw([4] * shape[0], shape[1], k=2)
    for name, found in results(cpu, given, how).items():
        expected = (*shape, 23) if name == "output" else (*shape, 2) if name == "weights" else given[name].shape
        assert found.shape == expected
        assert not found.any()


@pytest.mark.parametrize("how", POOLS)
@pytest.mark.parametrize(
    "learning",
    [
        pytest.param(("query",), id="query"),
        pytest.param(("keys",), id="keys"),
        pytest.param(("values",), id="values"),
        pytest.param(("recency_bias",), id="bias"),
        pytest.param(("recency_values",), id="recency-values"),
        pytest.param(("keys", "recency_values"), id="keys-and-recency-values"),
    ],
)
def test_only_the_gradients_that_are_needed(learning: tuple[str, ...], how: str) -> None:
    given = draw([70, 0, 200], 3)
    alone, all_of_them = results(cpu, given, how, learning=learning), results(cpu, given, how)
    for name in learning:
        assert torch.equal(alone[name], all_of_them[name])


@pytest.mark.parametrize(
    "through", [pytest.param((False, True), id="weights"), pytest.param((True, False), id="output")]
)
def test_gradients_through_one_result_alone(through: tuple[bool, bool]) -> None:
    given = draw([70, 3], 3)
    found = results(cpu, given, "kept", through=through)
    check_close(found, results(reference, given, "kept", through=through, dtype=torch.float64))


@pytest.mark.parametrize("how", POOLS)
def test_a_loss_that_ignores_the_result_has_no_gradient(how: str) -> None:
    given = draw([9], 2)
    given["query"].requires_grad_()
    outputs = pool(cpu, given, how)
    (gradient,) = torch.autograd.grad(sum(0 * part.sum() for part in outputs), [given["query"]])
    assert not gradient.any()


@pytest.mark.parametrize("how", POOLS)
def test_without_gradients_nothing_is_kept(how: str) -> None:
    given = draw([9], 2)
    given["keys"].requires_grad_()
    with torch.no_grad():
        assert not any(part.requires_grad for part in pool(cpu, given, how))
    assert all(part.requires_grad for part in pool(cpu, given, how))


@pytest.mark.parametrize("how", POOLS)
@pytest.mark.parametrize("count", [2, 3])
def test_threads_change_no_bit(count: int, how: str, threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "SHARED_FROM", 0)
    given = draw([200, 0, 700, 1, 63] * 8, 3, vocabulary=50)
    found = []
    for threads_given in (1, 1, count):
        torch.set_num_threads(threads_given)
        found.append(results(cpu, given, how))
    for other in found[1:]:
        for name, alone in found[0].items():
            assert torch.equal(alone, other[name]), name


@pytest.mark.parametrize("count", [1, 3])
def test_targets_of_one_history_are_shared(count: int, threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "SHARED_FROM", 0)
    monkeypatch.setattr(sharing, "_TARGETS_A_SHARE", 16)
    torch.set_num_threads(count)
    given = draw([150], 70)
    for how in POOLS:
        for found, expected in zip(pool(cpu, given, how), pool(reference, given, how), strict=True):
            torch.testing.assert_close(found, expected, **TOLERANCE)


@pytest.mark.parametrize(
    "held",
    [
        pytest.param(1, id="one-history-one-target"),
        pytest.param(1_000, id="one-target"),
        pytest.param(2_000, id="some-of-each"),
    ],
)
def test_weights_are_held_for_some_histories_at_a_time(held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    given = draw([200, 0, 700, 1, 63, 64], 5, vocabulary=90)
    monkeypatch.setattr(cpu_gradients, "_HELD", held)
    taken = cpu_gradients._held(given["offsets"].numpy(), 2)
    assert [begin for begin, _ in taken] == [0, *(end for _, end in taken[:-1])]
    assert taken[-1][1] == 6
    assert len(taken) > 1
    check_close(results(cpu, given, "whole"), results(reference, given, "whole", dtype=torch.float64))


SPECIAL = [
    pytest.param([1.0, math.nan, 0.5], id="nan"),
    pytest.param([-math.inf, -math.inf, -math.inf], id="all-minus-infinity"),
    pytest.param([-math.inf, 2.0, 1.0], id="minus-infinity"),
    pytest.param([math.inf, 2.0, 1.0], id="infinity"),
    pytest.param([-3e38, -3.4028235e38, -3e38], id="as-low-as-padding"),
    pytest.param([90.0, -90.0, 0.0], id="far-apart"),
    pytest.param([1e-40, -1e-40, -0.0], id="next-to-0"),
]


@pytest.mark.parametrize("how", POOLS)
@pytest.mark.parametrize("scores", SPECIAL)
@pytest.mark.parametrize("longest", [3, 5])
def test_special_scores_weigh_as_in_the_reference(scores: list[float], longest: int, how: str) -> None:
    """Also where padding, to the longest history or to k, is weighed beside them."""
    given = {
        "query": torch.ones(2, 1, 1),
        "keys": torch.tensor([*scores, 0.25]).unsqueeze(1),
        "values": torch.eye(4),
        "rows": torch.tensor([0, 1, 2] + [3] * longest),
        "offsets": torch.tensor([0, 3, 3 + longest]),
        "positions": torch.tensor([[[2, 0, 1, -1, -1][:longest]], [[0, 1, 2, -1, -1][:longest]]]),
        "recency_bias": None,
        "recency_values": None,
    }
    # In fp32: the padding's score is the lowest number of the type.
    found, expected = (results(module, given, how) for module in (cpu, reference))
    largest = max([1.0, *(abs(score) for score in scores if math.isfinite(score))])
    for name, wanted in expected.items():
        scale = largest if name == "query" else 1.0  # whose gradient is a sum of scores here
        torch.testing.assert_close(found[name] / scale, wanted / scale, equal_nan=True, **TOLERANCE)


def test_a_block_of_minus_infinity_weighs_nothing_beside_a_later_one() -> None:
    given = draw([600], 1, d=1, e=2, vocabulary=600, bias=None, beside=None)
    given["query"] = torch.ones(1, 1, 1)
    given["rows"] = torch.arange(600)
    given["keys"][:400] = -math.inf
    found, expected = pool(cpu, given, "whole"), pool(reference, given, "whole")
    torch.testing.assert_close(found, expected)
    assert found[0].isfinite().all()


@pytest.mark.parametrize("how", POOLS)
def test_absent_behaviours_pass_on_no_nan(how: str) -> None:
    """What fills memory up to a multiple of four rows is not among the sums."""
    given = draw([1, 6], 2, k=6)
    given["rows"] = torch.arange(7, dtype=torch.int32)
    given["keys"][7:], given["values"][7:] = math.nan, math.nan
    for name, found in results(cpu, given, how).items():
        assert found.isfinite().all(), name


KINDS = {
    "strided": lambda table: torch.cat([table, table], dim=1)[:, : table.shape[1]],
    "float16": lambda table: table.half(),
    "bfloat16": lambda table: table.bfloat16(),
    "int8": quantize_rows,
    "float8": lambda table: quantize_rows(table, torch.float8_e4m3fn),
}


@pytest.mark.parametrize("how", POOLS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_table(kind: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_GATHERED", 100)  # so that rows are gathered in several turns
    given = draw([130, 0, 40, 200], 3)
    given["keys"], given["values"] = KINDS[kind](given["keys"]), KINDS[kind](given["values"])
    for found, expected in zip(pool(cpu, given, how), pool(reference, given, how), strict=True):
        torch.testing.assert_close(found, expected, **TOLERANCE)


@pytest.mark.parametrize("how", POOLS)
def test_gradients_reach_a_table_that_the_loops_do_not_read(how: str) -> None:
    given = draw([130, 0, 40], 3)
    for name in ("keys", "values"):
        given[name] = given[name].half().requires_grad_()
    gradients = torch.autograd.grad(pool(cpu, given, how)[0].sum(), [given["keys"], given["values"]])
    expected = torch.autograd.grad(pool(reference, given, how)[0].sum(), [given["keys"], given["values"]])
    for found, wanted in zip(gradients, expected, strict=True):
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("how", POOLS)
@pytest.mark.parametrize("name", ["query", "recency_bias"])
def test_half_precision_beside_the_tables(name: str, how: str) -> None:
    given = draw([130, 0, 40], 3)
    given[name] = given[name].bfloat16().requires_grad_()
    found, expected = (
        torch.autograd.grad(pool(module, given, how)[0].square().sum(), [given[name]]) for module in (cpu, reference)
    )
    assert found[0].dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("how", POOLS)
@pytest.mark.parametrize("tables", [("query", "keys", "values"), LEAVES], ids=["tables", "all"])
def test_fp64_stays_fp64(tables: tuple[str, ...], how: str) -> None:
    given = draw([30, 4], 2)
    for leaf in tables:
        given[leaf] = given[leaf].double()
    output = pool(cpu, given, how)[0]
    assert output.dtype == torch.float64
    assert torch.equal(output, pool(reference, given, how)[0])


@pytest.mark.parametrize("how", POOLS)
def test_without_numba_torch_does_it(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "compiled", lambda: None)
    given = draw([30, 4], 2)
    for name, found in results(cpu, given, how).items():
        assert torch.equal(found, results(reference, given, how)[name])


def test_positions_beyond_all_behaviours_read_no_other_memory() -> None:
    given = draw([3], 1, k=2) | {"positions": torch.tensor([[[1 << 40, 0]]])}
    for found, expected in zip(pool(cpu, given, "kept"), pool(reference, given, "kept"), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("learning", [pytest.param(True, id="learning"), pytest.param(False, id="scoring")])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"rows": torch.tensor([0, 1, 300])}, r"rows must lie in \[0, 300\), .* got 300 at 2", id="row"),
        pytest.param({"rows": torch.tensor([0, 1, -1])}, r"rows must lie in \[0, 300\), .* got -1 at 2", id="negative"),
        pytest.param({"offsets": torch.tensor([0, 2])}, "offsets must ascend from 0 to 3", id="offsets-short"),
        pytest.param({"offsets": torch.tensor([-9, 3])}, "offsets must ascend from 0 to 3", id="offsets-below"),
    ],
)
def test_kept_behaviours_are_checked_as_they_are_read(change: dict[str, Tensor], message: str, learning: bool) -> None:
    given = draw([3], 1, k=2) | {"positions": torch.tensor([[[0, 2]]])} | change
    given["keys"].requires_grad_(learning)
    with pytest.raises(ValueError, match=message):
        pool(cpu, given, "kept")


@pytest.mark.parametrize("n_items", [pytest.param(60, id="catalogue-whole"), pytest.param(5_000, id="items-used")])
def test_dare_learns_what_it_learns_from_the_reference(n_items: int, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(19)
    config = dare.DareConfig(n_items=n_items, n_categories=9, n_positions=50, hidden=(8,), aux_hidden=(8,))
    categories = torch.randint(0, 10, (n_items + 1,), generator=generator)
    model = dare.Dare(config, categories, generator=generator)
    lengths = [0, 1, 30, 200, 90]
    batch = Batch(
        rows=torch.randint(1, n_items + 1, (sum(lengths),), generator=generator, dtype=torch.int32),
        offsets=torch.tensor([0, *lengths]).cumsum(0),
        targets=torch.randint(1, n_items + 1, (5, 3), generator=generator, dtype=torch.int32),
        labels=torch.tensor([[1, 0, 0]] * 5, dtype=torch.uint8),
        longest=200,
    )
    gradients = []
    for module in (cpu, reference):

        def attend(*history: Any, positions: Any = None, module: Any = module, **beside: Any) -> Any:
            given = dict(zip(HISTORY, history, strict=True)) | beside | {"positions": positions}
            return dare_result(pool(module, given, "whole" if positions is None else "kept"))

        monkeypatch.setattr(dot_product, "target_attention", attend)
        gradients.append(torch.autograd.grad(model.loss(batch, l2=1e-6), list(model.parameters())))
    for (name, _), found, expected in zip(model.named_parameters(), *gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6, msg=lambda text, name=name: name + text)


def dare_result(pooled: tuple[Tensor, ...]) -> Any:
    from recollect_kernels import AttentionResult

    return AttentionResult(pooled[0], pooled[1] if len(pooled) == 2 else None)
