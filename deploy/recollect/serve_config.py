"""What settings say of each part of the service: whole paths, since replicas have another working directory."""

import uuid
from pathlib import Path

from recollect.artifacts import shared_at
from recollect.catalogues.serving import CatalogueSource
from recollect.classification.config import ClassificationConfig
from recollect.composed.config import ComposedConfig
from recollect.composed.models import shown_model
from recollect.composed_training import composed_path
from recollect.cores import usable_cores
from recollect.encoders import encoder_path, text_cache_directory
from recollect.gateway.canary import CanaryConfig
from recollect.gateway.models import ArtifactModels
from recollect.gateway.server import GatewayConfig
from recollect.indexes.serving import IndexSource
from recollect.settings import Settings
from recollect.telemetry.exporter import MetricsConfig
from recollect.telemetry.logs import LogConfig, default_format
from recollect.telemetry.setup import TelemetryConfig
from recollect.telemetry.tracing import TracingConfig
from recsys.history.serving_log import ServingLogConfig
from retrieval.images import ImageLimits


def gateway_config(settings: Settings, port: int) -> GatewayConfig:
    """What `settings` say of where gateways listen and what they take."""
    return GatewayConfig(
        host=settings.host,
        port=port,
        history_limit=settings.history_limit,
        max_candidates=settings.max_candidates,
        recommend_candidates=settings.recommend_candidates,
        recommend_popularity=settings.recommend_popularity,
        max_images=settings.max_images,
        most_wait_s=settings.max_wait_s,
        max_request_bytes=settings.max_request_bytes,
        tls=settings.tls,
        access=settings.access,
        slow_call_s=settings.slow_call_s,
        ranking_threads=max(1, cores_of(settings) // settings.replicas),
    )


def cores_of(settings: Settings) -> int:
    """Cores that the replicas of a node share."""
    return settings.cores or usable_cores()


def telemetry_config(settings: Settings, metrics_port: int | None, log_relay: Path | None) -> TelemetryConfig:
    """What `settings` say of metrics, on a port that is settled, of traces and of the log."""
    metrics, tracing = None, None
    if metrics_port is not None:
        metrics = MetricsConfig(
            host=settings.metrics_host,
            port=metrics_port,
            # New each time: what processes of an earlier service counted there is not this one's.
            directory=settings.var.resolve() / "metrics" / str(metrics_port) / uuid.uuid4().hex,
            tls=settings.tls,
            tokens=None if settings.tokens is None else settings.tokens.absolute(),
        )
    if settings.otel_endpoint is not None:
        tracing = TracingConfig(endpoint=settings.otel_endpoint, sample_rate=settings.otel_sample_rate)
    return TelemetryConfig(logs=log_config(settings, log_relay), metrics=metrics, tracing=tracing)


def log_config(settings: Settings, relay: Path | None = None) -> LogConfig:
    """What `settings` say of the log; `relay` is the socket of the process that writes it for all."""
    return LogConfig(format=settings.log_format or default_format(), level=settings.log_level, relay=relay)


def artifact_models(settings: Settings) -> ArtifactModels:
    """The published models of this deployment; the whole path, since replicas have another working directory."""
    return ArtifactModels(root=settings.var.resolve() / "models", shared=shared_at(settings, "models"))


def canary_config(settings: Settings) -> CanaryConfig | None:
    """The model that is tried on some; None where none is set."""
    if settings.canary is None:
        return None
    return CanaryConfig(
        reference=settings.canary, share=settings.canary_share, shadow_share=settings.canary_shadow_share
    )


def index_source(settings: Settings) -> IndexSource | None:
    """The index that Recommend finds candidates in; None where none is set."""
    if settings.index is None:
        return None
    return IndexSource(
        root=settings.var.resolve() / "indexes", reference=settings.index, shared=shared_at(settings, "indexes")
    )


def serving_log_config(settings: Settings) -> ServingLogConfig | None:
    """The serving log that replicas keep; None where none is kept."""
    if settings.serving_log_rate == 0:
        return None
    return ServingLogConfig(
        directory=settings.serving_log, rate=settings.serving_log_rate, max_bytes=settings.serving_log_bytes
    )


def catalogue_source(settings: Settings) -> CatalogueSource | None:
    """The catalogue that items are filtered and displayed by; None where none is set."""
    if settings.catalogue is None:
        return None
    return CatalogueSource(
        root=settings.var.resolve() / "catalogues",
        reference=settings.catalogue,
        shared=shared_at(settings, "catalogues"),
    )


def classification_config(settings: Settings) -> ClassificationConfig:
    """What `settings` say of classification; whole paths, since replicas have another working directory.

    Raises ArtifactError for an encoder of our own that is not there.
    """
    cores = cores_of(settings)
    return ClassificationConfig(
        encoder=encoder_path(settings, settings.encoder),
        runtime=settings.encoder_runtime,
        sets=settings.var.resolve() / "descriptor-sets",
        text_cache=text_cache_directory(settings),
        image_limits=ImageLimits(max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels),
        decode_threads=cores,
        # The other half decodes, answers and keeps histories: a batch whose threads wait for a core takes many times as
        # long as one that has fewer threads.
        embedding_threads=max(1, cores // 2 // settings.classifier_replicas),
    )


def composed_config(settings: Settings, model: str) -> ComposedConfig:
    """What the replicas of `model` are given: absolute paths, since replicas have another working directory.

    Raises ArtifactError for a model of our own that is not there.
    """
    cores = cores_of(settings)
    path = composed_path(settings, model)
    return ComposedConfig(
        model=path,
        model_name=shown_model(settings, path),
        indexes=settings.var.resolve() / "indexes",
        shared=shared_at(settings, "indexes"),
        label=settings.gallery_label,
        image_limits=ImageLimits(max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels),
        decode_threads=cores,
        embedding_threads=max(1, cores // 2 // settings.composed_replicas),
        search_threads=max(1, cores // 2),
    )
