"""Begin telemetry in a process of the service, and end it: its log, its traces, the port of its metrics."""

import logging
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from recollect.errors import SetupError
from recollect.telemetry.logs import LogConfig, write_logs

if TYPE_CHECKING:
    from recollect.telemetry.exporter import MetricsConfig
    from recollect.telemetry.tracing import TracingConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class TelemetryConfig:
    """What every process of a service is given."""

    logs: LogConfig = field(default_factory=LogConfig)
    metrics: "MetricsConfig | None" = None
    """Where metrics are told; None: nowhere."""
    tracing: "TracingConfig | None" = None
    """Where traces go; None: nothing is traced."""

    @property
    def environment(self) -> dict[str, str]:
        """Variables that a process of the service is started with."""
        from recollect.telemetry.processes import DIRECTORY_VARIABLE

        if self.metrics is None or self.metrics.directory is None:
            return {}
        return {DIRECTORY_VARIABLE: str(self.metrics.directory)}


class Telemetry:
    """Telemetry of this process, until `stop`."""

    def __init__(self, config: TelemetryConfig, role: str) -> None:
        """`role` is what the process does, "gateway", "classification" or "composed retrieval".

        A process that cannot tell its metrics or traces says so in the log and does its work.
        """
        from recollect.telemetry.exporter import Exporter
        from recollect.telemetry.metrics import PROCESS_START
        from recollect.telemetry.processes import begin_directory
        from recollect.telemetry.tracing import Tracing

        write_logs(config.logs)
        self._tracing: Tracing | None = None
        self._exporter: Exporter | None = None
        try:
            if config.tracing is not None:
                self._tracing = Tracing(config.tracing, role)
            if config.metrics is not None:
                if config.metrics.directory is not None:
                    begin_directory(config.metrics.directory)
                self._exporter = Exporter(config.metrics)
        except SetupError as error:
            log.error("this process is not observed as it should be: %s", error)
        PROCESS_START.labels(role, version("recollect")).set(time.time())

    def stop(self) -> None:
        """Tell what is left to be told; blocking."""
        if self._exporter is not None:
            self._exporter.stop()
        if self._tracing is not None:
            self._tracing.stop()


def deployment_options(config: TelemetryConfig, options: dict[str, Any]) -> dict[str, Any]:
    """`options` of a Serve deployment, so that its processes count where the others do."""
    if not config.environment:
        return options
    actor = {**options.get("ray_actor_options", {}), "runtime_env": {"env_vars": config.environment}}
    return {**options, "ray_actor_options": actor}
