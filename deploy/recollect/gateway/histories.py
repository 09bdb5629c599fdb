"""Answer Histories: store what users did, and list it."""

import grpc.aio  # type: ignore[import-untyped]
import numpy as np

from recollect.gateway.errors import StoreDown
from recollect.gateway.paging import Position, position_of
from recollect.gateway.times import floor_ms, timestamp
from recollect.gateway.validation import check_append, check_list, event_problem
from recollect.gateway.workers import require_time
from recollect_api.v1 import event_pb2, histories_pb2, histories_pb2_grpc
from recsys.errors import HistoryUnavailable
from recsys.history.codec import EventBatch
from recsys.history.store import History, HistoryStore


class HistoriesServicer(histories_pb2_grpc.HistoriesServicer):
    """Appends to, and lists, the histories of `store`."""

    def __init__(self, store: HistoryStore) -> None:
        self._store = store

    async def Append(  # noqa: N802 - gRPC's name
        self, request: histories_pb2.AppendRequest, context: grpc.aio.ServicerContext
    ) -> histories_pb2.AppendResponse:
        """Store the events of `request` that can be stored; the others come back with their reasons."""
        check_append(request)
        require_time(context)
        problems = {index: event_problem(event) for index, event in enumerate(request.events)}
        rejected = {index: reason for index, reason in problems.items() if reason is not None}
        # Positions in the request of what goes to the store, which counts from 0 in what it is given.
        sent = [index for index, reason in problems.items() if reason is None]
        events = [request.events[index] for index in sent]
        batch = EventBatch(
            item_ids=np.array([event.item_id for event in events], dtype=np.int64),
            times_ms=np.array([floor_ms(event.time) for event in events], dtype=np.int64),
            types=np.array([event.type for event in events], dtype=np.int64),
            event_ids=[event.event_id for event in events],
        )
        try:
            result = await self._store.append(request.user_id, batch)
        except HistoryUnavailable as error:
            raise StoreDown("the history store cannot be reached, nothing was stored; repeat the call later") from error
        rejected |= {sent[index]: reason for index, reason in result.rejected}
        return histories_pb2.AppendResponse(
            accepted=result.accepted,
            duplicates=result.duplicates,
            rejected=[
                histories_pb2.RejectedEvent(index=index, reason=reason) for index, reason in sorted(rejected.items())
            ],
            history_version=result.version,
            history_length=result.length,
            request_id=request.request_id,
        )

    async def List(  # noqa: N802 - gRPC's name
        self, request: histories_pb2.ListRequest, context: grpc.aio.ServicerContext
    ) -> histories_pb2.ListResponse:
        """One page of a history, newest first."""
        position = position_of(request.page_token, request.user_id)
        page_size = check_list(request, is_page_token=lambda _: position is not None)
        require_time(context)
        listed = 0 if position is None else position.listed
        try:
            # One more than fits into the page says whether there is a next one.
            history = await self._store.read(
                request.user_id,
                limit=page_size + listed + 1,
                before_ms=None if position is None else position.time_ms + 1,
            )
        except HistoryUnavailable as error:
            raise StoreDown("the history store cannot be reached; repeat the call later") from error
        return _page(history, user_id=request.user_id, page_size=page_size, position=position)


def _page(history: History, *, user_id: str, page_size: int, position: Position | None) -> histories_pb2.ListResponse:
    """The newest `page_size` of `history` behind `position`; a token for the rest where there is more."""
    skipped = _already_listed(history, position)
    end = len(history.item_ids) - skipped
    begin = max(0, end - page_size)
    token = ""
    if begin > 0:
        last_ms = int(history.times_ms[begin])
        same_ms = int(np.count_nonzero(history.times_ms[begin:] == last_ms))
        token = Position(time_ms=last_ms, listed=same_ms).token(user_id)
    return histories_pb2.ListResponse(
        behaviours=[
            histories_pb2.Behaviour(
                item_id=int(history.item_ids[at]),
                time=timestamp(int(history.times_ms[at])),
                type=event_pb2.EventType.ValueType(int(history.types[at])),
            )
            for at in reversed(range(begin, end))
        ],
        next_page_token=token,
        history_version=history.version,
        history_length=history.length,
    )


def _already_listed(history: History, position: Position | None) -> int:
    """How many behaviours at the newest end of `history` the pages before this one have shown."""
    if position is None:
        return 0
    # Fewer are there than were listed when the store has trimmed in between.
    return min(position.listed, int(np.count_nonzero(history.times_ms == position.time_ms)))
