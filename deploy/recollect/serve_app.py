"""Run the gateway on Ray Serve: replicas that share one port, heal, drain, and swap models without a failed call."""

import logging
import re
import socket
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from recollect.artifacts import MODELS
from recollect.artifacts.following import split_reference
from recollect.classification.deployment import ClassificationReplica
from recollect.composed.deployment import ComposedReplica
from recollect.errors import ArtifactError, SetupError
from recollect.gateway.address import address_of, client_address
from recollect.gateway.desired import DesiredModel
from recollect.gateway.models import ModelSource
from recollect.gateway.replica import DRAIN_S, GatewayReplica
from recollect.gateway.server import GatewayConfig
from recollect.security.certificates import read_identity
from recollect.security.exposure import require_guarded
from recollect.security.tokens import TokenFile
from recollect.serve_config import (
    artifact_models,
    canary_config,
    catalogue_source,
    classification_config,
    composed_config,
    gateway_config,
    index_source,
    serving_log_config,
    telemetry_config,
)
from recollect.settings import Settings
from recollect.telemetry.setup import TelemetryConfig, deployment_options
from recollect.telemetry.tracing import require_exporter
from recsys.data.event_store import EventStore

if TYPE_CHECKING:
    from ray.serve import Application
    from ray.serve.handle import DeploymentHandle

APPLICATION = "recollect"
"""Name of the Serve application; one cluster can run several gateways under different names."""
SWAP_TIMEOUT_S = 120.0
"""How long the replicas may take to load a model."""
HEALTH_CHECK_PERIOD_S = 2.0
HEALTH_CHECK_TIMEOUT_S = 10.0
START_ATTEMPTS = 3
"""How often Serve builds a replica that fails before it gives up."""
DEPLOYMENT_OPTIONS: dict[str, Any] = {
    # Reserved cores would keep a small machine from starting its second replica.
    "ray_actor_options": {"num_cpus": 0},
    "graceful_shutdown_timeout_s": DRAIN_S + 5,
    "graceful_shutdown_wait_loop_s": 0.2,
    "health_check_period_s": HEALTH_CHECK_PERIOD_S,
    "health_check_timeout_s": HEALTH_CHECK_TIMEOUT_S,
    "max_constructor_retry_count": START_ATTEMPTS,
    "logging_config": {"log_level": "WARNING", "enable_access_log": False},
}
"""What every deployment is started with."""


def run(
    settings: Settings,
    model: str | None,
    *,
    redis_url: str,
    models: ModelSource | None = None,
    application: str = APPLICATION,
    log_relay: Path | None = None,
) -> "RunningGateway":
    """Start `settings.replicas` gateways that answer with `model`, and return once they do.

    `model` is a reference such as `dare@stable`, `dare/<version>` or a model directory; None leaves the recommender
    out. Ray must be connected (see `recollect.embedded.ray.ray_cluster`). ArtifactError names a model that cannot be
    served; SetupError a port that is taken, an address that is not guarded, and a replica that does not start.
    """
    from ray import serve

    require_guarded(settings)
    source = None if model is None else models or artifact_models(settings)
    reference = None if source is None or model is None else source.pin(model)
    reservation = reserve_port(settings.host, settings.port)
    port: int = reservation.getsockname()[1]
    desired = DesiredModel(application=application)
    config = gateway_config(settings, port)
    metrics = None if settings.metrics_port is None else _reserve_metrics(settings, settings.metrics_port)
    telemetry = telemetry_config(settings, None if metrics is None else metrics.getsockname()[1], log_relay)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    gateways = gateway_application(
        settings, config, model=reference, models=source, redis_url=redis_url, telemetry=telemetry, desired=desired
    )
    try:
        if reference is not None:
            desired.set(reference)
        serve.start(proxy_location="Disabled", logging_config={"log_level": "WARNING"})
        handle = serve.run(gateways, name=application, route_prefix=None)
    except RuntimeError as error:
        reason = _reason(application) or str(error)
        serve.delete(application)
        desired.forget()
        reservation.close()
        if metrics is not None:
            metrics.close()
        raise SetupError(f"the gateway does not start: {reason}") from error
    return RunningGateway(handle, config, source, desired, [each for each in (reservation, metrics) if each], telemetry)


