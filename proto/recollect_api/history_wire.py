"""Turn the client's records of histories into protobuf messages and back."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from recollect_api.errors import ClientError, from_status
from recollect_api.history_records import (
    Append,
    AppendResult,
    DeleteResult,
    Deletion,
    ErasureState,
    HistoryPage,
    HistoryStats,
    RejectedEvent,
    Stats,
    StoreStats,
)
from recollect_api.records import Behaviour, Event, EventType
from recollect_api.v1 import event_pb2, histories_pb2
from recollect_api.wire import made, made_at, member, timestamp


def append_request(
    user_id: str, events: Sequence[Event], *, request_id: str, at: str = ""
) -> histories_pb2.AppendRequest:
    """The message of an Append call, or of one in a request for many, whose path is `at`.

    ValueError or InvalidRequest where a value has no form on the wire.
    """
    return histories_pb2.AppendRequest(
        user_id=user_id,
        events=[
            made_at(
                f"{at}events[{index}].",
                histories_pb2.Event,
                item_id=event.item_id,
                time=timestamp(f"{at}events[{index}].time", event.time),
                type=event_pb2.EventType.ValueType(int(event.type)),
                event_id=event.event_id,
            )
            for index, event in enumerate(events)
        ],
        request_id=request_id,
    )


def append_result(response: histories_pb2.AppendResponse) -> AppendResult:
    """What became of the events."""
    return AppendResult(
        accepted=response.accepted,
        duplicates=response.duplicates,
        rejected=tuple(RejectedEvent(index=each.index, reason=each.reason) for each in response.rejected),
        history_version=response.history_version,
        history_length=response.history_length,
        request_id=response.request_id,
        already_applied=response.already_applied,
    )


def append_many_request(appends: Iterable[Append]) -> histories_pb2.AppendManyRequest:
    """The message of an AppendMany call."""
    return histories_pb2.AppendManyRequest(
        appends=[_append(each, f"appends[{index}].") for index, each in enumerate(appends)]
    )


def streamed_append(append: Append) -> histories_pb2.AppendStreamRequest:
    """One message of an AppendStream call."""
    return histories_pb2.AppendStreamRequest(append=_append(append, "append."))


def outcomes(
    response: histories_pb2.AppendManyResponse | histories_pb2.AppendStreamResponse,
) -> list[AppendResult | ClientError]:
    """What became of each append, in their order."""
    return [
        append_result(each.response)
        if each.HasField("response")
        else from_status(each.status.SerializeToString(), request_id=each.request_id)
        for each in response.outcomes
    ]


def list_request(
    user_id: str, *, page_size: int, page_token: str, types: Sequence[EventType], as_of: datetime | None
) -> histories_pb2.ListRequest:
    """The message of a List call; ValueError where `as_of` has no time zone, InvalidRequest for what cannot be sent."""
    return made(
        histories_pb2.ListRequest,
        user_id=user_id,
        page_size=page_size,
        page_token=page_token,
        types=[event_pb2.EventType.ValueType(int(kind)) for kind in types],
        as_of=None if as_of is None else timestamp("as_of", as_of),
    )


def history_page(response: histories_pb2.ListResponse) -> HistoryPage:
    """One page of a history."""
    return HistoryPage(
        behaviours=tuple(
            Behaviour(item_id=each.item_id, time=each.time.ToDatetime(UTC), type=member(EventType, each.type))
            for each in response.behaviours
        ),
        next_page_token=response.next_page_token,
        history_version=response.history_version,
        history_length=response.history_length,
    )


def delete_result(response: histories_pb2.DeleteResponse) -> DeleteResult:
    """The answer to a Delete call."""
    return DeleteResult(
        deleted_behaviours=response.deleted_behaviours,
        deletion=_deletion(response.deletion),
        request_id=response.request_id,
    )


def stats(response: histories_pb2.StatsResponse) -> Stats:
    """The answer to a Stats call."""
    store = response.store
    return Stats(
        history=_history_stats(response.history) if response.HasField("history") else None,
        store=StoreStats(
            server=store.server,
            persistence=store.persistence,
            eviction=store.eviction,
            memory_bytes=store.memory_bytes,
            memory_limit_bytes=store.memory_limit_bytes,
            warnings=tuple(store.warnings),
        ),
    )


def _history_stats(told: histories_pb2.HistoryStats) -> HistoryStats:
    return HistoryStats(
        version=told.version,
        length=told.length,
        by_type={member(EventType, each.type): each.count for each in told.by_type},
        first_time=told.first_time.ToDatetime(UTC) if told.HasField("first_time") else None,
        last_time=told.last_time.ToDatetime(UTC) if told.HasField("last_time") else None,
        memory_bytes=told.memory_bytes,
        deletion=_deletion(told.deletion) if told.HasField("deletion") else None,
    )


def _append(append: Append, at: str) -> histories_pb2.AppendRequest:
    return append_request(append.user_id, append.events, request_id=append.request_id, at=at)


def _deletion(told: histories_pb2.Deletion) -> Deletion:
    return Deletion(
        until=told.until.ToDatetime(UTC),
        redis_log=member(ErasureState, told.redis_log),
        event_store=member(ErasureState, told.event_store),
    )
