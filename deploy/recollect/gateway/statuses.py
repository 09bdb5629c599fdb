"""How a refusal crosses the wire: as google.rpc.Status, never as a stack trace."""

import asyncio
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NoReturn, TypeVar

import grpc.aio  # type: ignore[import-untyped]
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status  # type: ignore[import-untyped]

from recollect.gateway.errors import CallError, InvalidCall, Overloaded, Precondition, Violation
from recollect.gateway.request_ids import request_id
from recollect.telemetry.answers import refused
from recollect_api.request_ids import METADATA_KEY
from recollect_api.v1 import status_pb2 as v1_status_pb2

M = TypeVar("M", bound=Message)

DOMAIN = "recollect"
"""Whose constants the `reason` of an ErrorInfo are."""
MAX_STATUS_BYTES = 5_000
"""Of one status. gRPC drops an answer whose trailers pass 8 KiB, in which the message is there once more, with three
bytes for each that is not ASCII, and a library may write all of it in a third more."""
MAX_MESSAGE_BYTES = 800
MAX_VIOLATIONS = 21
"""Violations that are named in one status."""
_FIELD_BYTES = 200
_PACKING_BYTES = 64
"""What the name of its type and the lengths add to a detail."""
_DESCRIPTION_BYTES = (1_000, 400, 150)
"""Most of each description: the first by which all fit."""


def to_status(error: CallError) -> status_pb2.Status:
    """`error` as google.rpc.Status with an ErrorInfo, and a BadRequest, PreconditionFailure or RetryInfo where there is
    one; shortened to `MAX_STATUS_BYTES`."""
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)]
    if error.retry_after_s is not None:
        delay = Duration()
        delay.FromMilliseconds(math.ceil(error.retry_after_s * 1_000))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    message = _cut(error.message, MAX_MESSAGE_BYTES)
    status = status_pb2.Status(code=error.code.value[0], message=message, details=map(_packed, details))
    room = MAX_STATUS_BYTES - status.ByteSize() - _PACKING_BYTES
    if isinstance(error, InvalidCall):
        status.details.insert(1, _packed(_bad_request(error.violations, room)))
    if error.preconditions:
        status.details.insert(1, _packed(_failure(error.preconditions, room)))
    return status


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
        await context.abort(
            error.code, _cut(error.message, MAX_MESSAGE_BYTES), (*trailers, (METADATA_KEY, request_id.get()))
        )
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


def _bad_request(violations: Sequence[Violation], most_bytes: int) -> error_details_pb2.BadRequest:
    def listed(number: int, longest: int) -> error_details_pb2.BadRequest:
        told = error_details_pb2.BadRequest(
            field_violations=[
                error_details_pb2.BadRequest.FieldViolation(
                    field=_cut(each.field, _FIELD_BYTES), description=_cut(each.description, longest)
                )
                for each in violations[:number]
            ]
        )
        if number < len(violations):
            told.field_violations[-1].description += f" (and {len(violations) - number} more fields, not listed)"
        return told

    return _fitting(listed, len(violations), most_bytes)


def _failure(preconditions: Sequence[Precondition], most_bytes: int) -> error_details_pb2.PreconditionFailure:
    def listed(number: int, longest: int) -> error_details_pb2.PreconditionFailure:
        told = error_details_pb2.PreconditionFailure(
            violations=[
                error_details_pb2.PreconditionFailure.Violation(
                    type=each.kind,
                    subject=_cut(each.subject, _FIELD_BYTES),
                    description=_cut(each.description, longest),
                )
                for each in preconditions[:number]
            ]
        )
        if number < len(preconditions):
            told.violations[-1].description += f" (and {len(preconditions) - number} more, not listed)"
        return told

    return _fitting(listed, len(preconditions), most_bytes)


def _fitting(listed: Callable[[int, int], M], there_are: int, most_bytes: int) -> M:
    """What `listed` makes of as many and as long descriptions as fit into `most_bytes`; of one in any case."""
    number = min(there_are, MAX_VIOLATIONS)
    for longest in _DESCRIPTION_BYTES:
        told = listed(number, longest)
        if told.ByteSize() <= most_bytes:
            return told
    while number > 1 and told.ByteSize() > most_bytes:
        number -= 1
        told = listed(number, longest)
    return told


def _cut(text: str, most_bytes: int) -> str:
    """`text`, shortened where it takes more than `most_bytes`."""
    encoded = text.encode()
    if len(encoded) <= most_bytes:
        return text
    return f"{encoded[: most_bytes - 3].decode(errors='ignore')}…"
