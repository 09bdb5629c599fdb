"""What a call is refused with, and how that crosses the wire: as google.rpc.Status, never as a stack trace.

RecollectError
└── CallError           a call that ends without an answer; carries the gRPC code, a constant reason and metadata
    ├── InvalidCall     the request is wrong; names every field (INVALID_ARGUMENT)
    ├── StoreDown       the history store cannot be reached (UNAVAILABLE)
    ├── DeadlinePassed  nobody waits for the answer any more (DEADLINE_EXCEEDED)
    ├── Unauthorised    no valid token (UNAUTHENTICATED)
    └── Incident        an error that nobody foresaw (INTERNAL)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NoReturn

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]
from google.protobuf.any_pb2 import Any
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status  # type: ignore[import-untyped]

from recollect.errors import RecollectError

DOMAIN = "recollect"
"""Whose constants the `reason` of an ErrorInfo are."""
MAX_VIOLATIONS = 20
"""Violations that are named in one answer; gRPC drops an answer whose trailers pass 8 KiB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Violation:
    """One field that is wrong."""

    field: str
    """Path of the field, such as `item_ids[3]`."""
    description: str
    """Expected, actual and remedy."""


class CallError(RecollectError):
    """A call ends without an answer."""

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL
    reason: ClassVar[str] = "INTERNAL_ERROR"

    def __init__(self, message: str, **metadata: str) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = metadata


class InvalidCall(CallError):  # noqa: N818 - named as the statuses are
    """The request is wrong; `violations` names every field."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "INVALID_REQUEST"

    def __init__(self, violations: Sequence[Violation]) -> None:
        noun = "field is" if len(violations) == 1 else "fields are"
        super().__init__(f"{len(violations)} {noun} wrong")
        self.violations = violations


class StoreDown(CallError):  # noqa: N818
    """The history store cannot be reached; nothing was changed."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "HISTORY_UNAVAILABLE"


class DeadlinePassed(CallError):  # noqa: N818
    """The caller's deadline passed before the work began."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    reason = "DEADLINE_PASSED"


class Unauthorised(CallError):  # noqa: N818
    """The call carries no token, or another one."""

    code = grpc.StatusCode.UNAUTHENTICATED
    reason = "TOKEN_REFUSED"


class Incident(CallError):  # noqa: N818
    """An error that nobody foresaw: the caller gets a name to ask for, the log gets the trace under that name."""


def to_status(error: CallError) -> status_pb2.Status:
    """`error` as google.rpc.Status with an ErrorInfo and, where fields are wrong, a BadRequest."""
    info = Any()
    info.Pack(error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata))
    details = [info]
    if isinstance(error, InvalidCall):
        request = Any()
        request.Pack(error_details_pb2.BadRequest(field_violations=_listed(error.violations)))
        details.append(request)
    return status_pb2.Status(code=error.code.value[0], message=error.message, details=details)


async def abort(context: grpc.aio.ServicerContext, error: CallError) -> NoReturn:
    """End the call of `context` with `error`; raises, as gRPC's own abort does."""
    status = rpc_status.to_status(to_status(error))
    await context.abort(status.code, status.details, status.trailing_metadata)
    raise AssertionError("abort raises")


def _listed(violations: Sequence[Violation]) -> list[error_details_pb2.BadRequest.FieldViolation]:
    shown = [(each.field, each.description) for each in violations[:MAX_VIOLATIONS]]
    if len(violations) > MAX_VIOLATIONS:
        rest = violations[MAX_VIOLATIONS:]
        shown.append((rest[0].field, f"{rest[0].description} (and {len(rest) - 1} more fields, not listed)"))
    return [
        error_details_pb2.BadRequest.FieldViolation(field=field, description=description)
        for field, description in shown
    ]
