"""What a call can end with, as one exception tree.

ClientError             every error of a call; has `code` (the gRPC status), `reason` and `message`, and where
│                       they are known `retry_after_s` and `request_id`
├── InvalidRequest      the request is wrong; `violations` names every field (INVALID_ARGUMENT)
├── NotFound            nothing has the name that was given (NOT_FOUND)
├── AlreadyExists       something else has the name that was given (ALREADY_EXISTS)
├── Conflict            it was changed in between; `current_etag`, or of a label `current_version`, is what it is now
│                       (ABORTED)
├── NotPossible         what it was asked of does not allow it; `preconditions` say why, where it is several things
│                       (FAILED_PRECONDITION)
├── PermissionRefused   no valid token, or none that allows the call (UNAUTHENTICATED, PERMISSION_DENIED)
├── DeadlineExceeded    no answer in time (DEADLINE_EXCEEDED)
├── Unavailable         the service or its store cannot be reached or is full (UNAVAILABLE, RESOURCE_EXHAUSTED)
├── Cancelled           the call was given up, or its client is closed (CANCELLED)
└── ServerFault         the service failed; `incident` is what to look for in its logs (INTERNAL and the rest)
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

import grpc  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError

from recollect_api.internal import error_details_pb2
from recollect_api.request_ids import METADATA_KEY
from recollect_api.v1 import status_pb2

DETAILS_KEY = "grpc-status-details-bin"
"""Trailer in which gRPC carries a google.rpc.Status."""
PUSHBACK_KEY = "grpc-retry-pushback-ms"
"""Trailer with which a server, or a proxy before it, says when to repeat the call."""


_WROTE_TO_ENDED_CALL = "Internal error from Core"
"""What grpc.aio says, in place of the status, where a call ends at the moment at which a message is written to it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Violation:
    """One field that is wrong."""

    field: str
    """Path of the field, such as `item_ids[3]`."""
    description: str
    """What is wrong with it and what to send instead."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Precondition:
    """One thing that is not as a call needs it."""

    kind: str
    """Which of them: of an index that may not answer, the figure that missed its threshold."""
    subject: str
    """Of what, such as `items/20261128T094952-541de118`."""
    description: str
    """What it is and what to do."""


class ClientError(Exception):
    """A call ended without an answer."""

    def __init__(self, message: str, *, code: grpc.StatusCode, reason: str = "", incident: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        """The service's constant for what went wrong, such as `HISTORY_UNAVAILABLE`; empty where it gave none."""
        self.incident = incident
        """Name of the failure in the service's logs; empty where there is none."""
        self.metadata: Mapping[str, str] = {}
        """What else the service told, such as the `operation` that builds an index already."""
        self.retry_after_s: float | None = None
        """How long the service asks to wait before the call is repeated; None where it does not say."""
        self.request_id = ""
        """The call's name in the service's logs, or that of its part; empty where the service did not answer."""


class InvalidRequest(ClientError):  # noqa: N818 - named as the statuses are
    """The request is wrong; repeating it changes nothing."""

    def __init__(
        self, message: str, *, violations: tuple[Violation, ...] = (), reason: str = "", refusal: str = ""
    ) -> None:
        listed = "".join(f"\n  {violation.field}: {violation.description}" for violation in violations)
        super().__init__(message + listed, code=grpc.StatusCode.INVALID_ARGUMENT, reason=reason)
        self.message = message
        self.violations = violations
        self.refusal = refusal
        """Name of the `RefusalReason` for which a picture was not read; empty where that is not what is wrong."""


class NotFound(ClientError):  # noqa: N818
    """Nothing has the name that was given."""


class AlreadyExists(ClientError):  # noqa: N818
    """Something else has the name that was given."""


class Conflict(ClientError):  # noqa: N818
    """It was changed since it was read: read it again, repeat the change on what it is now."""

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode,
        reason: str = "",
        current_etag: str = "",
        current_version: str = "",
    ) -> None:
        super().__init__(message, code=code, reason=reason)
        self.current_etag = current_etag
        """The etag that it has now; empty where the service gave none."""
        self.current_version = current_version
        """The version that a label points at now; empty where it points at none, and where it is no label."""


class NotPossible(ClientError):  # noqa: N818
    """What it was asked of does not allow it; the message says what does."""

    def __init__(
        self, message: str, *, code: grpc.StatusCode, reason: str = "", preconditions: tuple[Precondition, ...] = ()
    ) -> None:
        super().__init__(message, code=code, reason=reason)
        self.preconditions = preconditions
        """What is not as it must be, where that is several things; the message has it all."""


class PermissionRefused(ClientError):  # noqa: N818
    """The service does not accept the token."""


class DeadlineExceeded(ClientError):  # noqa: N818
    """No answer came in time."""


class Unavailable(ClientError):  # noqa: N818
    """The service, or the store behind it, cannot be reached or is full; the call may be repeated later."""


