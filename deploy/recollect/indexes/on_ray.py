"""Make the shards of an index side by side on the connected Ray cluster."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any


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
