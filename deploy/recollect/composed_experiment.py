"""Run the ablations of composed retrieval on Ray, as many at once as there are processors."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from retrieval.composed.experiment import Variant, freeze_all, run_name, run_one
from retrieval.composed.training.config import ComposedTrainConfig
from retrieval.composed.training.job import TrainJob


def run_all(
    job: TrainJob,
    config: ComposedTrainConfig,
    rows: Sequence[Variant],
    seeds: Sequence[int],
    directory: Path,
    *,
    split: str = "test",
    on_done: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Train and evaluate every variant with every seed; returns what `run_one` does, variant by variant.

    Ray must be initialised. Every run starts from the same model, sees the same queries and takes as many steps. Runs
    that `directory` holds already are not repeated, and one that was killed goes on.
    """
    import ray

    # The image encoder runs before the runs that share what it says.
    freeze_all(job, rows, split)
    task = ray.remote(num_cpus=1)(run_one)
    waiting = {
        task.remote(job, config, variant, seed, directory / run_name(variant, seed), split): (at, place)
        for place, seed in enumerate(seeds)
        for at, variant in enumerate(rows)
    }
    results: dict[tuple[int, int], dict[str, Any]] = {}
    total = len(waiting)
    while waiting:
        (ready,), _ = ray.wait(list(waiting), num_returns=1)
        results[waiting.pop(ready)] = ray.get(ready)
        if on_done is not None:
            on_done(len(results), total)
    return [results[key] for key in sorted(results)]
