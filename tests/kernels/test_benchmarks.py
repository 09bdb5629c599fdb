"""The benchmarks: no row without a right result, peers that compute the same, floors that follow from the work."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from recollect_kernels import gather_rows
from recollect_kernels.benchmarks import operations, shapes, timing
from recollect_kernels.benchmarks.agreement import NotMeasuredError, WrongResultError, check_close, check_search
from recollect_kernels.benchmarks.floors import Floors, Work
from recollect_kernels.benchmarks.inputs import Inputs, make_inputs
from recollect_kernels.benchmarks.machine import describe, threads
from recollect_kernels.benchmarks.runner import BenchConfig, Task, measure, plan
from recollect_kernels.benchmarks.shapes import Shape

FIRST_FIELDS = ["op", "device", "B", "T", "L", "d", "k", "ours_us", "torch_us", "ratio", "floor_us", "correct"]
SERVED = Shape(use="tiny", b=2, t=3, length=40, d=4, k=5, e=6, table="float32", vocabulary=50)
TRAINED = replace(SERVED, trained=True)
QUICK = BenchConfig(rounds=5)


@pytest.fixture(autouse=True)
def small_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is timed here is not looked at, so it need not take long."""
    monkeypatch.setattr(timing, "_SAMPLE_S", 1e-5)
    monkeypatch.setattr(timing, "_TURN_S", 1e-5)


@pytest.fixture(scope="module")
def floors() -> Floors:
    return Floors("cpu", buffer_bytes=1 << 16, matrix=32)


@pytest.fixture
def inputs() -> Inputs:
    return make_inputs(SERVED, "cpu")


TASKS = [Task(op, shape) for shape in (SERVED, TRAINED) for op in operations.ops_of(shape)]


@pytest.mark.parametrize("task", [pytest.param(task, id=f"{task.op}-{task.shape.trained}") for task in TASKS])
def test_a_row_begins_with_the_agreed_fields(task: Task, floors: Floors) -> None:
    row, left_out = measure(task, QUICK, floors)
    assert list(row)[: len(FIRST_FIELDS)] == FIRST_FIELDS
    pooled = 40 if task.op.startswith("whole") else 5
    assert [row[name] for name in FIRST_FIELDS[:7]] == [task.op, "cpu", 2, 3, 40, 4, pooled]
    assert row["correct"] is True
    assert row["ratio"] == pytest.approx(row["torch_us"] / row["ours_us"], rel=0.05)
    assert row["ours_us"] <= row["ours_p99_us"]
    assert row["samples"] >= QUICK.rounds
    assert json.loads(json.dumps(row)) == row
    assert left_out == {"compiled": "measured on a GPU only"}


TABLES = ["float32", "float16", "bfloat16", "int8", "float8"]


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("op", operations.ops_of(SERVED))
def test_every_peer_computes_what_the_reference_does(op: str, table: shapes.TableDtype) -> None:
    case = operations.CASES[op](make_inputs(replace(SERVED, table=table), "cpu"), "auto")
    with torch.no_grad():
        for call in (case.ours, *case.peers.values()):
            case.check(call(0))
    if op == "behavior_search":
        pytest.importorskip("faiss")
        expected = {"torch"} if table in ("bfloat16", "float8") else {"torch", "numpy", "faiss"}
        assert set(case.peers) == expected


def test_calls_take_another_set_of_histories_each_turn() -> None:
    case = operations.search_case(make_inputs(SERVED, "cpu"), "auto")
    for call in (case.ours, *case.peers.values()):
        with pytest.raises(WrongResultError):
            case.check(call(1))


def test_a_peer_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, floors: Floors) -> None:
    monkeypatch.setattr(operations, "find_spec", lambda _name: None)
    row, left_out = measure(Task("behavior_search", SERVED), QUICK, floors)
    assert row["faiss_us"] is None
    assert left_out["faiss"] == "FAISS is not installed"


def test_a_wrong_peer_has_no_time(monkeypatch: pytest.MonkeyPatch, floors: Floors) -> None:
    right = operations.peers.numpy_search
    monkeypatch.setattr(operations.peers, "numpy_search", lambda *given: (right(*given)[0] + 1, right(*given)[1]))
    row, left_out = measure(Task("behavior_search", SERVED), QUICK, floors)
    assert row["numpy_us"] is None
    assert left_out["numpy"].startswith("its result is wrong: scores: 30 of 30 differ by up to 1 ")


