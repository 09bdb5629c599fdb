"""Answer Recommender: read the history, rank the candidates, say what was missing."""

import logging
from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING

import grpc.aio  # type: ignore[import-untyped]
import numpy as np
import numpy.typing as npt

from recollect.catalogues.serving import CatalogueSlot
from recollect.gateway.catalogue import CatalogueUse, FiltersOfModel, names_of, use_catalogue
from recollect.gateway.display import displayed
from recollect.gateway.errors import RecommendNotServed, ScoreNotServed
from recollect.gateway.explaining import answer_explain, check_explain
from recollect.gateway.explanations import degraded_by, explanations
from recollect.gateway.models import ModelSlot, ServedModel
from recollect.gateway.recommending import answer_recommend, check_recommend
from recollect.gateway.score_stream import StreamLimits, answer_rows
from recollect.gateway.serving_log import keep
from recollect.gateway.validation import ScoreCall, check_score
from recollect.gateway.workers import Workers, require_time
from recollect.indexes.serving import IndexSlot
from recollect_api.streams import TAKEN
from recollect_api.v1 import recommender_pb2, recommender_pb2_grpc
from recsys.errors import HistoryError, HistoryUnavailable
from recsys.history.serving_log import ServingLog
from recsys.history.store import History, HistoryStore
from recsys.recommending.candidates import CandidateConfig

if TYPE_CHECKING:
    from recsys.ranking import Ranking

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
        history_limit: int,
        max_candidates: int,
        streams: StreamLimits,
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
        self._history_limit = history_limit
        self._max_candidates = max_candidates
        self._streams = streams

    async def Score(  # noqa: N802 - gRPC's name
        self, request: recommender_pb2.ScoreRequest, context: grpc.aio.ServicerContext
    ) -> recommender_pb2.ScoreResponse:
        """Score every candidate of `request`, in its order."""
        slot = self._served()
        call = check_score(request, max_candidates=self._max_candidates)
        use = use_catalogue(self._catalogue, None, call.display, filters=False) if call.display else None
        require_time(context)
        history = await self._read(call.user_id, call.before_ms)
        require_time(context)
        # Taken once: the scores and the label below are this model's, whatever is swapped in meanwhile.
        model = slot.current
        return await self._workers.run(partial(_answer, request, call, model, history, use, self._log))

    async def ScoreStream(  # type: ignore[override]  # noqa: N802 - it writes its answers to the context
        self, requests: AsyncIterator[recommender_pb2.ScoreStreamRequest], context: grpc.aio.ServicerContext
    ) -> None:
        """Score every row of `requests`, each with an answer of its own."""
        self._served()
        # A caller who waits for this never writes to a stream that was refused, which some gRPC libraries mistake.
        await context.send_initial_metadata((TAKEN,))

        async def score(request: recommender_pb2.ScoreRequest) -> recommender_pb2.ScoreResponse:
            return await self.Score(request, context)

        await answer_rows(requests, score, context.write, self._streams)

    async def Explain(  # noqa: N802 - gRPC's name
        self, request: recommender_pb2.ExplainRequest, context: grpc.aio.ServicerContext
    ) -> recommender_pb2.ExplainResponse:
        """What the scores of the items of `request` rest on, in their order."""
        slot = self._served()
        call = check_explain(request)
        use = use_catalogue(self._catalogue, None, call.display, filters=False) if call.display else None
        require_time(context)
        history = await self._read(call.user_id, call.before_ms)
        require_time(context)
        return await self._workers.run(partial(answer_explain, request, call, slot.current, history, use))

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
        history = await self._read(call.user_id, call.before_ms)
        require_time(context)
        # Each taken once, as above.
        model, index = slot.current, self._index.current
        return await self._workers.run(
            partial(
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
        )

    def _served(self) -> ModelSlot:
        if self._slot is None:
            raise ScoreNotServed("this service runs without a recommender; start it without --no-recommender")
        return self._slot

    async def _read(self, user_id: str, before_ms: int | None) -> History | None:
        """The history, or None where it cannot be had: a worse answer is better than none."""
        try:
            return await self._histories.read(user_id, limit=self._history_limit, before_ms=before_ms)
        except HistoryUnavailable as error:
            log.warning("scoring without a history: %s", error)
        except HistoryError:
            log.exception("scoring without a history: that of %r cannot be read", user_id)
        return None


_NO_ITEMS: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)


def _answer(
    request: recommender_pb2.ScoreRequest,
    call: ScoreCall,
    model: ServedModel,
    history: History | None,
    use: CatalogueUse | None,
    serving_log: ServingLog | None,
) -> recommender_pb2.ScoreResponse:
    """Rank and put the answer together; blocking, a thousand explanations alone take tens of milliseconds."""
    behaviours = _NO_ITEMS if history is None else history.item_ids
    sampled = serving_log is not None and history is not None and serving_log.samples()
    ranking = model.ranker.rank(behaviours, call.item_ids, explain=request.explain or sampled)
    if sampled and serving_log is not None and history is not None:
        keep(
            serving_log,
            call="score",
            user_id=call.user_id,
            request_id=request.request_id,
            before_ms=call.before_ms,
            model=model,
            index=None,
            history=history,
            item_ids=call.item_ids,
            ranking=ranking,
        )
    return _response(request, call, model, history, ranking, use)


def _response(
    request: recommender_pb2.ScoreRequest,
    call: ScoreCall,
    model: ServedModel,
    history: History | None,
    ranking: "Ranking",
    use: CatalogueUse | None,
) -> recommender_pb2.ScoreResponse:
    length = 0 if history is None else len(history.item_ids)
    unknown = np.flatnonzero(~ranking.known).tolist()
    shown = [] if use is None else displayed(use.catalogue.metadata, call.item_ids, use.display)
    return recommender_pb2.ScoreResponse(
        scores=ranking.scores.tolist(),
        model_name=model.name,
        model_version=model.version,
        history_version=0 if history is None else history.version,
        history_length=length,
        degraded=degraded_by(history, unknown=bool(unknown)),
        unknown_positions=unknown,
        explanations=explanations(len(request.item_ids), history, ranking, names_of(use)) if request.explain else (),
        request_id=request.request_id,
        displayed=[recommender_pb2.DisplayedItem(metadata=each) for each in shown],
        catalogue_name="" if use is None else use.catalogue.name,
        catalogue_version="" if use is None else use.catalogue.version,
    )
