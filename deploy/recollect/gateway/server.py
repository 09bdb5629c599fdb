"""Put the gateway together: one grpc.aio server with its services, limits, health and reflection."""

from dataclasses import dataclass

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped]

from recollect.classification.calls import ClassificationBackend
from recollect.composed.calls import ComposedBackend
from recollect.errors import SetupError
from recollect.gateway.address import address_of
from recollect.gateway.classifier import ClassifierServicer
from recollect.gateway.composed import ComposedRetrievalServicer
from recollect.gateway.descriptor_sets import DescriptorSetsServicer
from recollect.gateway.health import Health
from recollect.gateway.histories import HistoriesServicer
from recollect.gateway.interceptors import ErrorInterceptor, TokenInterceptor
from recollect.gateway.models import ModelSlot
from recollect.gateway.recommender import RecommenderServicer
from recollect.gateway.workers import Workers
from recollect.indexes.serving import IndexSlot
from recollect_api.v1 import (
    classifier_pb2,
    classifier_pb2_grpc,
    composed_retrieval_pb2,
    composed_retrieval_pb2_grpc,
    descriptor_sets_pb2,
    descriptor_sets_pb2_grpc,
    histories_pb2,
    histories_pb2_grpc,
    recommender_pb2,
    recommender_pb2_grpc,
)
from recsys.history.serving_log import ServingLog
from recsys.history.store import HistoryStore
from recsys.recommending.candidates import CandidateConfig

SERVICES: tuple[str, ...] = (histories_pb2.DESCRIPTOR.services_by_name["Histories"].full_name,)
RECOMMENDER_SERVICES: tuple[str, ...] = (recommender_pb2.DESCRIPTOR.services_by_name["Recommender"].full_name,)
CLASSIFICATION_SERVICES: tuple[str, ...] = (
    classifier_pb2.DESCRIPTOR.services_by_name["Classifier"].full_name,
    descriptor_sets_pb2.DESCRIPTOR.services_by_name["DescriptorSets"].full_name,
)
COMPOSED_SERVICES: tuple[str, ...] = (
    composed_retrieval_pb2.DESCRIPTOR.services_by_name["ComposedRetrieval"].full_name,
)
"""All but `SERVICES` answer UNIMPLEMENTED, and are unknown to grpc.health.v1, where the gateway has no such part."""


def services_of(*, recommender: bool, classification: bool, composed: bool) -> tuple[str, ...]:
    """The services that a gateway with these parts has."""
    return (
        *(RECOMMENDER_SERVICES if recommender else ()),
        *SERVICES,
        *(CLASSIFICATION_SERVICES if classification else ()),
        *(COMPOSED_SERVICES if composed else ()),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class GatewayConfig:
    """Where a gateway listens and what it takes."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 0
    """Port to listen on, shared with every other gateway of this machine that names it; 0 takes a free one."""
    history_limit: int = 50_000
    """Longest history that is scored, in events."""
    max_candidates: int = 1_000
    """Most candidates in one Score request."""
    recommend_candidates: int = 500
    """Candidates that a Recommend call ranks, at most."""
    max_images: int = 16
    """Most images in one Classify request."""
    ranking_threads: int = 1
    """Threads that rank; more than the cores of a replica only make all of them slower."""
    max_calls: int = 256
    """Calls that are worked on or wait at one time; the next is refused with RESOURCE_EXHAUSTED."""
    max_request_bytes: int = 16 << 20
    """Largest request; the client sends as much."""
    max_response_bytes: int = 16 << 20
    """Largest response; the client accepts as much."""
    max_connection_age_s: float = 30.0
    """Replicas share a port by connections: one that lives for ever would never find a new replica."""
    connection_grace_s: float = 10.0
    """How long calls in flight on a connection that has reached its age may take."""

    def __post_init__(self) -> None:
        counts = (
            "history_limit",
            "max_candidates",
            "recommend_candidates",
            "max_images",
            "ranking_threads",
            "max_calls",
        )
        for name in counts:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


class Gateway:
    """One server, over one history store and, where there are any, a model slot, an index and backends for pictures.

    `start` it and `stop` it in the same event loop.
    """

    def __init__(
        self,
        config: GatewayConfig,
        *,
        slot: ModelSlot | None,
        histories: HistoryStore,
        classification: ClassificationBackend | None = None,
        composed: ComposedBackend | None = None,
        index: IndexSlot | None = None,
        serving_log: ServingLog | None = None,
        credentials: grpc.ServerCredentials | None = None,
        token: str | None = None,
    ) -> None:
        self.config = config
        self.port = 0
        """Where it listens, once started."""
        self._credentials = credentials
        self._workers = Workers(config.ranking_threads)
        self._health = Health(
            services_of(
                recommender=slot is not None, classification=classification is not None, composed=composed is not None
            )
        )
        # The token comes first: who has none learns nothing, not even through a crafted request.
        interceptors: list[grpc.aio.ServerInterceptor] = [] if token is None else [TokenInterceptor(token)]
        self._server = grpc.aio.server(
            interceptors=[*interceptors, ErrorInterceptor()],
            options=_options(config),
            maximum_concurrent_rpcs=config.max_calls,
        )
        recommender = RecommenderServicer(
            slot=slot,
            histories=histories,
            workers=self._workers,
            history_limit=config.history_limit,
            max_candidates=config.max_candidates,
            index=index,
            candidates=CandidateConfig(candidates=config.recommend_candidates),
            serving_log=serving_log,
        )
        recommender_pb2_grpc.add_RecommenderServicer_to_server(recommender, self._server)
        self._histories = HistoriesServicer(histories)
        histories_pb2_grpc.add_HistoriesServicer_to_server(self._histories, self._server)
        classifier = ClassifierServicer(classification, max_images=config.max_images)
        classifier_pb2_grpc.add_ClassifierServicer_to_server(classifier, self._server)
        descriptor_sets = DescriptorSetsServicer(classification)
        descriptor_sets_pb2_grpc.add_DescriptorSetsServicer_to_server(descriptor_sets, self._server)
        composed_retrieval_pb2_grpc.add_ComposedRetrievalServicer_to_server(
            ComposedRetrievalServicer(composed), self._server
        )

    async def start(self) -> int:
        """Listen; returns the port. SetupError where that address cannot be listened on."""
        await self._health.add_to(self._server)
        services = services_of(recommender=True, classification=True, composed=True)
        reflection.enable_server_reflection((*services, "grpc.health.v1.Health", reflection.SERVICE_NAME), self._server)
        address = address_of(self.config.host, self.config.port)
        try:
            if self._credentials is None:
                self.port = self._server.add_insecure_port(address)
            else:
                self.port = self._server.add_secure_port(address, self._credentials)
        except RuntimeError as error:
            raise SetupError(f"cannot listen on {address} ({error}); choose another host or port") from error
        await self._server.start()
        await self._health.serving()
        return self.port

    async def stop(self, grace_s: float) -> None:
        """Say NOT_SERVING, take no more calls, and end once those in flight are answered or `grace_s` has passed."""
        await self._health.draining()
        await self._server.stop(grace_s)
        await self._histories.close()
        self._workers.close()


def _options(config: GatewayConfig) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 1),
        ("grpc.max_connection_age_ms", int(config.max_connection_age_s * 1_000)),
        ("grpc.max_connection_age_grace_ms", int(config.connection_grace_s * 1_000)),
        ("grpc.max_receive_message_length", config.max_request_bytes),
        ("grpc.max_send_message_length", config.max_response_bytes),
        # The smallest ping interval that is accepted, so that clients behind NAT may keep a quiet connection open.
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