def test_without_torch_there_is_no_row(monkeypatch: pytest.MonkeyPatch, floors: Floors) -> None:
    def out_of_memory(*given: object) -> object:
        raise MemoryError("16 GB")

    monkeypatch.setattr(operations.peers, "torch_search", out_of_memory)
    with pytest.raises(NotMeasuredError, match="no result: it failed: MemoryError: 16 GB"):
        measure(Task("behavior_search", SERVED), QUICK, floors)


def spoilt(op: str, change: Callable[[Any], Any]) -> Callable[..., Any]:
    """The op with every result changed but the reference's."""
    right = getattr(operations, op)

    def wrong(*given: Any, backend: str, **options: Any) -> Any:
        result = right(*given, backend=backend, **options)
        return result if backend == "reference" else change(result)

    return wrong


@pytest.mark.parametrize(
    ("task", "patched", "change", "message"),
    [
        pytest.param(
            Task("behavior_search", SERVED),
            "behavior_search",
            lambda found: found._replace(positions=found.positions.roll(1, -1)),
            "place 0 of target .* has position",
            id="search-order",
        ),
        pytest.param(
            Task("search_and_attend", SERVED),
            "search_and_attend",
            lambda found: found._replace(output=found.output * 1.01),
            "output: .* differ by up to",
            id="pooled-output",
        ),
        pytest.param(
            Task("target_attention", SERVED),
            "target_attention",
            lambda found: found._replace(weights=found.weights.roll(1, -1)),
            "weights: .* differ by up to",
            id="weights",
        ),
        pytest.param(
            Task("target_attention_with_gradients", TRAINED),
            "target_attention",
            lambda found: found._replace(output=found.output.detach() + 0.5 * (found.output - found.output.detach())),
            "query's gradient: .* differ by up to",
            id="gradient",
        ),
    ],
)
def test_a_wrong_result_has_no_row(
    task: Task,
    patched: str,
    change: Callable[[Any], Any],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    floors: Floors,
) -> None:
    monkeypatch.setattr(operations, patched, spoilt(patched, change))
    with pytest.raises(WrongResultError, match=message):
        measure(task, QUICK, floors)


def test_an_op_that_fails_has_no_row_and_its_error_is_told(monkeypatch: pytest.MonkeyPatch, floors: Floors) -> None:
    def fail(*given: object, **options: object) -> object:
        raise ValueError("backend 'triton' cannot run here\nmore")

    monkeypatch.setattr(operations, "behavior_search", fail)
    with pytest.raises(NotMeasuredError, match=r"^it failed: ValueError: backend 'triton' cannot run here$"):
        measure(Task("behavior_search", SERVED), QUICK, floors)


def reference_search(inputs: Inputs) -> tuple[Tensor, Tensor]:
    return operations.behavior_search(
        inputs.query,
        inputs.keys,
        inputs.rows[0],
        inputs.offsets,
        k=inputs.shape.k,
        recency_bias=inputs.recency_bias,
        backend="reference",
    )


def with_position(positions: Tensor, place: int, position: int) -> Tensor:
    changed = positions.clone()
    changed[1, 2, place] = position
    return changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda s, p: (s + 1e-3, p), "scores: 30 of 30 differ by up to 0.001", id="scores"),
        pytest.param(lambda s, p: (s * torch.nan, p), "scores: 30 of 30 differ by up to nan", id="nan"),
        pytest.param(lambda s, p: (s[:, :2], p), r"scores are \(2, 2, 5\)", id="shape"),
        pytest.param(lambda s, p: (s, p.int()), r"positions are .* torch.int32, expected", id="type"),
        pytest.param(lambda s, p: (s, with_position(p, 4, int(p[1, 2, 0]))), "returned twice", id="twice"),
        pytest.param(lambda s, p: (s, with_position(p, 3, 40)), r"position 40, expected \d+: .* None", id="outside"),
        pytest.param(lambda s, p: (s, with_position(p, 3, -1)), r"position -1, expected \d+", id="none"),
    ],
)
def test_a_search_is_held_to_the_reference(
    inputs: Inputs, change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], message: str
) -> None:
    expected = reference_search(inputs)
    check_search(inputs, expected, expected)
    with pytest.raises(WrongResultError, match=message):
        check_search(inputs, change(*expected), expected)


