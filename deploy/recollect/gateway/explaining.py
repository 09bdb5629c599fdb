"""Answer Explain: what the scores of some items rest on, by one model and one catalogue."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recollect.gateway.catalogue import CatalogueUse, names_of
from recollect.gateway.display import displayed
from recollect.gateway.explanations import degraded_by, explanations
from recollect.gateway.models import ServedModel
from recollect.gateway.validation import Violations, check_as_of, check_candidates, check_display
from recollect.telemetry.answers import answered
from recollect_api.v1 import metadata_pb2, recommender_pb2
from recsys.explaining import CategoryShare, reasons
from recsys.history.store import History

MAX_ITEMS = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class ExplainCall:
    """An Explain request that is in order."""

    user_id: str
    item_ids: npt.NDArray[np.int64]
    """[T]"""
    before_ms: int | None
    """Behaviours strictly earlier than this count, milliseconds since the Unix epoch; None for all."""
    max_behaviours: int | None
    """Most behaviours that are told of each item; None for all that were found."""
    display: tuple[str, ...]
    """Columns of the catalogue to tell of each."""


def check_explain(request: recommender_pb2.ExplainRequest) -> ExplainCall:
    """What `request` asks for; InvalidCall names every field that is wrong."""
    violations = Violations()
    violations.require_user(request.user_id)
    violations.require_request_id(request.request_id)
    item_ids = check_candidates(violations, request.item_ids, most=MAX_ITEMS)
    if request.max_behaviours < 0:
        violations.add("max_behaviours", f"must be 0 or more, got {request.max_behaviours}; 0 means all")
    before_ms = check_as_of(violations, request)
    display = check_display(violations, request.display)
    violations.raise_any()
    return ExplainCall(
        user_id=request.user_id,
        item_ids=item_ids,
        before_ms=before_ms,
        max_behaviours=request.max_behaviours or None,
        display=display,
    )


def answer_explain(
    request: recommender_pb2.ExplainRequest,
    call: ExplainCall,
    model: ServedModel,
    history: History | None,
    use: CatalogueUse | None,
) -> recommender_pb2.ExplainResponse:
    """Rank with and without the history, and put the answer together; blocking."""
    behaviours = np.empty(0, dtype=np.int64) if history is None else history.item_ids
    found = reasons(model.ranker.rank, model.catalogue, behaviours, call.item_ids)
    told = explanations(len(call.item_ids), history, found.ranking, names_of(use), most=call.max_behaviours)
    shown: list[metadata_pb2.ItemMetadata | None] = [None] * len(call.item_ids)
    if use is not None:
        shown = displayed(use.catalogue.metadata, call.item_ids, use.display)
    rows = zip(
        call.item_ids.tolist(),
        found.ranking.scores.tolist(),
        found.scores_without_history.tolist(),
        found.ranking.known.tolist(),
        told,
        found.categories,
        shown,
        strict=True,
    )
    degraded = degraded_by(history, unknown=not found.ranking.known.all())
    answered(
        "Explain",
        history=None if history is None else len(behaviours),
        candidates=len(call.item_ids),
        degraded=degraded,
    )
    return recommender_pb2.ExplainResponse(
        items=[
            recommender_pb2.ExplainedItem(
                item_id=item_id,
                score=score,
                score_without_history=without,
                known=known,
                behaviours=explanation.behaviours,
                categories=map(_share, categories),
                metadata=metadata,
            )
            for item_id, score, without, known, explanation, categories, metadata in rows
        ],
        model_name=model.name,
        model_version=model.version,
        history_version=0 if history is None else history.version,
        history_length=len(behaviours),
        degraded=degraded,
        request_id=request.request_id,
        catalogue_name="" if use is None else use.catalogue.name,
        catalogue_version="" if use is None else use.catalogue.version,
    )


def _share(share: CategoryShare) -> recommender_pb2.CategoryShare:
    return recommender_pb2.CategoryShare(
        category_id=share.category_id, category_name=share.name, share=share.share, behaviours=share.behaviours
    )
