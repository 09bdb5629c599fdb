"""What a call can end with, as one exception tree.

ClientError             every error of a call; has `code` (the gRPC status), `reason` and `message`
├── InvalidRequest      the request is wrong; `violations` names every field (INVALID_ARGUMENT)
├── NotFound            nothing has the name that was given (NOT_FOUND)
├── AlreadyExists       something else has the name that was given (ALREADY_EXISTS)
├── Conflict            it was changed in between; `current_etag` is what it is now (ABORTED)
├── NotPossible         what it was asked of does not allow it (FAILED_PRECONDITION)
├── PermissionRefused   no valid token (UNAUTHENTICATED, PERMISSION_DENIED)
├── DeadlineExceeded    no answer in time (DEADLINE_EXCEEDED)
├── Unavailable         the service or its store cannot be reached or is full (UNAVAILABLE, RESOURCE_EXHAUSTED)
├── Cancelled           the call was given up (CANCELLED)
└── ServerFault         the service failed; `incident` is what to look for in its logs (INTERNAL and the rest)
"""

from collections.abc import Mapping
from dataclasses import dataclass

import grpc  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError

from recollect_api.internal import rpc_status_pb2

DETAILS_KEY = "grpc-status-details-bin"
"""Trailer in which gRPC carries a google.rpc.Status."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Violation:
    """One field that is wrong."""

    field: str
    """Path of the field, such as `item_ids[3]`."""
    description: str
    """What is wrong with it and what to send instead."""


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

    def __init__(self, message: str, *, code: grpc.StatusCode, reason: str = "", current_etag: str = "") -> None:
        super().__init__(message, code=code, reason=reason)
        self.current_etag = current_etag
        """The etag that it has now; empty where the service gave none."""


class NotPossible(ClientError):  # noqa: N818
    """What it was asked of does not allow it; the message says what does."""


class PermissionRefused(ClientError):  # noqa: N818
    """The service does not accept the token."""


class DeadlineExceeded(ClientError):  # noqa: N818
    """No answer came in time."""


class Unavailable(ClientError):  # noqa: N818
    """The service, or the store behind it, cannot be reached or is full; the call may be repeated later."""


class Cancelled(ClientError):  # noqa: N818
    """The call was given up before it ended."""


class ServerFault(ClientError):  # noqa: N818
    """The service failed."""


_BY_CODE: Mapping[grpc.StatusCode, type[ClientError]] = {
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION: NotPossible,
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
    message = error.details() or code.name
    info, violations = _details(error.trailing_metadata() or ())
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return InvalidRequest(
            message, violations=violations, reason=info.reason, refusal=info.metadata.get("refusal", "")
        )
    if code is grpc.StatusCode.ABORTED:
        return Conflict(message, code=code, reason=info.reason, current_etag=info.metadata.get("etag", ""))
    if not info.reason:
        # The service did not speak: without its address "failed to connect" helps nobody.
        message = f"{target}: {message}"
    kind = _BY_CODE.get(code, ServerFault)
    return kind(message, code=code, reason=info.reason, incident=info.metadata.get("incident", ""))


def _details(
    metadata: tuple[tuple[str, str | bytes], ...],
) -> tuple[rpc_status_pb2.ErrorInfo, tuple[Violation, ...]]:
    info, violations = rpc_status_pb2.ErrorInfo(), list[Violation]()
    raw = next((value for key, value in metadata if key == DETAILS_KEY), b"")
    try:
        details = rpc_status_pb2.Status.FromString(raw if isinstance(raw, bytes) else raw.encode()).details
        for detail in details:
            if detail.type_url.endswith("/google.rpc.ErrorInfo"):
                info = rpc_status_pb2.ErrorInfo.FromString(detail.value)
            elif detail.type_url.endswith("/google.rpc.BadRequest"):
                fields = rpc_status_pb2.BadRequest.FromString(detail.value).field_violations
                violations += [Violation(field=each.field, description=each.description) for each in fields]
    except DecodeError:
        # A proxy on the way may put anything into the trailer; the status itself still tells the essential.
        pass
    return info, tuple(violations)
