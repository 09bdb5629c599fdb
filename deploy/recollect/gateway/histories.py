"""Answer Histories: store what users did, list it, delete it."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator, Sequence

import grpc.aio  # type: ignore[import-untyped]
import numpy as np

from recollect.gateway.appends import NOTHING_STORED, RequestedAppend, StreamOutcomes, refused
from recollect.gateway.errors import InvalidCall, StoreDown
from recollect.gateway.log_erasure import LogErasure
from recollect.gateway.paging import Position, position_of
from recollect.gateway.times import ceil_ms, timestamp
from recollect.gateway.validation import check_append_many, check_list, check_user
from recollect.gateway.workers import require_time
from recollect.telemetry.answers import redis_failed
from recollect_api.streams import TAKEN
from recollect_api.v1 import event_pb2, histories_pb2, histories_pb2_grpc
from recsys.data.event_store import EventType
from recsys.errors import DataError, HistoryError, HistoryUnavailable
from recsys.history import Append, AppendResult, Deletion, History, HistoryStats, HistoryStore, LogState

log = logging.getLogger(__name__)

STREAM_APPENDS = 10_000
"""Most appends that one stream may hold."""
TRIP_APPENDS, TRIP_EVENTS = 256, 5_000
"""What is gathered from a stream for one round trip."""
LINGER_S = 0.005
"""How long what was gathered waits for more."""


class HistoriesServicer(histories_pb2_grpc.HistoriesServicer):
    """Appends to, lists and deletes the histories of `store`."""

    def __init__(self, store: HistoryStore) -> None:
        self._store = store
        self._log = LogErasure(store)

    async def close(self) -> None:
        """Begin no more work in the background."""
        await self._log.close()

    async def Append(  # noqa: N802 - gRPC's name
        self, request: histories_pb2.AppendRequest, context: grpc.aio.ServicerContext
    ) -> histories_pb2.AppendResponse:
        """Store the events of `request` that can be stored; the others come back with their reasons."""
        requested = RequestedAppend(request)
        require_time(context)
        append = requested.append
        with _store_down(NOTHING_STORED):
            result = await self._store.append(append.user_id, append.events, request_id=append.request_id)
        return requested.response(result)

    async def AppendMany(  # noqa: N802 - gRPC's name
        self, request: histories_pb2.AppendManyRequest, context: grpc.aio.ServicerContext
    ) -> histories_pb2.AppendManyResponse:
        """Store the events of many users, each with an outcome of its own."""
        check_append_many(request)
        require_time(context)
        with _store_down("the history store cannot be reached; repeat the call later, what was stored is not doubled"):
            outcomes = await self._apply(request.appends)
        return histories_pb2.AppendManyResponse(outcomes=outcomes)

    async def AppendStream(  # noqa: N802 - gRPC's name
        self, requests: AsyncIterator[histories_pb2.AppendStreamRequest], context: grpc.aio.ServicerContext
    ) -> histories_pb2.AppendStreamResponse:
        """Store what arrives while it arrives; outcomes for all of it at the end."""
        require_time(context)
        # As in ScoreStream: who waits for this never writes to a stream that was refused.
        await context.send_initial_metadata((TAKEN,))
        told = StreamOutcomes()
        async for trip in _trips(requests, told):
            try:
                told.add(await self._apply(trip))
            except HistoryUnavailable:
                redis_failed()
                # What came before is acknowledged all the same, and what comes after may find the store again.
                told.add(refused(StoreDown(NOTHING_STORED), request.request_id) for request in trip)
        return histories_pb2.AppendStreamResponse(outcomes=told.outcomes)

    async def List(  # noqa: N802 - gRPC's name
        self, request: histories_pb2.ListRequest, context: grpc.aio.ServicerContext
    ) -> histories_pb2.ListResponse:
        """One page of a history, newest first."""
        listing = _listing(request)
        position = position_of(request.page_token, listing)
        page_size = check_list(request, is_page_token=lambda _: position is not None)
        require_time(context)
        listed = 0 if position is None else position.listed
        limits = [ceil_ms(request.as_of)] if request.HasField("as_of") else []
        if position is not None:
            limits.append(position.time_ms + 1)
        with _store_down("the history store cannot be reached; repeat the call later"):
            # One more than fits into the page says whether there is a next one.
            history = await self._store.read(
                request.user_id,
                limit=page_size + listed + 1,
                before_ms=min(limits, default=None),
                types=[EventType(kind) for kind in request.types] or None,
            )
        if not history.complete:
            raise StoreDown(
                "a part of the history cannot be read now, and the service's log says why; repeat the call later"
            )
        return _page(history, listing=listing, page_size=page_size, position=position)

    async def Delete(  # noqa: N802 - gRPC's name
        self, request: histories_pb2.DeleteRequest, context: grpc.aio.ServicerContext
    ) -> histories_pb2.DeleteResponse:
        """Delete a user's history, and have its bytes taken off the disk."""
        check_user(request.user_id, request_id=request.request_id)
        require_time(context)
        with _store_down("the history store cannot be reached; repeat the call until it is answered"):
            deletion = await self._store.delete(request.user_id)
        state = deletion.log
        if state is LogState.PENDING:
            asked = self._log.ask(request.user_id)
            if request.wait:
                with contextlib.suppress(HistoryError):  # it stays pending, and the log says why
                    await asyncio.shield(asked)
                    state = LogState.ERASED
        return histories_pb2.DeleteResponse(
            deleted_behaviours=deletion.behaviours,
            deletion=await self._deletion(request.user_id, deletion, state),
            request_id=request.request_id,
        )

    async def Stats(  # noqa: N802 - gRPC's name
        self, request: histories_pb2.StatsRequest, context: grpc.aio.ServicerContext
    ) -> histories_pb2.StatsResponse:
        """What is stored of a user, and how the store is."""
        check_user(request.user_id, required=False)
        require_time(context)
        with _store_down("the history store cannot be reached; repeat the call later"):
            report = await self._store.check()
            stats = await self._store.stats(request.user_id) if request.user_id else None
        told = None
        if stats is not None:
            told = _stats(stats)
            if stats.deletion is not None:
                told.deletion.CopyFrom(await self._deletion(request.user_id, stats.deletion, stats.deletion.log))
        return histories_pb2.StatsResponse(
            history=told,
            store=histories_pb2.StoreStats(
                server=report.server,
                persistence=report.persistence,
                eviction=report.eviction,
                memory_bytes=report.memory_bytes,
                memory_limit_bytes=report.memory_limit_bytes,
                warnings=report.warnings,
            ),
        )

    async def _apply(self, requests: Sequence[histories_pb2.AppendRequest]) -> list[histories_pb2.AppendOutcome]:
        """Outcomes of `requests`, in their order and in one round trip."""
        outcomes: dict[int, histories_pb2.AppendOutcome] = {}
        taken: dict[int, RequestedAppend] = {}
        for at, request in enumerate(requests):
            try:
                taken[at] = RequestedAppend(request)
            except InvalidCall as error:
                outcomes[at] = refused(error, request.request_id)
        appends: list[Append] = [each.append for each in taken.values()]
        results: list[AppendResult | HistoryError] = await self._store.append_many(appends)
        for (at, requested), result in zip(taken.items(), results, strict=True):
            outcomes[at] = requested.outcome(result)
        return [outcomes[at] for at in range(len(requests))]

    async def _deletion(self, user_id: str, deletion: Deletion, state: LogState) -> histories_pb2.Deletion:
        try:
            held = await self._store.source_holds_deleted(user_id)
        except (DataError, OSError) as error:
            log.warning("whether the event store holds deleted behaviours is not known: %s", error)
            held = True
        event_store = histories_pb2.ERASURE_STATE_NOT_USED
        if held is not None:
            event_store = histories_pb2.ERASURE_STATE_PENDING if held else histories_pb2.ERASURE_STATE_ERASED
        erased = state is LogState.ERASED
        return histories_pb2.Deletion(
            until=timestamp(deletion.time_ms),
            redis_log=histories_pb2.ERASURE_STATE_ERASED if erased else histories_pb2.ERASURE_STATE_PENDING,
            event_store=event_store,
        )