def test_only_behaviours_of_equal_scores_may_change_places(inputs: Inputs) -> None:
    rows = torch.arange(40, dtype=torch.int32).repeat(2)
    unbiased = replace(inputs, rows=(rows,), recency_bias=torch.zeros_like(inputs.recency_bias))
    first, second = reference_search(unbiased)[1][1, 2, :2].tolist()
    rows[40 + second] = rows[40 + first]
    tied = replace(unbiased, rows=(rows,))
    expected = reference_search(tied)
    swapped = expected[1].clone()
    swapped[1, 2, :2] = swapped[1, 2, :2].flip(0)
    check_search(tied, (expected[0], swapped), expected)
    with pytest.raises(WrongResultError, match="has position"):
        check_search(tied, (expected[0], expected[1].flip(-1)), expected)


def test_infinities_and_differences_within_the_tolerance_agree() -> None:
    check_close("x", torch.tensor([1.0, 2.0]), torch.tensor([1.00001, 2.0]), 1e-4)
    with pytest.raises(WrongResultError, match=r"the first at \[1\]: 2.1, expected 2$"):
        check_close("x", torch.tensor([1.0, 2.1]), torch.tensor([1.0, 2.0]), 1e-4)


def test_inputs_are_the_same_every_time_and_what_they_say() -> None:
    shape = replace(SERVED, table="float16")
    one, other = make_inputs(shape, "cpu"), make_inputs(shape, "cpu")
    assert torch.equal(one.query, other.query)
    assert torch.equal(one.query, one.query.half().float()), "half precision must lose nothing"
    assert len(one.rows) == len(one.positions) > 1
    assert not torch.equal(one.rows[0], one.rows[1])
    for mine, others in zip(one.positions, other.positions, strict=True):
        assert torch.equal(mine, others)
        assert bool(((mine >= 0) & (mine < 40)).all())
        assert bool((mine.sort(-1).values.diff() > 0).all()), "a position is pooled once"
    assert one.recency.tolist() == list(range(39, -1, -1))


@pytest.mark.parametrize("table", TABLES)
def test_tables_hold_what_they_are_drawn_from(table: shapes.TableDtype) -> None:
    stored, exact = (make_inputs(replace(SERVED, table=kind), "cpu") for kind in (table, "float32"))
    every = torch.arange(SERVED.vocabulary)
    torch.testing.assert_close(gather_rows(stored.keys, every), exact.keys, rtol=0.07, atol=0.02)


def test_k_above_the_length_is_refused() -> None:
    with pytest.raises(ValueError, match="k must be at most the length of its histories, got 41 > 40"):
        make_inputs(replace(SERVED, k=41), "cpu")


def test_floors_are_measured_once_and_are_positive(floors: Floors) -> None:
    for measured in (
        floors.copy_bandwidth,
        lambda: floors.gather_bandwidth(16, 50),
        lambda: floors.throughput("float32"),
    ):
        first = measured()
        assert 0 < first < math.inf
        assert measured() == first


def test_a_floor_is_the_larger_of_moving_and_computing(monkeypatch: pytest.MonkeyPatch) -> None:
    floors = Floors("cpu")
    monkeypatch.setattr(floors, "copy_bandwidth", lambda: 1e9)
    monkeypatch.setattr(floors, "gather_bandwidth", lambda row_bytes, _rows: {64: 2e8, 4: 1e7}[row_bytes])
    monkeypatch.setattr(floors, "throughput", lambda _table: 1e10)
    work = Work(gathered=((100, 64), (100, 4)), streamed=2_000, operations=100)
    # 6,400 B / 0.2 GB/s + 400 B / 0.01 GB/s + 2,000 B / 1 GB/s = 32 + 40 + 2 µs
    assert floors.floor_us(work, "int8", 50) == pytest.approx(74)
    assert floors.floor_us(replace(work, operations=1_000_000), "int8", 50) == pytest.approx(100)


