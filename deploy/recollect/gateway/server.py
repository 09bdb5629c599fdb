"""Put the gateway together: its services, and what listens for their calls."""

from dataclasses import dataclass

from recollect.catalogues.serving import CatalogueSlot
from recollect.classification.calls import ClassificationBackend
from recollect.composed.calls import ComposedBackend
from recollect.gateway.admission import Admission
from recollect.gateway.canary import Canary
from recollect.gateway.classifier import ClassifierServicer
from recollect.gateway.composed import ComposedRetrievalServicer
from recollect.gateway.descriptor_sets import DescriptorSetsServicer
from recollect.gateway.histories import HistoriesServicer
from recollect.gateway.interceptors import ErrorInterceptor
from recollect.gateway.listener import Listener, ListenerConfig
from recollect.gateway.load import Load, LoadInterceptor
from recollect.gateway.models import ModelSlot
from recollect.gateway.recommender import RANKING_METHODS, RecommenderServicer
from recollect.gateway.score_stream import StreamLimits
from recollect.gateway.shedding import SheddingInterceptor
from recollect.gateway.trial import ModelTrial
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
class GatewayConfig(ListenerConfig):
    """Where a gateway listens and what it takes."""

    history_limit: int = 50_000
    """Longest history that is scored, in events."""
    max_candidates: int = 1_000
    """Most candidates in one Score request."""
    recommend_candidates: int = 500
    """Candidates that a Recommend call ranks, at most."""
    recommend_popularity: float = 1.0
    """How far their popularity counts in the order of what is shown; see `CandidateConfig.popularity_weight`."""
    stream_rows: int = 16
    """Rows of one ScoreStream that are worked on at one time."""
    stream_s: float = 5.0
    """How long one ScoreStream takes rows; shorter than `connection_grace_s`, so that none is cut."""
    max_images: int = 16
    """Most images in one Classify request."""
    ranking_threads: int = 1
    """Threads that rank; more than the cores of a replica only make all of them slower."""
    most_wait_s: float = 0.1
    """How long a call that ranks may wait for its turn; one that would wait longer is refused at once."""

    def __post_init__(self) -> None:
        ListenerConfig.__post_init__(self)  # a class with slots is made twice, which super() does not know
        counts = ("history_limit", "max_candidates", "recommend_candidates", "stream_rows", "max_images")
        for name in (*counts, "ranking_threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.most_wait_s <= 0:
            raise ValueError(f"most_wait_s must be more than 0, got {self.most_wait_s}")
        if not 0 < self.stream_s < self.connection_grace_s:
            raise ValueError(
                f"stream_s must be more than 0 and less than connection_grace_s ({self.connection_grace_s}), "
                f"got {self.stream_s}: a connection that has reached its age would cut the stream"
            )


class Gateway:
    """All that one replica serves, over one history store and, where there are any, a model slot, a canary, an index, a
    catalogue and backends for pictures.

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
        catalogue: CatalogueSlot | None = None,
        canary: Canary | None = None,
        serving_log: ServingLog | None = None,
    ) -> None:
        self.config = config
        self.load = Load()
        """How many calls it works on."""
        self._workers = Workers(config.ranking_threads)
        self._admission = Admission(most_wait_s=config.most_wait_s, threads=config.ranking_threads)
        self._trial = ModelTrial(slot, self._workers, canary=canary)
        self._listener = Listener(
            config,
            served=services_of(
                recommender=slot is not None, classification=classification is not None, composed=composed is not None
            ),
            known=services_of(recommender=True, classification=True, composed=True),
            interceptors=[
                SheddingInterceptor(self._admission, RANKING_METHODS),
                LoadInterceptor(self.load),
                ErrorInterceptor(),
            ],
        )
        self._recommender = RecommenderServicer(
            trial=self._trial,
            histories=histories,
            workers=self._workers,
            admission=self._admission,
            history_limit=config.history_limit,
            max_candidates=config.max_candidates,
            streams=StreamLimits(rows=config.stream_rows, seconds=config.stream_s),
            index=index,
            catalogue=catalogue,
            candidates=CandidateConfig(
                candidates=config.recommend_candidates, popularity_weight=config.recommend_popularity
            ),
            serving_log=serving_log,
        )
        add = self._listener.add
        add(recommender_pb2_grpc.add_RecommenderServicer_to_server, self._recommender)
        self._histories = HistoriesServicer(histories)
        add(histories_pb2_grpc.add_HistoriesServicer_to_server, self._histories)
        classifier = ClassifierServicer(classification, max_images=config.max_images)
        add(classifier_pb2_grpc.add_ClassifierServicer_to_server, classifier)
        descriptor_sets = DescriptorSetsServicer(classification)
        add(descriptor_sets_pb2_grpc.add_DescriptorSetsServicer_to_server, descriptor_sets)
        add(composed_retrieval_pb2_grpc.add_ComposedRetrievalServicer_to_server, ComposedRetrievalServicer(composed))

    @property
    def port(self) -> int:
        """Where it listens, once started."""
        return self._listener.port

    async def start(self) -> int:
        """Listen; returns the port. SetupError where that address cannot be listened on."""
        return await self._listener.start()

    async def stop(self, grace_s: float) -> None:
        """Say NOT_SERVING, take no more calls, and end once those in flight are answered or `grace_s` has passed."""
        await self._listener.stop(grace_s)
        await self._recommender.close()
        await self._histories.close()
        await self._trial.close()
        self._workers.close()
