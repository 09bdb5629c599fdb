"""Answer Recommender: read the history, rank the candidates, say what was missing."""

import logging
from dataclasses import dataclass
from functools import partial

import grpc.aio  # type: ignore[import-untyped]
import numpy as np
import numpy.typing as npt

from recollect.catalogues.serving import CatalogueSlot
from recollect.gateway.admission import Admission
from recollect.gateway.catalogue import CatalogueUse, FiltersOfModel, names_of, use_catalogue
from recollect.gateway.display import displayed
from recollect.gateway.errors import RecommendNotServed, ScoreNotServed
from recollect.gateway.explanations import explanations
from recollect.gateway.models import ModelSlot, ServedModel
from recollect.gateway.recommending import answer_recommend, check_recommend
from recollect.gateway.serving_log import keep
from recollect.gateway.validation import ScoreCall, check_score
from recollect.gateway.workers import Calling, RankingWork, Workers, deadline_of, require_time
from recollect.indexes.serving import IndexSlot
from recollect.telemetry.answers import answered, redis_failed
from recollect.telemetry.stages import stage
from recollect_api.v1 import recommender_pb2, recommender_pb2_grpc
from recsys.errors import HistoryError, HistoryUnavailable
from recsys.history.serving_log import ServingLog
from recsys.history.store import History, HistoryStore
from recsys.ranking import Ranking, RankingCall
from recsys.recommending.candidates import CandidateConfig

log = logging.getLogger(__name__)


class RecommenderServicer(recommender_pb2_grpc.RecommenderServicer):
    """Scores with the model in `slot`, over histories from `histories`; recommends from the index in `index`; filters
    and displays by the catalogue in `catalogue`.

    Without a slot every call is answered UNIMPLEMENTED.
    """

    def __init__(
        self,
        *,
        slot: ModelSlot | None,
        histories: HistoryStore,
        workers: Workers,
        admission: Admission,
        history_limit: int,
        max_candidates: int,
        index: IndexSlot | None = None,
        catalogue: CatalogueSlot | None = None,
        candidates: CandidateConfig | None = None,
        serving_log: ServingLog | None = None,
    ) -> None:
        self._log = serving_log
        self._slot = slot
        self._index = index
        self._catalogue = catalogue
        self._filters = FiltersOfModel()
        self._candidates = candidates or CandidateConfig()
        self._histories = histories
        self._workers = workers
        self._admission = admission
        self._history_limit = history_limit
        self._max_candidates = max_candidates

    async def Score(  # noqa: N802 - gRPC's name
        self, request: recommender_pb2.ScoreRequest, context: grpc.aio.ServicerContext
    ) -> recommender_pb2.ScoreResponse:
        """Score every candidate of `request`, in its order."""
        slot = self._served()
        call = check_score(request, max_candidates=self._max_candidates)
        use = use_catalogue(self._catalogue, None, call.display, filters=False) if call.display else None
        require_time(context)
        until = deadline_of(context)
        with self._admission.turn(until):
            history = await self._read(call.user_id, call.before_ms)
            # Taken once: the scores and the label below are this model's, whatever is swapped in meanwhile.
            work = _ScoreWork(request, call, slot.current, history, use, self._log)
            return await self._workers.run(work.to_rank(), until=until)

    async def Recommend(  # noqa: N802 - gRPC's name
        self, request: recommender_pb2.RecommendRequest, context: grpc.aio.ServicerContext
    ) -> recommender_pb2.RecommendResponse:
        """Recommend items of the whole catalogue."""
        slot = self._served()
        if self._index is None:
            raise RecommendNotServed("this service runs without an index; start it with --index, items@stable for one")
        call = check_recommend(request)
        # Taken once, as model and index below: what is filtered and what is displayed are of one version.
        use = use_catalogue(self._catalogue, call.wanted, call.display, filters=True)
        require_time(context)
        until = deadline_of(context)
        with self._admission.turn(until):
            history = await self._read(call.user_id, call.before_ms)
            # Each taken once, as above.
            model, index = slot.current, self._index.current
            work = partial(
                answer_recommend,
                request,
                call,
                model,
                index,
                history,
                self._candidates,
                use,
                self._filters,
                self._log,
            )
            return await self._workers.run(Calling(work), until=until)

    def _served(self) -> ModelSlot:
        if self._slot is None:
            raise ScoreNotServed("this service runs without a recommender; start it without --no-recommender")
        return self._slot

    async def _read(self, user_id: str, before_ms: int | None) -> History | None:
        """The history, or None where it cannot be had: a worse answer is better than none."""
        try:
            with stage("history"):
                return await self._histories.read(user_id, limit=self._history_limit, before_ms=before_ms)
        except HistoryUnavailable as error:
            redis_failed()
            log.warning("scoring without a history: %s", error)
        except HistoryError:
            redis_failed()
            log.exception("scoring without a history, which cannot be read")
        return None


