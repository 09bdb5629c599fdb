"""Samples per CPU-second of training and scoring, ours and the released design in turns on one thread.

    python -m recsys.training.benchmarks.throughput [--items 4000 4070000] [--dims 16] [--rounds 5] [--json]

A round times one step of each, ours with dense Adam and by rows, alternating; the table gives medians over rounds.
Every round has a batch of its own. A row-wise optimizer owes steps until a validation asks for them: those of as many
rounds are paid off at the end, and `settle_s` is what that took, once a validation.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import get_args

import torch

from recsys.models.batch import Batch
from recsys.models.model import Model
from recsys.training.benchmarks.inputs import BATCH, CATEGORIES, L2, TARGETS, K, categories_of, made_batch, made_model
from recsys.training.benchmarks.peer import PaddedBatch, PeerDare
from recsys.training.step import OPTIMIZERS, OptimizerName, make_optimizer, settle, train_step

N = 200
WARM_UP = 2


def measure(items: int, d: int, rounds: int) -> dict[str, object]:
    """One row: all designs on the same samples."""
    generator = torch.Generator().manual_seed(0)
    categories = categories_of(items, generator)
    batches = [made_batch(items, N, generator) for _ in range(rounds + WARM_UP)]
    padded = [_padded(batch, categories) for batch in batches]
    models, steps = [], []
    for name in get_args(OptimizerName):
        ours = made_model("dare", items, d, N, categories, torch.Generator().manual_seed(0))
        optimizer = make_optimizer(ours, 0.01, name)
        models.append((ours, optimizer))
        steps.append(_step_of(ours, optimizer, batches))
    peer = PeerDare(items, CATEGORIES, d=d, n=N, k=K)
    peer_optimizer = torch.optim.Adam(peer.parameters(), lr=0.01)
    steps.append(lambda turn: peer.step(peer_optimizer, padded[turn], L2))
    *of_ours, of_peer = _in_turns(steps, rounds)
    row: dict[str, object] = {"items": items, "d": d}
    for name, seconds in zip(OPTIMIZERS, of_ours, strict=True):
        row |= {f"train_{name}_per_cpu_s": round(BATCH / seconds), f"{name}_ratio": round(of_peer / seconds, 2)}
    row["train_peer_per_cpu_s"] = round(BATCH / of_peer)
    begin = time.process_time()
    settle(models[-1][1])
    row["settle_s"] = round(time.process_time() - begin, 2)
    serving = models[0][0].serving()
    peer.eval()
    with torch.inference_mode():
        ours_s, peer_s = _in_turns(
            [
                lambda turn: serving.score(batches[turn].rows, batches[turn].offsets, batches[turn].targets),
                lambda turn: peer(padded[turn]),
            ],
            rounds,
        )
    return row | {
        "score_per_cpu_s": round(BATCH / ours_s),
        "score_peer_per_cpu_s": round(BATCH / peer_s),
        "score_ratio": round(peer_s / ours_s, 2),
    }


def _step_of(model: Model, optimizer: torch.optim.Optimizer, batches: Sequence[Batch]) -> Callable[[int], object]:
    def step(turn: int) -> object:
        batch = batches[turn]
        return train_step(model, optimizer, batch, l2=L2, samples_of_all_workers=batch.n_samples)

    return step


def _in_turns(actions: Sequence[Callable[[int], object]], rounds: int) -> list[float]:
    """Median CPU seconds of each, taken in turns after a warm-up; they are told which round it is."""
    times: list[list[float]] = [[] for _ in actions]
    for turn in range(rounds + WARM_UP):
        for action, kept in zip(actions, times, strict=True):
            begin = time.process_time()
            action(turn)
            if turn >= WARM_UP:
                kept.append(time.process_time() - begin)
    return [statistics.median(kept) for kept in times]


def _padded(batch: Batch, category_of_item: torch.Tensor) -> PaddedBatch:
    items = batch.rows.view(-1, 1, N).expand(-1, TARGETS, -1).reshape(-1, N).long()
    targets = batch.targets.flatten().long()
    return PaddedBatch(
        items, category_of_item[items], targets, category_of_item[targets], batch.labels.flatten().long()
    )


def main() -> None:
    """Measure every shape and print a Markdown table, or JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[4_000, 4_070_000])
    parser.add_argument("--dims", type=int, nargs="+", default=[16])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [measure(items, d, options.rounds) for items in options.items for d in options.dims]
    if options.json:
        for row in rows:
            print(json.dumps(row))
        return
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, 1 thread, torch {torch.__version__}, "
        f"batch {BATCH}, N {N}, K {K}\n"
    )
    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(str(value) for value in row.values()) + " |")


if __name__ == "__main__":
    main()
