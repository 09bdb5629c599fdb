"""Measure an op at a shape: check its result, time it beside its peers, and give the row that is printed."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch

from recollect_kernels import Backend
from recollect_kernels.benchmarks.agreement import NotMeasuredError, WrongResultError
from recollect_kernels.benchmarks.floors import Floors
from recollect_kernels.benchmarks.inputs import make_inputs
from recollect_kernels.benchmarks.operations import CASES, Case, ops_of
from recollect_kernels.benchmarks.shapes import Shape
from recollect_kernels.benchmarks.timing import Call, in_turns, replayed

Device = Literal["cpu", "cuda"]
Row = dict[str, Any]
"""Field to figure, as it is printed as JSON."""
OTHER_PEERS = ("numpy", "faiss", "compiled", "ours_graph", "torch_graph")
"""What a row may hold times of besides `ours` and `torch`; a graph is a CUDA graph replayed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchConfig:
    """How everything of a run is measured."""

    device: Device = "cpu"
    backend: Backend = "auto"
    """Implementation that is measured."""
    rounds: int = 9
    """Rounds in which all take a turn; at least 5."""

    def __post_init__(self) -> None:
        if self.rounds < 5:
            raise ValueError(f"rounds must be at least 5 for a median that means something, got {self.rounds}")


class Task(NamedTuple):
    """One row to be measured."""

    op: str
    """A name of CASES."""
    shape: Shape

    def __str__(self) -> str:
        s = self.shape
        return f"{self.op}, {s.use} (B {s.b}, T {s.t}, L {s.length}, d {s.d}, k {s.k}, {s.table})"


class Measured(NamedTuple):
    """What came of a task."""

    row: Row
    """Begins with op, device, B, T, L, d, k, ours_us, torch_us, ratio, floor_us, correct; times in microseconds a
    call, without a suffix medians."""
    left_out: dict[str, str]
    """Peers without a time, and why."""


def plan(shapes: Iterable[Shape], only: str | None = None) -> list[Task]:
    """Every op of every shape, or those whose op or use has `only` in it."""
    tasks = [Task(op, shape) for shape in shapes for op in ops_of(shape)]
    return [task for task in tasks if only is None or only in task.op or only in task.shape.use]


def measure(
    task: Task, config: BenchConfig, floors: Floors, *, on_round: Callable[[], object] = lambda: None
) -> Measured:
    """Check and time one task.

    Raises NotMeasuredError where the op fails or its result is not the reference's. Peers are held to the reference
    as well: one that fails, or gives something else, has no time.
    """
    shape = task.shape
    case = CASES[task.op](make_inputs(shape, config.device), config.backend)
    with torch.set_grad_enabled(case.gradients):
        _check_ours(case)
        calls: dict[str, Call] = {"ours": case.ours}
        left_out = dict(case.left_out)
        for name, call in case.peers.items():
            reason = _why_not(case, call)
            if reason is None:
                calls[name] = call
            else:
                left_out[name] = reason
        if "torch" not in calls:
            raise NotMeasuredError(f"torch, to which it is compared, has no result: {left_out['torch']}")
        if config.device == "cuda" and not case.gradients:
            _add_replays(calls, left_out)
        times = in_turns(calls, rounds=config.rounds, device=config.device, on_round=on_round)
    ours, torch_ = times["ours"], times["torch"]
    floor_us = floors.floor_us(case.work, shape.table, shape.vocabulary)
    row: Row = {
        "op": task.op,
        "device": config.device,
        "B": shape.b,
        "T": shape.t,
        "L": shape.length,
        "d": shape.d,
        "k": case.k,
        "ours_us": round(ours.p50_us, 1),
        "torch_us": round(torch_.p50_us, 1),
        "ratio": round(torch_.p50_us / ours.p50_us, 3),
        "floor_us": round(floor_us, 2),
        "correct": True,
        "use": shape.use,
        "e": shape.e,
        "table": shape.table,
        "vocabulary": shape.vocabulary,
        "backend": config.backend,
        "ours_p99_us": round(ours.p99_us, 1),
        "torch_p99_us": round(torch_.p99_us, 1),
        "ours_cpu_us": round(ours.cpu_us, 1),
        "torch_cpu_us": round(torch_.cpu_us, 1),
        **{f"{name}_us": round(times[name].p50_us, 1) if name in times else None for name in OTHER_PEERS},
        "rounds": config.rounds,
        "samples": ours.samples,
    }
    return Measured(row, left_out)


def _check_ours(case: Case) -> None:
    try:
        result = case.ours(0)
    except Exception as error:  # one op that fails is not the end of a long run
        raise NotMeasuredError(f"it failed: {_told(error)}") from error
    case.check(result)


def _why_not(case: Case, call: Call) -> str | None:
    """Why a peer has no time, or None where its result is right."""
    try:
        case.check(call(0))
    except WrongResultError as error:
        return f"its result is wrong: {error}"
    except Exception as error:  # such as too little memory for what a peer keeps
        return f"it failed: {_told(error)}"
    return None


def _add_replays(calls: dict[str, Call], left_out: dict[str, str]) -> None:
    for name in ("ours", "torch"):
        try:
            calls[f"{name}_graph"] = replayed(calls[name])
        except RuntimeError as error:
            left_out[f"{name}_graph"] = f"it cannot be captured: {_told(error)}"


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'without a text'}"