def gateway_application(
    settings: Settings,
    config: GatewayConfig,
    *,
    model: str | None,
    models: ModelSource | None,
    redis_url: str,
    telemetry: TelemetryConfig,
    desired: DesiredModel | None = None,
    most_per_node: int | None = None,
) -> "Application":
    """What Serve runs: gateways that listen as `config` says, and the deployments that they call.

    `model` is what replicas load from `models`: they follow it where it is a label, unless `desired` says what answers.
    `most_per_node` gateways run on one node of a cluster, where every replica takes a CPU of Ray, so that Ray asks for
    another node when there is none; None: any number, and no CPU.
    """
    from ray import serve

    options = deployment_options(telemetry, DEPLOYMENT_OPTIONS)
    bounded: dict[str, Any] = {}
    if most_per_node is not None:
        options = {**options, "ray_actor_options": {**options["ray_actor_options"], "num_cpus": 1}}
        bounded = {"max_replicas_per_node": most_per_node}
    deployment = serve.deployment(
        name="Gateway", num_replicas=settings.replicas, user_config={"model": model}, **bounded, **options
    )
    return deployment(GatewayReplica).bind(
        config=config,
        redis_url=redis_url,
        redis_timeout_s=settings.redis_timeout_s,
        models=models,
        desired=desired,
        classification=_classification(settings, telemetry, options) if settings.classification else None,
        composed=(
            None
            if settings.composed_model is None
            else _composed(settings, settings.composed_model, telemetry, options)
        ),
        canary=canary_config(settings),
        index=index_source(settings),
        catalogue=catalogue_source(settings),
        events=None if settings.events is None else settings.events.resolve(),
        serving_log=serving_log_config(settings),
        telemetry=telemetry,
    )


def check(settings: Settings, model: str | None, *, models: ModelSource | None = None) -> None:
    """Raise what `run` would raise for a missing model, encoder or event store, a taken port, an address that is not
    guarded, or a wrong certificate, before Redis and Ray are started in vain."""
    require_guarded(settings)
    if model is not None:
        try:
            (models or artifact_models(settings)).pin(model)
        except ArtifactError as error:
            raise ArtifactError(f"{error}; --no-recommender serves without one") from error
    else:
        needing = (("--index", settings.index), ("--catalogue", settings.catalogue), ("--canary", settings.canary))
        for option, value in needing:
            if value is not None:
                raise SetupError(
                    f"{option} {value} is for the recommender, and --no-recommender leaves that out; take one of them "
                    "away"
                )
    if settings.canary is not None:
        split_reference(settings.canary, MODELS)
    if settings.classification:
        classification_config(settings)
    if settings.composed_model is not None:
        composed_config(settings, settings.composed_model)
    if settings.events is not None:
        EventStore(settings.events)
    for labelled in (index_source(settings), catalogue_source(settings)):
        if labelled is not None:
            labelled.check()
    if settings.tls is not None:
        read_identity(settings.tls)
    if settings.tokens is not None:
        TokenFile(settings.tokens).read()
    named = {"--admin-port": settings.admin_port, "--metrics-port": settings.metrics_port}
    for option, port in named.items():
        if port == settings.port != 0:
            raise SetupError(f"{option} must not be the gateway's port {settings.port}; choose another one")
    if settings.metrics_port == settings.admin_port != 0 and settings.admin_port is not None:
        raise SetupError(f"--metrics-port must not be the admin port {settings.admin_port}; choose another one")
    reserve_port(settings.host, settings.port).close()
    if settings.admin_port is not None:
        from recollect.admin.server import require_alone

        reserve_port(settings.admin_host, settings.admin_port, option="--admin-port").close()
        require_alone(settings)
    if settings.metrics_port is not None:
        _reserve_metrics(settings, settings.metrics_port).close()
    if settings.otel_endpoint is not None:
        require_exporter()


def _reserve_metrics(settings: Settings, port: int) -> socket.socket:
    return reserve_port(settings.metrics_host, port, option="--metrics-port")


def _classification(settings: Settings, telemetry: TelemetryConfig, options: dict[str, Any]) -> "Application":
    """The encoder's deployment with `options`, which the gateway gets a handle of."""
    from ray import serve

    config = classification_config(settings)
    configured = serve.deployment(
        name="Classification",
        num_replicas=settings.classifier_replicas,
        # What is too much is refused by the replica itself, with a reason.
        max_ongoing_requests=2 * config.most_waiting,
        **options,
    )
    return configured(ClassificationReplica).bind(config, telemetry)


