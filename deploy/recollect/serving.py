"""Build the application for `serve deploy` and KubeRay: a file says what runs, and a cluster that is there runs it.

`recollect serve` starts the same application (`recollect.serve_app`) from a process that stays; here nobody stays, so
what that process holds must come from elsewhere: a Redis with a URL, a port that is told, paths that mean the same on
every node.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from recollect.errors import SetupError
from recollect.security.exposure import require_guarded
from recollect.serve_app import gateway_application
from recollect.serve_config import artifact_models, gateway_config, telemetry_config
from recollect.settings import Settings

if TYPE_CHECKING:
    from ray.serve import Application

MODEL = "dare@stable"
"""What replicas answer with where `user_config` names no other."""


def application(settings: Settings) -> "Application":
    """The application of `settings`, which Serve reads from `args`; behind them come `RECOLLECT_*` of the node's
    environment and the file that `RECOLLECT_CONFIG` names.

    `replicas` are those of a node. How many there are in all is the deployment's `num_replicas` or
    `autoscaling_config`, and which model answers its `user_config`. SetupError for what a cluster cannot do.
    """
    _require_cluster(settings)
    require_guarded(settings)
    assert settings.redis_url is not None
    return gateway_application(
        settings,
        gateway_config(settings, settings.port),
        model=MODEL if settings.recommender else None,
        models=artifact_models(settings) if settings.recommender else None,
        redis_url=settings.redis_url,
        telemetry=telemetry_config(settings, settings.metrics_port, None),
        most_per_node=settings.replicas,
    )


def _require_cluster(settings: Settings) -> None:
    if settings.redis_url is None:
        raise SetupError(
            "redis_url is missing: replicas on several nodes cannot share a private Redis; set RECOLLECT_REDIS_URL on "
            "every node"
        )
    if settings.port == 0:
        raise SetupError("port 0 takes a free one that no client would know; set the port that all nodes listen on")
    if settings.metrics_port == 0:
        raise SetupError("metrics_port 0 takes a free one that Prometheus would not know; set the port of all nodes")
    if settings.admin_port is not None:
        raise SetupError(
            f"admin_port {settings.admin_port} belongs to `recollect serve`: no process of a cluster has it; take it "
            "away, build and activate with the commands where RECOLLECT_ARTIFACTS is set, and replicas follow the label"
        )
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, Path) and not value.is_absolute():
            raise SetupError(
                f"{name} is {value}, which replicas would look for in a directory of Ray's; give the whole path"
            )
