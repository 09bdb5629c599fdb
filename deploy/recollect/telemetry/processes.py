"""Tell the metrics of all processes of a machine as one: their sum, in which a process that was killed still counts."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from recollect.telemetry.metrics import REGISTRY

DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""What prometheus_client reads when it is imported."""
_LIVE = re.compile(r"gauge_live\w+?_(\d+)\.db")


def collected() -> CollectorRegistry:
    """The metrics of this process, or of all that share its directory; blocking."""
    directory = os.environ.get(DIRECTORY_VARIABLE)
    registry = CollectorRegistry()
    if directory is None:
        registry.register(_Told(REGISTRY))
        return registry
    forget_dead(Path(directory))
    registry.register(_Told(MultiProcessCollector(None, directory)))  # type: ignore[no-untyped-call]
    return registry


class _Told(Collector):
    """All but versions that nothing answers with any more: of these there is one more with each activation."""

    def __init__(self, of: Collector) -> None:
        self._of = of

    def collect(self) -> Iterator[Metric]:
        """Called by the registry."""
        for metric in self._of.collect():
            if metric.name == "recollect_replicas_serving":
                metric.samples = [sample for sample in metric.samples if sample.value]
            yield metric


def forget_dead(directory: Path) -> None:
    """Have processes that have ended count in no gauge; their counters stay."""
    for path in directory.iterdir():
        found = _LIVE.fullmatch(path.name)
        if found is not None and not _alive(int(found[1])):
            with contextlib.suppress(FileNotFoundError):  # another process did so at the same moment
                mark_process_dead(int(found[1]), str(directory))  # type: ignore[no-untyped-call]


def begin_directory(directory: Path) -> None:
    """Make the directory of a service that starts, and remove those of services that had its port before."""
    directory.mkdir(parents=True, exist_ok=True)
    for other in directory.parent.iterdir():
        if other != directory:
            shutil.rmtree(other, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