@contextlib.contextmanager
def _store_down(message: str) -> Iterator[None]:
    """Say StoreDown with `message` where Redis does not answer or takes no writes, or nothing can be noted beside the
    event store."""
    try:
        yield
    except HistoryUnavailable as error:
        redis_failed()
        raise StoreDown(message) from error
    except (DataError, OSError) as error:
        log.warning("the event store cannot be used: %s", error)
        raise StoreDown(
            "the event store cannot be used, and the service's log says why; repeat the call later"
        ) from error


async def _trips(
    requests: AsyncIterator[histories_pb2.AppendStreamRequest], told: StreamOutcomes
) -> AsyncIterator[list[histories_pb2.AppendRequest]]:
    """What a stream brings, in parts for one round trip each; what has arrived does not wait for what has not."""
    trip: list[histories_pb2.AppendRequest] = []
    taken = events = 0
    while taken < STREAM_APPENDS and not told.full:
        arriving = asyncio.ensure_future(anext(requests, None))
        if trip:
            await asyncio.wait({arriving}, timeout=LINGER_S)
            if not arriving.done() or len(trip) >= TRIP_APPENDS or events >= TRIP_EVENTS:
                yield trip
                trip, events = [], 0
        request = await arriving
        if request is None:
            break
        trip.append(request.append)
        taken, events = taken + 1, events + len(request.append.events)
    if trip:
        yield trip


def _listing(request: histories_pb2.ListRequest) -> str:
    """What a page token is good for; the user's id alone where nothing else is asked for."""
    types = ",".join(map(str, sorted(set(request.types))))
    as_of = f"{request.as_of.seconds}.{request.as_of.nanos}" if request.HasField("as_of") else ""
    return "\0".join([request.user_id, *([types, as_of] if types or as_of else [])])


def _page(history: History, *, listing: str, page_size: int, position: Position | None) -> histories_pb2.ListResponse:
    """The newest `page_size` of `history` behind `position`; a token for the rest where there is more."""
    skipped = _already_listed(history, position)
    end = len(history.item_ids) - skipped
    begin = max(0, end - page_size)
    token = ""
    if begin > 0:
        last_ms = int(history.times_ms[begin])
        same_ms = int(np.count_nonzero(history.times_ms[begin:] == last_ms))
        token = Position(time_ms=last_ms, listed=same_ms).token(listing)
    return histories_pb2.ListResponse(
        behaviours=[
            histories_pb2.Behaviour(
                item_id=int(history.item_ids[at]),
                time=timestamp(int(history.times_ms[at])),
                type=_type(int(history.types[at])),
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


def _stats(stats: HistoryStats) -> histories_pb2.HistoryStats:
    return histories_pb2.HistoryStats(
        version=stats.version,
        length=stats.length,
        by_type=[
            histories_pb2.TypeCount(type=_type(kind), count=count) for kind, count in sorted(stats.by_type.items())
        ],
        first_time=None if stats.first_ms is None else timestamp(stats.first_ms),
        last_time=None if stats.last_ms is None else timestamp(stats.last_ms),
        memory_bytes=stats.memory_bytes,
    )


def _type(kind: int) -> event_pb2.EventType.ValueType:
    return event_pb2.EventType.ValueType(kind)
