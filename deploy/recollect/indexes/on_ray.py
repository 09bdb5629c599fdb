"""Make the shards of an index side by side on the connected Ray cluster."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from recollect.settings import Settings
from retrieval.index.building import Apply


def shards_on_ray(settings: Settings) -> Apply:
    """Makes shards on the cluster of `settings`, or on a private node; neither is asked for where there are none."""

    def apply(function: Callable[[Any], None], tasks: Iterable[Any], /) -> Iterator[None]:
        from recollect.embedded.ray import ray_cluster

        tasks = list(tasks)
        if tasks:
            with ray_cluster(settings):
                yield from apply_on_ray(function, tasks)

    return apply


def apply_on_ray(function: Callable[[Any], None], tasks: Iterable[Any], /) -> Iterator[None]:
    """Call `function` with every task, as many at a time as the cluster has processors; yields as each is done.

    A task whose worker dies is repeated by Ray; what a task raises is raised here, as it was.
    """
    import ray

    remote = ray.remote(num_cpus=1)(_call)
    waiting = [remote.remote(function, task) for task in tasks]
    while waiting:
        done, waiting = ray.wait(waiting)
        for each in done:
            try:
                ray.get(each)
            except ray.exceptions.RayTaskError as error:
                for other in waiting:
                    ray.cancel(other)
                raise error.cause from error
            yield None


def _call(function: Callable[[Any], None], task: Any) -> None:
    function(task)
