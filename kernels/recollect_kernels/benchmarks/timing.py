"""Time several ways of doing one thing in turns, so that what slows the machine slows all of them."""

import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Protocol

import torch

Call = Callable[[int], object]
"""What is timed; it is told its turn, 0, 1, 2, …, so that it can take other inputs each time."""

_SAMPLE_S = 2e-3
"""Seconds that a sample lasts at least; what takes less is repeated within it."""
_TURN_S = 2e-2
"""Seconds after which a turn within a round ends, if it has a sample."""
_MOST_SAMPLES_A_TURN = 10
_REST_S = 0.05
"""Seconds of rest before a turn: threads of the library that ran before spin for more work and keep their core."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """Time of one call. A sample is the mean over its repetitions; percentiles are over samples."""

    p50_us: float
    """Median, microseconds."""
    p99_us: float
    """99th percentile, interpolated: close to the slowest where there are fewer than 100 samples."""
    cpu_us: float
    """Median of the CPU time of all threads of this process, microseconds."""
    samples: int
    """Number of samples over all rounds."""


class Stopwatch(Protocol):
    """Measures a piece of work."""

    def __call__(self, work: Callable[[], object], /) -> float:
        """Do the work and give the seconds that it took."""


def in_turns(
    calls: Mapping[str, Call],
    *,
    rounds: int,
    device: str,
    on_round: Callable[[], object] = lambda: None,
) -> dict[str, Timing]:
    """Time each of `calls` in every one of `rounds` rounds, in another order each.

    All are warmed up first, and a turn begins with a rest and a run that does not count. On a GPU the time is that
    between two events on its stream. `on_round` is called after each round.
    """
    stopwatch = _event_seconds if device == "cuda" else _wall_seconds
    runners = [_Runner(call, stopwatch) for call in calls.values()]
    order = random.Random(0)
    for _ in range(rounds):
        for runner in order.sample(runners, len(runners)):
            runner.take_turn()
        on_round()
    return {name: runner.timing() for name, runner in zip(calls, runners, strict=True)}


class _Runner:
    """One way of doing it: how often it is repeated, and its samples."""

    def __init__(self, call: Call, stopwatch: Stopwatch) -> None:
        self._call, self._stopwatch = call, stopwatch
        self._turns = count()
        self._repetitions = 1
        self._wall: list[float] = []
        self._cpu: list[float] = []
        self._run()
        # A short first guess misses what a longer run shows, such as a core that has woken up.
        while (seconds := stopwatch(self._run)) < _SAMPLE_S:
            needed = self._repetitions * _SAMPLE_S / max(seconds, 1e-7)
            self._repetitions = max(self._repetitions + 1, math.ceil(1.2 * needed))
        self._samples = max(1, min(_MOST_SAMPLES_A_TURN, int(_TURN_S / seconds)))

    def _run(self) -> None:
        for _ in range(self._repetitions):
            self._call(next(self._turns))

    def take_turn(self) -> None:
        """Add this round's samples."""
        time.sleep(_REST_S)
        self._run()
        for _ in range(self._samples):
            began = time.process_time()
            self._wall.append(self._stopwatch(self._run) / self._repetitions)
            self._cpu.append((time.process_time() - began) / self._repetitions)

    def timing(self) -> Timing:
        """What all samples say."""
        wall = 1e6 * torch.tensor(self._wall, dtype=torch.float64)
        cpu = 1e6 * torch.tensor(self._cpu, dtype=torch.float64)
        return Timing(
            p50_us=float(wall.quantile(0.5)),
            p99_us=float(wall.quantile(0.99)),
            cpu_us=float(cpu.quantile(0.5)),
            samples=len(wall),
        )


def _wall_seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _event_seconds(work: Callable[[], object]) -> float:
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    began.record()
    work()
    ended.record()
    ended.synchronize()
    return float(began.elapsed_time(ended)) / 1e3


def replayed(call: Call) -> Call:
    """`call` with the inputs of its first turn as a CUDA graph, which costs the host one launch.

    Its inputs are the same in each turn, and may stay in the GPU's cache. RuntimeError where it cannot be captured.
    """
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call(0)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call(0)
    return lambda _turn: graph.replay()
