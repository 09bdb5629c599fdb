"""How a refusal crosses the wire: as google.rpc.Status, never as a stack trace."""

import asyncio
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NoReturn

import grpc.aio  # type: ignore[import-untyped]
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status  # type: ignore[import-untyped]

from recollect.gateway.errors import CallError, InvalidCall, Overloaded, Violation
from recollect.gateway.request_ids import request_id
from recollect.telemetry.answers import refused
from recollect_api.request_ids import METADATA_KEY
from recollect_api.v1 import status_pb2 as v1_status_pb2

DOMAIN = "recollect"
"""Whose constants the `reason` of an ErrorInfo are."""
MAX_VIOLATIONS = 20
"""Violations that are named in one answer; gRPC drops an answer whose trailers pass 8 KiB."""


def to_status(error: CallError) -> status_pb2.Status:
    """`error` as google.rpc.Status with an ErrorInfo, and a BadRequest, PreconditionFailure or RetryInfo where there is
    one."""
    details = [error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)]
    if isinstance(error, InvalidCall):
        details.append(error_details_pb2.BadRequest(field_violations=_listed(error.violations)))
    if error.preconditions:
        failures = [
            error_details_pb2.PreconditionFailure.Violation(
                type=each.kind, subject=each.subject, description=each.description
            )
            for each in error.preconditions
        ]
        details.append(error_details_pb2.PreconditionFailure(violations=failures))
    if error.retry_after_s is not None:
        delay = Duration()
        delay.FromMilliseconds(math.ceil(error.retry_after_s * 1_000))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    return status_pb2.Status(code=error.code.value[0], message=error.message, details=map(_packed, details))


def status_of(error: CallError) -> v1_status_pb2.Status:
    """The same as the contract has it for one part of a call."""
    return v1_status_pb2.Status.FromString(to_status(error).SerializeToString())


async def abort(context: grpc.aio.ServicerContext, error: CallError) -> NoReturn:
    """End the call of `context` with `error`; raises, as gRPC's own abort does."""
    refused(error.reason)
    if isinstance(error, Overloaded) and error.retry_after_s is not None:
        trailers = _trailers_of_overload(error.message, error.retry_after_s)
    else:
        trailers = _trailers(error)
    try:
        await context.abort(error.code, error.message, (*trailers, (METADATA_KEY, request_id.get())))
    except grpc.aio.InternalError:  # the caller has gone meanwhile, and gRPC would log a trace of it
        raise asyncio.CancelledError from None
    raise AssertionError("abort raises")


def _trailers(error: CallError) -> tuple[tuple[str, str | bytes], ...]:
    """What ends a call with `error`, but for the call's name."""
    trailers: tuple[tuple[str, str | bytes], ...] = rpc_status.to_status(to_status(error)).trailing_metadata
    if error.retry_after_s is None:
        return trailers
    # What gRPC's own retries obey; google.rpc.RetryInfo is for people and other libraries.
    return (*trailers, ("grpc-retry-pushback-ms", str(math.ceil(error.retry_after_s * 1_000))))


@lru_cache(maxsize=256)
def _trailers_of_overload(message: str, retry_after_s: float) -> tuple[tuple[str, str | bytes], ...]:
    """The same of `Overloaded`, which comes by the thousand and says one of few things: never is there less time."""
    return _trailers(Overloaded(message, retry_after_s))


def _packed(detail: Message) -> Packed:
    packed = Packed()
    packed.Pack(detail)
    return packed


def _listed(violations: Sequence[Violation]) -> list[error_details_pb2.BadRequest.FieldViolation]:
    shown = [(each.field, each.description) for each in violations[:MAX_VIOLATIONS]]
    if len(violations) > MAX_VIOLATIONS:
        rest = violations[MAX_VIOLATIONS:]
        shown.append((rest[0].field, f"{rest[0].description} (and {len(rest) - 1} more fields, not listed)"))
    return [
        error_details_pb2.BadRequest.FieldViolation(field=field, description=description)
        for field, description in shown
    ]
