"""Turn an append on the wire into one of the store, and what became of it back."""

import logging
import uuid
from collections.abc import Iterable

import numpy as np

from recollect.gateway.errors import CallError, Incident, StoreDown
from recollect.gateway.statuses import status_of
from recollect.gateway.times import floor_ms
from recollect.gateway.validation import check_append, event_problem
from recollect_api.v1 import histories_pb2
from recsys.errors import HistoryError, HistoryUnavailable
from recsys.history import Append, AppendResult, EventBatch
from recsys.history.seldom import Seldom

DETAILED_BYTES = 4 << 20
"""Outcomes of a stream before the reasons of what is refused are left out."""
OUTCOMES_BYTES = 12 << 20
"""Outcomes of a stream before it ends; with those of what was read meanwhile they fit into one answer."""
REASON_LEFT_OUT = "refused; reason left out"
log = logging.getLogger(__name__)
_refusals = Seldom(log)

NOTHING_STORED = "the history store cannot be reached or takes no writes, nothing was stored; repeat the call later"


class RequestedAppend:
    """One AppendRequest; InvalidCall where it cannot be taken as a whole."""

    def __init__(self, request: histories_pb2.AppendRequest) -> None:
        check_append(request)
        self._request = request
        problems = {index: event_problem(event) for index, event in enumerate(request.events)}
        self._rejected = {index: reason for index, reason in problems.items() if reason is not None}
        # Positions in the request of what goes to the store, which counts from 0 in what it is given.
        self._sent = [index for index, reason in problems.items() if reason is None]
        events = [request.events[index] for index in self._sent]
        self.append = Append(
            user_id=request.user_id,
            request_id=request.request_id,
            events=EventBatch(
                item_ids=np.array([event.item_id for event in events], dtype=np.int64),
                times_ms=np.array([floor_ms(event.time) for event in events], dtype=np.int64),
                types=np.array([event.type for event in events], dtype=np.int64),
                event_ids=[event.event_id for event in events],
            ),
        )

    def response(self, result: AppendResult) -> histories_pb2.AppendResponse:
        """What the store's `result` says of each event of the request."""
        rejected = self._rejected | {self._sent[index]: reason for index, reason in result.rejected}
        return histories_pb2.AppendResponse(
            accepted=result.accepted,
            duplicates=result.duplicates,
            rejected=[
                histories_pb2.RejectedEvent(index=index, reason=reason) for index, reason in sorted(rejected.items())
            ],
            history_version=result.version,
            history_length=result.length,
            request_id=self._request.request_id,
            already_applied=result.repeated,
        )

    def outcome(self, result: AppendResult | HistoryError) -> histories_pb2.AppendOutcome:
        """The same, where the append is one of many."""
        request_id = self._request.request_id
        if isinstance(result, AppendResult):
            return histories_pb2.AppendOutcome(response=self.response(result), request_id=request_id)
        if isinstance(result, HistoryUnavailable):
            _refusals.warning("an append was refused: %s", result)
            return refused(StoreDown(NOTHING_STORED), request_id)
        incident = uuid.uuid4().hex
        log.error("incident %s, request_id %r: %s", incident, request_id, result)
        message = f"this history cannot be written; the service's log has the reason under incident {incident}"
        return refused(Incident(message, incident=incident), request_id)


def refused(error: CallError, request_id: str) -> histories_pb2.AppendOutcome:
    """The outcome of an append that would end with `error` if it were alone."""
    return histories_pb2.AppendOutcome(status=status_of(error), request_id=request_id)


class StreamOutcomes:
    """What became of the appends of a stream, all of which one answer must hold: what was stored would otherwise not be
    acknowledged for what was refused."""

    def __init__(self) -> None:
        self.outcomes: list[histories_pb2.AppendOutcome] = []
        self._bytes = 0

    @property
    def full(self) -> bool:
        """Whether no further append may be taken."""
        return self._bytes >= OUTCOMES_BYTES

    def add(self, outcomes: Iterable[histories_pb2.AppendOutcome]) -> None:
        """Keep `outcomes`, without reasons where there are many of these already."""
        for outcome in outcomes:
            if self._bytes >= DETAILED_BYTES:
                _leave_reasons_out(outcome)
            self._bytes += outcome.ByteSize()
            self.outcomes.append(outcome)


def _leave_reasons_out(outcome: histories_pb2.AppendOutcome) -> None:
    if outcome.HasField("status"):
        del outcome.status.details[1:]  # the first is the constant that says what it is
    for rejected in outcome.response.rejected if outcome.HasField("response") else ():
        rejected.reason = REASON_LEFT_OUT