@pytest.mark.parametrize(
    ("op", "table", "expected"),
    [
        # 2 x 40 keys of 16 B; query 96, bias 160, offsets 24, ids 320, 30 scores and positions 360; 2·2·3·40·4
        pytest.param(
            "behavior_search", "float32", Work(gathered=((80, 16),), streamed=960, operations=1920), id="fp32"
        ),
        pytest.param(
            "behavior_search", "int8", Work(gathered=((80, 4), (80, 4)), streamed=960, operations=1920), id="int8"
        ),
        # and 2 x 15 values of 24 B; 30 weights 120, output 144; 2·30·6 more
        pytest.param(
            "search_and_attend",
            "float32",
            Work(gathered=((80, 16), (30, 24)), streamed=1224, operations=2280),
            id="fused",
        ),
        # 30 ids 120, positions 240, weights 120, output 144; 2·30·(4 + 6)
        pytest.param(
            "target_attention",
            "float32",
            Work(gathered=((30, 16), (30, 24)), streamed=904, operations=600),
            id="attention",
        ),
    ],
)
def test_work_is_what_no_implementation_can_avoid(op: str, table: shapes.TableDtype, expected: Work) -> None:
    assert operations.CASES[op](make_inputs(replace(SERVED, table=table), "cpu"), "auto").work == expected


def test_work_of_training_counts_dense_gradients() -> None:
    work = operations.attention_gradients_case(make_inputs(TRAINED, "cpu"), "auto").work
    # Query, bias and offsets twice (560), 30 ids, 30 positions, output and its gradient (288), tables (2,000).
    assert work == Work(
        gathered=((30, 16), (30, 24)), streamed=560 + 120 + 240 + 288 + 2_000, operations=6 * 30 * (4 + 6)
    )


def test_each_takes_its_turn_in_every_round() -> None:
    seen: dict[str, list[int]] = {"a": [], "b": []}
    rounds: list[int] = []
    calls = {name: turns.append for name, turns in seen.items()}
    times = timing.in_turns(calls, rounds=7, device="cpu", on_round=lambda: rounds.append(len(seen["a"])))
    assert list(times) == ["a", "b"]
    assert len(rounds) == 7
    assert rounds == sorted(set(rounds)), "each round calls each at least once"
    for name, turns in seen.items():
        assert turns == list(range(len(turns)))
        assert times[name].samples >= 7
        assert 0 < times[name].p50_us <= times[name].p99_us


def test_plan_keeps_what_the_op_or_the_use_is_called() -> None:
    registry = [SERVED, replace(TRAINED, use="training step")]
    assert [task.op for task in plan(registry)] == operations.ops_of(SERVED) + operations.ops_of(TRAINED)
    assert [task.op for task in plan(registry, "search")].count("behavior_search") == 2
    assert {task.shape.use for task in plan(registry, "training")} == {"training step"}
    assert plan(registry, "nothing") == []


@pytest.mark.parametrize("registry", [shapes.cpu_shapes(), shapes.gpu_shapes()], ids=["cpu", "gpu"])
def test_the_registry_can_be_measured_whole(registry: list[Shape]) -> None:
    assert len({str(task) for task in plan(registry)}) == len(plan(registry))
    assert all(shape.k <= shape.length for shape in registry)
    assert all(shape.table == "float32" for shape in registry if shape.trained), "scaled rows have no gradients"
    assert {op for op, _ in plan(registry)} == set(operations.CASES)


def test_few_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match="rounds must be at least 5"):
        BenchConfig(rounds=4)


def test_the_machine_is_described_and_its_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    with threads(before + 1):
        described = describe("cpu")
        assert described["threads"] == before + 1
    assert torch.get_num_threads() == before
    assert described["torch"] == torch.__version__
    assert described["machine"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_both_are_replayed_as_graphs() -> None:
    task = Task("behavior_search", replace(SERVED, d=16, table="float16"))
    row, left_out = measure(task, BenchConfig(device="cuda", rounds=5), Floors("cuda", buffer_bytes=1 << 20, matrix=64))
    assert row["ours_graph_us"] > 0
    assert row["torch_graph_us"] > 0
    assert left_out == dict.fromkeys(("numpy", "faiss"), operations.ON_CPU_ALONE)
