"""Answer Score for one history by one model: what is ranked, and the response that tells of it."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from recollect.gateway.catalogue import CatalogueUse, names_of
from recollect.gateway.display import displayed
from recollect.gateway.explanations import degraded_by, explanations
from recollect.gateway.models import ServedModel
from recollect.gateway.serving_log import keep
from recollect.gateway.validation import ScoreCall
from recollect.gateway.workers import RankingWork
from recollect.telemetry.answers import answered
from recollect_api.v1 import recommender_pb2
from recsys.history.serving_log import ServingLog
from recsys.history.store import History
from recsys.ranking import Ranking, RankingCall

_NO_ITEMS: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class ScoreWork:
    """One Score call, read and ready to be ranked."""

    request: recommender_pb2.ScoreRequest
    call: ScoreCall
    """What it asks for."""
    history: History | None
    """None where it could not be had."""
    use: CatalogueUse | None
    log: ServingLog | None

    def to_compare(self, model: ServedModel) -> RankingWork[npt.NDArray[np.float32]]:
        """Work that gives the scores of `model` [T], which go nowhere."""
        return RankingWork(ranker=model.ranker, call=self._ranked(explain=False), answer=lambda ranking: ranking.scores)

    def to_answer(self, model: ServedModel) -> RankingWork[recommender_pb2.ScoreResponse]:
        """Work that gives the response by `model`; a thousand explanations alone take tens of milliseconds."""
        sampled = self.log is not None and self.history is not None and self.log.samples()
        return RankingWork(
            ranker=model.ranker,
            call=self._ranked(explain=self.request.explain or sampled),
            answer=partial(self._answer, model, sampled=sampled),
        )

    def _ranked(self, *, explain: bool) -> RankingCall:
        return RankingCall(
            history_item_ids=_NO_ITEMS if self.history is None else self.history.item_ids,
            candidate_item_ids=self.call.item_ids,
            explain=explain,
        )

    def _answer(self, model: ServedModel, ranking: Ranking, *, sampled: bool) -> recommender_pb2.ScoreResponse:
        if sampled and self.log is not None and self.history is not None:
            keep(
                self.log,
                call="score",
                user_id=self.call.user_id,
                request_id=self.request.request_id,
                before_ms=self.call.before_ms,
                model=model,
                index=None,
                history=self.history,
                item_ids=self.call.item_ids,
                ranking=ranking,
            )
        return _response(self.request, self.call, model, self.history, ranking, self.use)


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
    degraded = degraded_by(history, unknown=bool(unknown))
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