class Cancelled(ClientError):  # noqa: N818
    """The call was given up before it ended, or its client is closed."""


class ServerFault(ClientError):  # noqa: N818
    """The service failed."""


_BY_CODE: Mapping[grpc.StatusCode, type[ClientError]] = {
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.UNAUTHENTICATED: PermissionRefused,
    grpc.StatusCode.PERMISSION_DENIED: PermissionRefused,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Unavailable,
    grpc.StatusCode.CANCELLED: Cancelled,
}


def from_rpc_error(error: grpc.RpcError, *, target: str) -> ClientError:
    """The exception for a failed call to `target`."""
    code: grpc.StatusCode = error.code()
    if code is grpc.StatusCode.INTERNAL and error.details() == _WROTE_TO_ENDED_CALL:
        message = f"{target}: the stream ended while it was written to, and grpc.aio does not tell why; begin again"
        return Unavailable(message, code=grpc.StatusCode.UNAVAILABLE)
    trailers = dict(error.trailing_metadata() or ())
    raw = trailers.get(DETAILS_KEY, b"")
    details = _Details.read(raw if isinstance(raw, bytes) else raw.encode())
    message = error.details() or code.name
    if not details.info.reason and code not in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.ABORTED):
        # The service did not speak: without its address "failed to connect" helps nobody.
        message = f"{target}: {message}"
    failed = _error(code, message, details)
    failed.request_id = str(trailers.get(METADATA_KEY, ""))
    if failed.retry_after_s is None and PUSHBACK_KEY in trailers:
        with suppress(ValueError):
            failed.retry_after_s = max(0, int(trailers[PUSHBACK_KEY])) / 1_000
    return failed


def closed(target: str) -> Cancelled:
    """The exception for a call of a client of `target` that is closed."""
    return Cancelled(f"{target}: the client is closed; make another one", code=grpc.StatusCode.CANCELLED)


def from_status(status: bytes, *, request_id: str = "") -> ClientError:
    """The exception for what an operation, or a part of a call, ended with: the bytes of a google.rpc.Status."""
    told = status_pb2.Status.FromString(status)
    codes = {code.value[0]: code for code in grpc.StatusCode}
    error = _error(codes.get(told.code, grpc.StatusCode.UNKNOWN), told.message, _Details.read(status))
    error.request_id = request_id
    return error


@dataclass(frozen=True, slots=True)
class _Details:
    """What a google.rpc.Status says besides its message."""

    info: error_details_pb2.ErrorInfo
    violations: tuple[Violation, ...]
    preconditions: tuple[Precondition, ...]
    retry_after_s: float | None

    @classmethod
    def read(cls, status: bytes) -> Self:
        """What can be read of `status`."""
        info, violations, preconditions = error_details_pb2.ErrorInfo(), list[Violation](), list[Precondition]()
        retry_after_s = None
        try:
            for detail in status_pb2.Status.FromString(status).details:
                if detail.type_url.endswith("/google.rpc.ErrorInfo"):
                    info = error_details_pb2.ErrorInfo.FromString(detail.value)
                elif detail.type_url.endswith("/google.rpc.BadRequest"):
                    fields = error_details_pb2.BadRequest.FromString(detail.value).field_violations
                    violations += [Violation(field=each.field, description=each.description) for each in fields]
                elif detail.type_url.endswith("/google.rpc.PreconditionFailure"):
                    failed = error_details_pb2.PreconditionFailure.FromString(detail.value).violations
                    preconditions += [
                        Precondition(kind=each.type, subject=each.subject, description=each.description)
                        for each in failed
                    ]
                elif detail.type_url.endswith("/google.rpc.RetryInfo"):
                    delay = error_details_pb2.RetryInfo.FromString(detail.value).retry_delay
                    retry_after_s = delay.seconds + delay.nanos / 1e9
        except DecodeError:
            # A proxy on the way may put anything into the trailer; the status itself still tells the essential.
            pass
        return cls(info, tuple(violations), tuple(preconditions), retry_after_s)


def _error(code: grpc.StatusCode, message: str, details: _Details) -> ClientError:
    reason, metadata = details.info.reason, dict(details.info.metadata)
    error: ClientError
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        refusal = metadata.get("refusal", "")
        error = InvalidRequest(message, violations=details.violations, reason=reason, refusal=refusal)
    elif code is grpc.StatusCode.ABORTED:
        error = Conflict(
            message,
            code=code,
            reason=reason,
            current_etag=metadata.get("etag", ""),
            current_version=metadata.get("current", ""),
        )
    elif code is grpc.StatusCode.FAILED_PRECONDITION:
        error = NotPossible(message, code=code, reason=reason, preconditions=details.preconditions)
    else:
        kind = _BY_CODE.get(code, ServerFault)
        error = kind(message, code=code, reason=reason, incident=metadata.get("incident", ""))
    error.metadata = metadata
    error.retry_after_s = details.retry_after_s
    return error