_NO_ITEMS: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class _ScoreWork:
    """One Score call, read and ready to be ranked."""

    request: recommender_pb2.ScoreRequest
    call: ScoreCall
    model: ServedModel
    history: History | None
    use: CatalogueUse | None
    log: ServingLog | None

    def to_rank(self) -> RankingWork[recommender_pb2.ScoreResponse]:
        """The work for a thread; a thousand explanations alone take tens of milliseconds."""
        sampled = self.log is not None and self.history is not None and self.log.samples()
        return RankingWork(
            ranker=self.model.ranker,
            call=RankingCall(
                history_item_ids=_NO_ITEMS if self.history is None else self.history.item_ids,
                candidate_item_ids=self.call.item_ids,
                explain=self.request.explain or sampled,
            ),
            answer=partial(self._answer, sampled=sampled),
        )

    def _answer(self, ranking: Ranking, *, sampled: bool) -> recommender_pb2.ScoreResponse:
        if sampled and self.log is not None and self.history is not None:
            keep(
                self.log,
                call="score",
                user_id=self.call.user_id,
                request_id=self.request.request_id,
                before_ms=self.call.before_ms,
                model=self.model,
                index=None,
                history=self.history,
                item_ids=self.call.item_ids,
                ranking=ranking,
            )
        return _response(self.request, self.call, self.model, self.history, ranking, self.use)


def _response(
    request: recommender_pb2.ScoreRequest,
    call: ScoreCall,
    model: ServedModel,
    history: History | None,
    ranking: Ranking,
    use: CatalogueUse | None,
) -> recommender_pb2.ScoreResponse:
    length = 0 if history is None else len(history.item_ids)
    unknown = np.flatnonzero(~ranking.known).tolist()
    degraded = []
    if history is None:
        degraded.append(recommender_pb2.DEGRADED_REASON_HISTORY_UNAVAILABLE)
    elif length == 0:
        degraded.append(recommender_pb2.DEGRADED_REASON_HISTORY_EMPTY)
    if unknown:
        degraded.append(recommender_pb2.DEGRADED_REASON_ITEM_UNKNOWN)
    answered("Score", history=None if history is None else length, candidates=len(call.item_ids), degraded=degraded)
    shown = [] if use is None else displayed(use.catalogue.metadata, call.item_ids, use.display)
    return recommender_pb2.ScoreResponse(
        scores=ranking.scores.tolist(),
        model_name=model.name,
        model_version=model.version,
        history_version=0 if history is None else history.version,
        history_length=length,
        degraded=degraded,
        unknown_positions=unknown,
        explanations=explanations(len(request.item_ids), history, ranking, names_of(use)) if request.explain else (),
        request_id=request.request_id,
        displayed=[recommender_pb2.DisplayedItem(metadata=each) for each in shown],
        catalogue_name="" if use is None else use.catalogue.name,
        catalogue_version="" if use is None else use.catalogue.version,
    )
