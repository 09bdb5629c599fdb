"""One model in a process of its own: samples per CPU-second of training and scoring, and the memory that took at most.

    python -m recsys.training.benchmarks.alone --model dare --dim 16 --items 4000 --history 200

One thread. Steps and scorings are timed one by one after a warm-up; the row has their medians. Every step has a batch
of its own, as in training.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import torch

from recsys.errors import DataError
from recsys.training.benchmarks.inputs import BATCH, L2, categories_of, made_batch, made_model
from recsys.training.step import OptimizerName, make_optimizer, settle, train_step

WARM_UP = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What one model took."""

    model: str
    d: int
    """Size of each embedding."""
    n_items: int
    history: int
    """Behaviours of each sample."""
    train_samples_per_cpu_s: int
    infer_samples_per_cpu_s: int
    peak_rss_mb: int
    """Most memory that the process had at any moment, MB: the interpreter and torch among it."""


def measure_alone(
    model: str, *, d: int, n_items: int, history: int, rounds: int, optimizer: OptimizerName = "adam"
) -> Row:
    """The row of `model`, measured in a process of its own. Raises DataError with what it said where it failed."""
    numbers = {"dim": d, "items": n_items, "history": history, "rounds": rounds}
    words = [f"--{name}={value}" for name, value in numbers.items()]
    command = [
        sys.executable,
        "-m",
        "recsys.training.benchmarks.alone",
        f"--model={model}",
        f"--optimizer={optimizer}",
        *words,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DataError(
            f"measuring {model} with {n_items:,} items and histories of {history:,} ended with {done.returncode}: "
            f"{done.stderr.strip()[-500:] or 'killed, probably for memory; ask for less'}"
        )
    return Row(**json.loads(done.stdout))


def measure(model: str, *, d: int, n_items: int, history: int, rounds: int, optimizer: OptimizerName) -> Row:
    """The row of `model`, measured in this process."""
    generator = torch.Generator().manual_seed(0)
    ours = made_model(model, n_items, d, history, categories_of(n_items, generator), generator)
    stepper = make_optimizer(ours, 0.01, optimizer)

    def train() -> float:
        batch = made_batch(n_items, history, generator)
        return _seconds(lambda: train_step(ours, stepper, batch, l2=L2, samples_of_all_workers=batch.n_samples))

    trained = statistics.median([train() for _ in range(rounds + WARM_UP)][WARM_UP:])
    settle(stepper)
    serving = ours.serving()

    def score() -> float:
        batch = made_batch(n_items, history, generator)
        return _seconds(lambda: serving.score(batch.rows, batch.offsets, batch.targets, longest=batch.longest))

    scored = statistics.median([score() for _ in range(rounds + WARM_UP)][WARM_UP:])
    return Row(
        model=model,
        d=d,
        n_items=n_items,
        history=history,
        train_samples_per_cpu_s=round(BATCH / trained),
        infer_samples_per_cpu_s=round(BATCH / scored),
        peak_rss_mb=round(peak_rss_bytes() / 1e6),
    )


def peak_rss_bytes() -> int:
    """The most memory that this process has had; getrusage, for where there is no /proc, counts a parent's as well."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _seconds(action: Callable[[], object]) -> float:
    begin = time.process_time()
    action()
    return time.process_time() - begin


def main() -> None:
    """Measure one model and print its row as a JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="dare")
    parser.add_argument("--dim", type=int, default=16)
    parser.add_argument("--items", type=int, default=4_000)
    parser.add_argument("--history", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--optimizer", default="adam")
    options = parser.parse_args()
    torch.set_num_threads(1)
    row = measure(
        options.model,
        d=options.dim,
        n_items=options.items,
        history=options.history,
        rounds=options.rounds,
        optimizer=cast(OptimizerName, options.optimizer),
    )
    print(json.dumps(asdict(row)))


if __name__ == "__main__":
    main()
