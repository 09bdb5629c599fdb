"""Check requests: every field that is wrong is named at once, with what was given and what to send instead."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recollect.gateway.errors import InvalidCall, Violation
from recollect.gateway.times import ceil_ms, time_problem
from recollect_api.v1 import histories_pb2, recommender_pb2
from recsys.data.event_store import EventType

MAX_USER_ID_BYTES = 256
MAX_REQUEST_ID_BYTES = 128
MAX_EVENT_ID_BYTES = 128
MAX_KEY_BYTES = 128
MAX_EVENTS = 1_000
"""Most events in one Append."""
MAX_APPENDS = 1_000
"""Most appends in one AppendMany."""
MAX_EVENTS_IN_ALL = 10_000
"""Most events in one AppendMany."""
MAX_PAGE_SIZE = 1_000
DEFAULT_PAGE_SIZE = 100
MAX_COLUMN_BYTES = 256
MAX_DISPLAYED = 50
"""Columns that are displayed of each item."""
SHOWN_CHARACTERS = 40
"""How much of a wrong value is repeated in the answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreCall:
    """A Score request that is in order."""

    user_id: str
    item_ids: npt.NDArray[np.int64]
    """[T] candidates."""
    before_ms: int | None
    """Behaviours strictly earlier than this count, milliseconds since the Unix epoch; None for all."""
    display: tuple[str, ...]
    """Columns of the catalogue to tell of each."""


class Violations:
    """Collects what is wrong with one request."""

    def __init__(self) -> None:
        self._found: list[Violation] = []

    def add(self, field: str, description: str) -> None:
        """Note that `field` is wrong."""
        self._found.append(Violation(field=field, description=description))

    def require_text(self, field: str, value: str, *, most_bytes: int, empty: str | None) -> None:
        """Note a text that is too long or, where `empty` gives the remedy, missing."""
        size = len(value.encode())
        if size > most_bytes:
            self.add(field, f"must be at most {most_bytes} bytes, got {size} ({shown(value)}); send a shorter one")
        elif size == 0 and empty is not None:
            self.add(field, f"must not be empty; {empty}")

    def require_user(self, user_id: str) -> None:
        """Note a user id that cannot be one."""
        self.require_text("user_id", user_id, most_bytes=MAX_USER_ID_BYTES, empty="send the id of the user")

    def require_request_id(self, request_id: str) -> None:
        """Note a request id that is too long to be logged."""
        self.require_text("request_id", request_id, most_bytes=MAX_REQUEST_ID_BYTES, empty=None)

    def raise_any(self) -> None:
        """Raise InvalidCall where anything was noted."""
        if self._found:
            raise InvalidCall(self._found)


def shown(value: object) -> str:
    """`value` as it is repeated to the caller: quoted and shortened."""
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 1]}…"


def check_score(request: recommender_pb2.ScoreRequest, *, max_candidates: int) -> ScoreCall:
    """What `request` asks for; InvalidCall names every field that is wrong."""
    violations = Violations()
    violations.require_user(request.user_id)
    violations.require_request_id(request.request_id)
    item_ids = check_candidates(violations, request.item_ids, most=max_candidates)
    before_ms = check_as_of(violations, request)
    display = check_display(violations, request.display)
    violations.raise_any()
    return ScoreCall(user_id=request.user_id, item_ids=item_ids, before_ms=before_ms, display=display)


def check_candidates(violations: Violations, item_ids: Sequence[int], *, most: int) -> npt.NDArray[np.int64]:
    """[T] the candidates `item_ids` of a request; what is wrong with them is noted."""
    candidates = np.fromiter(item_ids, dtype=np.int64, count=len(item_ids))
    if len(candidates) == 0:
        violations.add("item_ids", "must not be empty; send the candidates to score")
    elif len(candidates) > most:
        violations.add(
            "item_ids", f"must be at most {most} candidates, got {len(candidates)}; split them over several calls"
        )
    for at in np.flatnonzero(candidates < 0).tolist():
        violations.add(f"item_ids[{at}]", f"must be 0 or more, got {candidates[at]}; send an id of the catalogue")
    return candidates


