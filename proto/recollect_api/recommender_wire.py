"""Turn the client's records of scores and recommendations into protobuf messages and back."""

from collections.abc import Sequence
from datetime import UTC, datetime

from recollect_api.metadata_records import ItemMetadata
from recollect_api.metadata_wire import item_metadata, require_list
from recollect_api.records import (
    CandidateOrigin,
    CategoryShare,
    DegradedReason,
    EventType,
    ExplainedItem,
    Explanations,
    FoundBehaviour,
    Recommendations,
    RecommendedItem,
    ScoredItem,
    ScoreRow,
    Scores,
)
from recollect_api.v1 import metadata_pb2, recommender_pb2
from recollect_api.wire import made, member, timestamp


def score_request(
    user_id: str,
    item_ids: Sequence[int],
    *,
    as_of: datetime | None,
    display: Sequence[str],
    explain: bool,
    request_id: str,
) -> recommender_pb2.ScoreRequest:
    """The message of a Score call; ValueError or InvalidRequest where a value has no form on the wire."""
    require_list("display", display)
    return made(
        recommender_pb2.ScoreRequest,
        user_id=user_id,
        item_ids=item_ids,
        as_of=None if as_of is None else timestamp("as_of", as_of),
        display=display,
        explain=explain,
        request_id=request_id,
    )


def row_request(row: ScoreRow) -> recommender_pb2.ScoreRequest:
    """The message of one row of a stream; raises as `score_request`, and TypeError for what is no value of a field."""
    return score_request(
        row.user_id,
        row.item_ids,
        as_of=row.as_of,
        display=row.display,
        explain=row.explain,
        request_id=row.request_id,
    )


def scores(request: recommender_pb2.ScoreRequest, response: recommender_pb2.ScoreResponse) -> Scores:
    """The answer to `request`."""
    unknown = set(response.unknown_positions)
    count = len(request.item_ids)
    found = [_found(explanation) for explanation in response.explanations] or [()] * count
    told = [_metadata(each) for each in response.displayed] or [None] * count
    return Scores(
        items=tuple(
            ScoredItem(item_id=item_id, score=score, known=position not in unknown, found=behaviours, metadata=metadata)
            for position, (item_id, score, behaviours, metadata) in enumerate(
                zip(request.item_ids, response.scores, found, told, strict=True)
            )
        ),
        model_name=response.model_name,
        model_version=response.model_version,
        history_version=response.history_version,
        history_length=response.history_length,
        degraded=tuple(member(DegradedReason, reason) for reason in response.degraded),
        request_id=response.request_id,
        catalogue_name=response.catalogue_name,
        catalogue_version=response.catalogue_version,
    )


def recommend_request(
    user_id: str,
    count: int,
    *,
    as_of: datetime | None,
    exclude_seen: bool,
    exclude_item_ids: Sequence[int],
    category_ids: Sequence[int],
    max_per_category: int,
    filter: metadata_pb2.ItemFilter | None,
    display: Sequence[str],
    explain: bool,
    request_id: str,
) -> recommender_pb2.RecommendRequest:
    """The message of a Recommend call; ValueError or InvalidRequest where a value has no form on the wire."""
    require_list("display", display)
    return made(
        recommender_pb2.RecommendRequest,
        user_id=user_id,
        count=count,
        as_of=None if as_of is None else timestamp("as_of", as_of),
        exclude_seen=exclude_seen,
        exclude_item_ids=exclude_item_ids,
        category_ids=category_ids,
        max_per_category=max_per_category,
        filter=filter,
        display=display,
        explain=explain,
        request_id=request_id,
    )


def recommendations(response: recommender_pb2.RecommendResponse) -> Recommendations:
    """The answer to a Recommend call."""
    return Recommendations(
        items=tuple(
            RecommendedItem(
                item_id=each.item_id,
                score=each.score,
                origin=member(CandidateOrigin, each.origin),
                because_item_id=None if each.because_item_id < 0 else each.because_item_id,
                similarity=each.similarity,
                found=_found(each.explanation),
                because_name=each.because_name,
                metadata=_metadata(each),
            )
            for each in response.items
        ),
        model_name=response.model_name,
        model_version=response.model_version,
        index_name=response.index_name,
        index_version=response.index_version,
        history_version=response.history_version,
        history_length=response.history_length,
        candidates=response.candidates,
        degraded=tuple(member(DegradedReason, reason) for reason in response.degraded),
        request_id=response.request_id,
        catalogue_name=response.catalogue_name,
        catalogue_version=response.catalogue_version,
        matching_items=response.matching_items if response.HasField("matching_items") else None,
    )


def explain_request(
    user_id: str,
    item_ids: Sequence[int],
    *,
    as_of: datetime | None,
    max_behaviours: int,
    display: Sequence[str],
    request_id: str,
) -> recommender_pb2.ExplainRequest:
    """The message of an Explain call; ValueError or InvalidRequest where a value has no form on the wire."""
    require_list("display", display)
    return made(
        recommender_pb2.ExplainRequest,
        user_id=user_id,
        item_ids=item_ids,
        as_of=None if as_of is None else timestamp("as_of", as_of),
        max_behaviours=max_behaviours,
        display=display,
        request_id=request_id,
    )


def explained(response: recommender_pb2.ExplainResponse) -> Explanations:
    """The answer to an Explain call."""
    return Explanations(
        items=tuple(
            ExplainedItem(
                item_id=each.item_id,
                score=each.score,
                score_without_history=each.score_without_history,
                known=each.known,
                found=_found(each),
                categories=tuple(
                    CategoryShare(
                        category_id=share.category_id,
                        category_name=share.category_name,
                        share=share.share,
                        behaviours=share.behaviours,
                    )
                    for share in each.categories
                ),
                metadata=_metadata(each),
            )
            for each in response.items
        ),
        model_name=response.model_name,
        model_version=response.model_version,
        history_version=response.history_version,
        history_length=response.history_length,
        degraded=tuple(member(DegradedReason, reason) for reason in response.degraded),
        request_id=response.request_id,
        catalogue_name=response.catalogue_name,
        catalogue_version=response.catalogue_version,
    )


def _metadata(
    message: recommender_pb2.RecommendedItem | recommender_pb2.DisplayedItem | recommender_pb2.ExplainedItem,
) -> ItemMetadata | None:
    return item_metadata(message.metadata) if message.HasField("metadata") else None


def _found(explanation: recommender_pb2.Explanation | recommender_pb2.ExplainedItem) -> tuple[FoundBehaviour, ...]:
    return tuple(
        FoundBehaviour(
            item_id=each.item_id,
            time=each.time.ToDatetime(UTC),
            type=member(EventType, each.type),
            weight=each.weight,
            item_name=each.item_name,
        )
        for each in explanation.behaviours
    )
