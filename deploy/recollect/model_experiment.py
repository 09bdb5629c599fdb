"""Run models side by side on Ray, each on one processor."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from recsys.data.event_store import EventStore
from recsys.errors import RecsysError
from recsys.training.config import TrainConfig
from recsys.training.experiment import Variant, run_one
from recsys.training.loop import claim


def claim_all(store: Path, config: TrainConfig, rows: Sequence[Variant], seeds: Sequence[int], directory: Path) -> None:
    """Make the run directories, or make sure that they are of this configuration and data; ConfigError where not.

    What is wrong with the store or the options is then told before Ray starts.
    """
    events = EventStore(store)
    for variant, seed in _runs(rows, seeds):
        claim(directory / variant.run_name(seed), variant.of(config, seed), events)


def run_all(
    store: Path,
    config: TrainConfig,
    rows: Sequence[Variant],
    seeds: Sequence[int],
    directory: Path,
    *,
    at_once: int | None = None,
    on_done: Callable[[int, int, Path], None] | None = None,
) -> list[dict[str, Any]]:
    """Train and measure every variant with every seed; returns what `run_one` does, variant by variant.

    Ray must be initialised. At most `at_once` runs are under way, and no more than there are processors. Runs that
    `directory` holds already are not repeated, and one that was killed goes on. `on_done` is called with (runs done,
    runs in all, the directory of the last).
    """
    import ray
    from ray.exceptions import RayTaskError

    task = ray.remote(num_cpus=1)(run_one)
    waiting = list(_runs(rows, seeds))
    total, most = len(waiting), at_once or len(waiting)
    under_way: dict[Any, tuple[Variant, int]] = {}
    results: dict[tuple[Variant, int], dict[str, Any]] = {}
    while waiting or under_way:
        while waiting and len(under_way) < most:
            variant, seed = waiting.pop(0)
            run = directory / variant.run_name(seed)
            under_way[task.remote(str(store.resolve()), config, variant, seed, run)] = variant, seed
        (ready,), _ = ray.wait(list(under_way), num_returns=1)
        done = under_way.pop(ready)
        try:
            results[done] = ray.get(ready)
        except RayTaskError as error:
            if isinstance(error.cause, RecsysError):
                raise error.cause from error
            raise
        if on_done is not None:
            on_done(len(results), total, directory / done[0].run_name(done[1]))
    return [results[variant, seed] for variant in rows for seed in seeds]


def _runs(rows: Sequence[Variant], seeds: Sequence[int]) -> Iterator[tuple[Variant, int]]:
    """Seed by seed, so that a table of all models is there early."""
    for seed in seeds:
        for variant in rows:
            yield variant, seed
