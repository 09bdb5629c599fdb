"""Samples per CPU-second of training and scoring, ours and the released design in turns on one thread.

    python -m recsys.training.benchmarks.throughput [--items 100000 4070000] [--dims 16 64] [--rounds 5] [--json]

Histories are full (N behaviours) with popularity-skewed items. A round times one step of each, alternating; the table
gives medians over rounds.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime

import torch

from recsys.models.batch import Batch
from recsys.models.dare import Dare, DareConfig
from recsys.training.benchmarks.peer import PaddedBatch, PeerDare
from recsys.training.step import make_optimizer, train_step

N, K, TARGETS, CATEGORIES, BATCH, L2 = 200, 20, 3, 9_400, 2_046, 1e-6


def measure(items: int, d: int, rounds: int) -> dict[str, object]:
    """One row: both designs on the same samples."""
    generator = torch.Generator().manual_seed(0)
    category_of_item = torch.randint(1, CATEGORIES + 1, (items + 1,), generator=generator)
    category_of_item[0] = 0
    sizes = DareConfig(
        n_items=items, n_categories=CATEGORIES, attention_dim=d, representation_dim=d, n_positions=N, search_k=K
    )
    batch = _batch(items, generator)
    padded = _padded(batch, category_of_item)
    ours = Dare(sizes, category_of_item, generator=generator)
    optimizer = make_optimizer(ours, 0.01)
    peer = PeerDare(items, CATEGORIES, d=d, n=N, k=K)
    peer_optimizer = torch.optim.Adam(peer.parameters(), lr=0.01)
    train = _alternate(
        lambda: train_step(ours, optimizer, batch, l2=L2, samples_of_all_workers=batch.n_samples),
        lambda: peer.step(peer_optimizer, padded, L2),
        rounds,
    )
    serving = ours.serving()
    peer.eval()
    with torch.inference_mode():
        score = _alternate(
            lambda: serving.score(batch.rows, batch.offsets, batch.targets), lambda: peer(padded), rounds
        )
    row: dict[str, object] = {"items": items, "d": d}
    for name, ((our_cpu, our_wall), (peer_cpu, peer_wall)) in (("train", train), ("score", score)):
        row |= {
            f"{name}_per_cpu_s": round(BATCH / our_cpu),
            f"{name}_peer_per_cpu_s": round(BATCH / peer_cpu),
            f"{name}_ratio_cpu": round(peer_cpu / our_cpu, 2),
            f"{name}_ratio_wall": round(peer_wall / our_wall, 2),
        }
    return row


def _alternate(
    ours: Callable[[], object], peer: Callable[[], object], rounds: int
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Median (CPU, wall) seconds of each, taken in turns after one warm-up."""
    times: tuple[list[tuple[float, float]], ...] = ([], [])
    for turn in range(rounds + 1):
        for function, kept in ((ours, times[0]), (peer, times[1])):
            cpu, wall = time.process_time(), time.perf_counter()
            function()
            if turn > 0:
                kept.append((time.process_time() - cpu, time.perf_counter() - wall))
    first, second = (
        (statistics.median(cpu for cpu, _ in kept), statistics.median(wall for _, wall in kept)) for kept in times
    )
    return first, second


def _batch(items: int, generator: torch.Generator) -> Batch:
    groups = BATCH // TARGETS
    skewed = torch.rand(groups * (N + TARGETS), generator=generator).pow(3)  # popular rows are small numbers
    ids = (1 + skewed * (items - 1)).to(torch.int32)
    labels = torch.zeros(groups, TARGETS, dtype=torch.uint8)
    labels[:, 0] = 1
    offsets = torch.arange(groups + 1) * N
    return Batch(ids[: groups * N], offsets, ids[groups * N :].view(groups, TARGETS), labels, longest=N)


def _padded(batch: Batch, category_of_item: torch.Tensor) -> PaddedBatch:
    items = batch.rows.view(-1, 1, N).expand(-1, TARGETS, -1).reshape(-1, N).long()
    targets = batch.targets.flatten().long()
    return PaddedBatch(
        items, category_of_item[items], targets, category_of_item[targets], batch.labels.flatten().long()
    )


def main() -> None:
    """Measure every shape and print a Markdown table, or JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[100_000, 4_070_000])
    parser.add_argument("--dims", type=int, nargs="+", default=[16, 64])
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
