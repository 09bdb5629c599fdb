"""Turn the client's records into protobuf messages and back."""

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import IntEnum
from typing import TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from recollect_api.records import (
    CandidateOrigin,
    DegradedReason,
    EventType,
    FoundBehaviour,
    Recommendations,
    RecommendedItem,
    ScoredItem,
    Scores,
)
from recollect_api.v1 import recommender_pb2

E = TypeVar("E", bound=IntEnum)


def score_request(
    user_id: str, item_ids: Sequence[int], *, as_of: datetime | None, explain: bool, request_id: str
) -> recommender_pb2.ScoreRequest:
    """The message of a Score call; ValueError where a value has no form on the wire."""
    return recommender_pb2.ScoreRequest(
        user_id=user_id,
        item_ids=item_ids,
        as_of=None if as_of is None else timestamp("as_of", as_of),
        explain=explain,
        request_id=request_id,
    )


def scores(request: recommender_pb2.ScoreRequest, response: recommender_pb2.ScoreResponse) -> Scores:
    """The answer to `request`."""
    unknown = set(response.unknown_positions)
    found = [_found(explanation) for explanation in response.explanations] or [()] * len(request.item_ids)
    return Scores(
        items=tuple(
            ScoredItem(item_id=item_id, score=score, known=position not in unknown, found=behaviours)
            for position, (item_id, score, behaviours) in enumerate(
                zip(request.item_ids, response.scores, found, strict=True)
            )
        ),
        model_name=response.model_name,
        model_version=response.model_version,
        history_version=response.history_version,
        history_length=response.history_length,
        degraded=tuple(member(DegradedReason, reason) for reason in response.degraded),
        request_id=response.request_id,
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
    explain: bool,
    request_id: str,
) -> recommender_pb2.RecommendRequest:
    """The message of a Recommend call; ValueError where a value has no form on the wire."""
    return recommender_pb2.RecommendRequest(
        user_id=user_id,
        count=count,
        as_of=None if as_of is None else timestamp("as_of", as_of),
        exclude_seen=exclude_seen,
        exclude_item_ids=exclude_item_ids,
        category_ids=category_ids,
        max_per_category=max_per_category,
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
    )


def _found(explanation: recommender_pb2.Explanation) -> tuple[FoundBehaviour, ...]:
    return tuple(
        FoundBehaviour(
            item_id=each.item_id,
            time=each.time.ToDatetime(UTC),
            type=member(EventType, each.type),
            weight=each.weight,
        )
        for each in explanation.behaviours
    )


def timestamp(field: str, time: datetime) -> Timestamp:
    """`time` as it goes on the wire; ValueError, with `field`, where it has no zone."""
    if time.utcoffset() is None:
        raise ValueError(
            f"{field} must have a time zone, got {time.isoformat()}; use datetime.now(UTC) or add tzinfo=UTC"
        )
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp


def member(kind: type[E], number: int) -> E | int:
    """The member of `kind` with that number, or the number itself."""
    # A newer service may know members that this client does not; they must not break an older caller.
    return kind(number) if number in kind._value2member_map_ else number