def check_display(violations: Violations, display: Sequence[str]) -> tuple[str, ...]:
    """Columns to display, each once; what is wrong whatever the catalogue is noted."""
    if len(display) > MAX_DISPLAYED:
        violations.add("display", f"must be at most {MAX_DISPLAYED} columns, got {len(display)}; leave some out")
        return ()
    for at, column in enumerate(display):
        violations.require_text(
            f"display[{at}]", column, most_bytes=MAX_COLUMN_BYTES, empty="send the name of a column"
        )
    return tuple(dict.fromkeys(display))


def check_as_of(
    violations: Violations,
    request: recommender_pb2.ScoreRequest | recommender_pb2.RecommendRequest | recommender_pb2.ExplainRequest,
) -> int | None:
    """The request's `as_of`, milliseconds since the Unix epoch; None where it is left out, or wrong and noted."""
    if not request.HasField("as_of"):
        return None
    problem = time_problem(request.as_of)
    if problem is None:
        return ceil_ms(request.as_of)
    violations.add("as_of", problem)
    return None


def check_append(request: histories_pb2.AppendRequest) -> None:
    """InvalidCall where the request as a whole cannot be taken; single events are `event_problem`'s."""
    violations = Violations()
    violations.require_user(request.user_id)
    violations.require_request_id(request.request_id)
    if len(request.events) == 0:
        violations.add("events", "must not be empty; send at least one event")
    elif len(request.events) > MAX_EVENTS:
        violations.add(
            "events", f"must be at most {MAX_EVENTS} events, got {len(request.events)}; split them over several calls"
        )
    violations.raise_any()


def check_append_many(request: histories_pb2.AppendManyRequest) -> None:
    """InvalidCall where the request as a whole cannot be taken; single appends are `check_append`'s."""
    violations = Violations()
    events = sum(len(append.events) for append in request.appends)
    if len(request.appends) == 0:
        violations.add("appends", "must not be empty; send at least one append")
    elif len(request.appends) > MAX_APPENDS:
        violations.add(
            "appends", f"must be at most {MAX_APPENDS:,}, got {len(request.appends):,}; split them over several calls"
        )
    if events > MAX_EVENTS_IN_ALL:
        violations.add(
            "appends", f"must hold at most {MAX_EVENTS_IN_ALL:,} events, got {events:,}; split them over several calls"
        )
    violations.raise_any()


def check_user(user_id: str, *, required: bool = True, request_id: str = "") -> None:
    """InvalidCall where there is no user, or one that cannot be."""
    violations = Violations()
    if required or user_id:
        violations.require_user(user_id)
    violations.require_request_id(request_id)
    violations.raise_any()


def event_problem(event: histories_pb2.Event) -> str | None:
    """Why `event` has no form in the history store, or None. Ranges of its values are the store's own to judge."""
    if not event.HasField("time"):
        return "time is missing; send when it happened"
    problem = time_problem(event.time)
    if problem is not None:
        return f"time {problem}"
    size = len(event.event_id.encode())
    if size > MAX_EVENT_ID_BYTES:
        return f"event_id must be at most {MAX_EVENT_ID_BYTES} bytes, got {size}; send a shorter one, such as a hash"
    return None


def check_list(request: histories_pb2.ListRequest, *, is_page_token: Callable[[str], bool]) -> int:
    """The page size that `request` asks for; InvalidCall names every field that is wrong."""
    violations = Violations()
    violations.require_user(request.user_id)
    if not 0 <= request.page_size <= MAX_PAGE_SIZE:
        violations.add(
            "page_size", f"must be 0 to {MAX_PAGE_SIZE}, got {request.page_size}; 0 means {DEFAULT_PAGE_SIZE}"
        )
    if request.page_token and not is_page_token(request.page_token):
        violations.add(
            "page_token",
            f"must be the next_page_token of a List of the same user, types and as_of, got "
            f"{shown(request.page_token)}; leave it out to begin at the newest page",
        )
    known = {kind.value for kind in EventType}
    for at, kind in enumerate(request.types):
        if kind not in known:
            violations.add(f"types[{at}]", f"must be one of {sorted(known)}, got {kind}; leave them out for all")
    if request.HasField("as_of") and (problem := time_problem(request.as_of)) is not None:
        violations.add("as_of", problem)
    violations.raise_any()
    return request.page_size or DEFAULT_PAGE_SIZE