def _composed(settings: Settings, model: str, telemetry: TelemetryConfig, options: dict[str, Any]) -> "Application":
    """The model's deployment with `options`, which the gateway gets a handle of."""
    from ray import serve

    config = composed_config(settings, model)
    configured = serve.deployment(
        name="ComposedRetrieval",
        num_replicas=settings.composed_replicas,
        # What is too much is refused by the replica itself, with a reason.
        max_ongoing_requests=2 * config.most_waiting,
        **options,
    )
    return configured(ComposedReplica).bind(config, telemetry)


class RunningGateway:
    """Gateways that answer. Shut down with `shutdown`, or use it in a `with` block."""

    def __init__(
        self,
        handle: "DeploymentHandle[GatewayReplica]",
        config: GatewayConfig,
        models: ModelSource | None,
        desired: DesiredModel,
        reserved: Sequence[socket.socket],
        telemetry: TelemetryConfig,
    ) -> None:
        self.telemetry = telemetry
        """What its processes tell of themselves, and where."""
        self._handle = handle
        self._config = config
        self._models = models
        self._desired = desired
        self._reserved = reserved

    @property
    def port(self) -> int:
        """The port that all replicas share."""
        return self._config.port

    @property
    def address(self) -> str:
        """`host:port` for a client on this machine."""
        return client_address(self._config.host, self._config.port)

    @property
    def metrics_url(self) -> str | None:
        """Where Prometheus on this machine reads the metrics of all processes; None where they are not told."""
        metrics = self.telemetry.metrics
        return None if metrics is None else metrics.url

    @property
    def model(self) -> str:
        """Reference of the model that should answer; empty without a recommender."""
        return self._desired.get() or ""

    def swap(self, model: str) -> str:
        """Let `model` answer on every replica, without a failed call; returns its label, `name/version`.

        Each replica loads it beside the present one and then replaces one reference. ArtifactError where it is missing
        or one replica cannot load it: then every replica goes back to the model before. SetupError where there is no
        recommender.
        """
        if self._models is None:
            raise SetupError("this gateway was started without a recommender: there is no model to replace")
        reference, before = self._models.pin(model), self.model
        self._desired.set(reference)
        try:
            labels = self._broadcast(reference)
        except Exception as error:
            self._desired.set(before)
            self._broadcast(before)
            cause = getattr(error, "cause", None) or error
            raise ArtifactError(f"cannot load {reference}, {before} answers as before: {cause}") from error
        return labels[0]

    def shutdown(self) -> None:
        """Answer what is in flight, then end every replica and free the port."""
        from ray import serve

        # Only our application: a cluster that was joined may run others.
        serve.delete(self._desired.application)
        self._desired.forget()
        for port in self._reserved:
            port.close()

    def _broadcast(self, reference: str) -> list[str]:
        labels: list[str] = self._handle.broadcast("reconfigure", {"model": reference}).results(
            timeout_s=SWAP_TIMEOUT_S
        )
        return labels

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()


def reserve_port(host: str, port: int, *, option: str = "--port") -> socket.socket:
    """A socket that holds `port` of `host` (0: a free one) for replicas to share, and takes no connection itself.

    SetupError where another program listens there: sharing a port is open to every program of this user, so a second
    gateway on it would not fail but take half of the first one's callers.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            # As a server does it: connections of a program that has ended do not count, one that listens does.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
        held = socket.socket(family)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((host, port))
    except OSError as error:
        raise SetupError(
            f"cannot listen on {address_of(host, port)} ({error.strerror or error}); choose another "
            f"{option}, or 0 for a free one"
        ) from error
    return held


def _reason(application: str) -> str:
    """The last line of what Serve says of a deployment that failed."""
    from ray import serve

    status = serve.status().applications.get(application)
    messages = [] if status is None else [each.message for each in status.deployments.values()]
    lines = [line.strip() for message in messages for line in message.splitlines()]
    # The trace's last line is the exception: `package.Error: what happened`.
    errors = [line for line in lines if re.match(r"^[\w.]+(Error|Exception|Unavailable): ", line)]
    return errors[-1] if errors else ""
