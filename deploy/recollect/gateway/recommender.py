"""Answer Recommender: read the history, rank the candidates, say what was missing."""

import logging
from functools import partial
from typing import TYPE_CHECKING

import grpc.aio  # type: ignore[import-untyped]
import numpy as np
import numpy.typing as npt

from recollect.gateway.models import ModelSlot, ServedModel
from recollect.gateway.times import timestamp
from recollect.gateway.validation import ScoreCall, check_score
from recollect.gateway.workers import Workers, require_time
from recollect_api.v1 import event_pb2, recommender_pb2, recommender_pb2_grpc
from recsys.errors import HistoryError, HistoryUnavailable
from recsys.history.store import History, HistoryStore

if TYPE_CHECKING:
    from recsys.ranking import Ranking

log = logging.getLogger(__name__)


class RecommenderServicer(recommender_pb2_grpc.RecommenderServicer):
    """Scores with the model in `slot`, over histories from `histories`."""

    def __init__(
        self, *, slot: ModelSlot, histories: HistoryStore, workers: Workers, history_limit: int, max_candidates: int
    ) -> None:
        self._slot = slot
        self._histories = histories
        self._workers = workers
        self._history_limit = history_limit
        self._max_candidates = max_candidates

    async def Score(  # noqa: N802 - gRPC's name
        self, request: recommender_pb2.ScoreRequest, context: grpc.aio.ServicerContext
    ) -> recommender_pb2.ScoreResponse:
        """Score every candidate of `request`, in its order."""
        call = check_score(request, max_candidates=self._max_candidates)
        require_time(context)
        history = await self._read(call)
        require_time(context)
        # Taken once: the scores and the label below are this model's, whatever is swapped in meanwhile.
        model = self._slot.current
        return await self._workers.run(partial(_answer, request, call, model, history))

    async def _read(self, call: ScoreCall) -> History | None:
        """The history, or None where it cannot be had: a worse answer is better than none."""
        try:
            return await self._histories.read(call.user_id, limit=self._history_limit, before_ms=call.before_ms)
        except HistoryUnavailable as error:
            log.warning("scoring without a history: %s", error)
        except HistoryError:
            log.exception("scoring without a history: that of %r cannot be read", call.user_id)
        return None


_NO_ITEMS: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)


def _answer(
    request: recommender_pb2.ScoreRequest, call: ScoreCall, model: ServedModel, history: History | None
) -> recommender_pb2.ScoreResponse:
    """Rank and put the answer together; blocking, a thousand explanations alone take tens of milliseconds."""
    behaviours = _NO_ITEMS if history is None else history.item_ids
    ranking = model.ranker.rank(behaviours, call.item_ids, explain=request.explain)
    return _response(request, model, history, ranking)


def _response(
    request: recommender_pb2.ScoreRequest, model: ServedModel, history: History | None, ranking: "Ranking"
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
    return recommender_pb2.ScoreResponse(
        scores=ranking.scores.tolist(),
        model_name=model.name,
        model_version=model.version,
        history_version=0 if history is None else history.version,
        history_length=length,
        degraded=degraded,
        unknown_positions=unknown,
        explanations=_explanations(len(request.item_ids), history, ranking) if request.explain else (),
        request_id=request.request_id,
    )


def _explanations(candidates: int, history: History | None, ranking: "Ranking") -> list[recommender_pb2.Explanation]:
    """One explanation a candidate: what was found, highest weight first, the newer of two equal ones first."""
    positions, weights = ranking.found_positions, ranking.found_weights
    if history is None or positions is None or weights is None:
        return [recommender_pb2.Explanation() for _ in range(candidates)]
    explanations = []
    for found, weight in zip(positions, weights, strict=True):
        # [K]; the last key of lexsort counts first.
        order = np.lexsort((-found, -weight))
        explanations.append(
            recommender_pb2.Explanation(
                behaviours=[_found(history, int(found[at]), float(weight[at])) for at in order if found[at] >= 0]
            )
        )
    return explanations


def _found(history: History, position: int, weight: float) -> recommender_pb2.FoundBehaviour:
    return recommender_pb2.FoundBehaviour(
        item_id=int(history.item_ids[position]),
        time=timestamp(int(history.times_ms[position])),
        type=event_pb2.EventType.ValueType(int(history.types[position])),
        weight=weight,
    )
