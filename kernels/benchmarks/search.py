"""Time behavior_search on the CPU beside torch's own gather, matrix product and topk, and beside the reference.

    python kernels/benchmarks/search.py [--rounds 9] [--threads 2] [--json]

A shape is only timed after its result was checked against the reference. The three take turns within a round; the table
has medians over rounds. `torch` gives no order to ties and no answer for NaN; it is the speed to beat, not a twin.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import torch

from recollect_kernels import behavior_search

VOCABULARY = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """One call: B histories of L behaviours, T targets each, rows of d, the k best."""

    b: int
    t: int
    length: int
    d: int
    k: int


SHAPES = [
    Shape(b=1, t=1, length=200, d=16, k=20),
    Shape(b=1, t=1, length=10_000, d=16, k=32),
    Shape(b=1, t=1, length=50_000, d=16, k=32),
    Shape(b=1, t=100, length=1_000, d=32, k=20),
    Shape(b=1, t=100, length=10_000, d=32, k=20),
    Shape(b=1, t=100, length=10_000, d=16, k=32),
    Shape(b=1, t=500, length=10_000, d=16, k=32),
    Shape(b=1, t=100, length=50_000, d=16, k=32),
    Shape(b=1, t=500, length=50_000, d=16, k=32),
    Shape(b=64, t=1, length=10_000, d=16, k=32),
    Shape(b=682, t=3, length=200, d=32, k=20),
]


def measure(shape: Shape, rounds: int) -> dict[str, object]:
    """One row; AssertionError where the result is wrong."""
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(VOCABULARY, shape.d, generator=generator)
    rows = torch.randint(0, VOCABULARY, (shape.b * shape.length,), generator=generator, dtype=torch.int32)
    offsets = torch.arange(shape.b + 1) * shape.length
    query = torch.randn(shape.b, shape.t, shape.d, generator=generator)
    bias = torch.randn(200, generator=generator)
    column = torch.arange(shape.length - 1, -1, -1).clamp(max=len(bias) - 1)

    def ours() -> torch.Tensor:
        return behavior_search(query, table, rows, offsets, k=shape.k, recency_bias=bias).positions

    def reference() -> torch.Tensor:
        arguments = (query, table, rows, offsets)
        return behavior_search(*arguments, k=shape.k, recency_bias=bias, backend="reference").positions

    def peer() -> torch.Tensor:
        behaviours = table[rows].view(shape.b, shape.length, shape.d)
        return (query @ behaviours.transpose(1, 2) + bias[column]).topk(shape.k).indices

    # Scores that are equal but for rounding may change places.
    agreement = (ours() == reference()).float().mean().item()
    assert agreement > 0.999, f"{shape}: only {agreement:.4f} of the positions are the reference's"
    ours_ms, reference_ms, peer_ms = _in_turns([ours, reference, peer], rounds)
    return {
        "op": "behavior_search",
        "device": "cpu",
        "B": shape.b,
        "T": shape.t,
        "L": shape.length,
        "d": shape.d,
        "k": shape.k,
        "ours_us": round(1e3 * ours_ms),
        "torch_us": round(1e3 * peer_ms),
        "ratio": round(peer_ms / ours_ms, 2),
        "reference_us": round(1e3 * reference_ms),
        "reference_ratio": round(reference_ms / ours_ms, 2),
        "correct": True,
    }


def _in_turns(functions: list[Callable[[], object]], rounds: int) -> list[float]:
    """Median milliseconds of each, after one warm-up."""
    times: list[list[float]] = [[] for _ in functions]
    for turn in range(rounds + 1):
        for function, kept in zip(functions, times, strict=True):
            began = time.perf_counter()
            function()
            if turn > 0:
                kept.append(1e3 * (time.perf_counter() - began))
    return [statistics.median(kept) for kept in times]


def main() -> None:
    """Measure every shape and print a Markdown table, or JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = [measure(shape, options.rounds) for shape in SHAPES]
    if options.json:
        for row in rows:
            print(json.dumps(row))
        return
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, {options.threads} threads, torch {torch.__version__}, "
        f"{options.rounds} rounds\n"
    )
    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(str(value) for value in row.values()) + " |")


if __name__ == "__main__":
    main()
