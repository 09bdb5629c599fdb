"""What the wires of all services share: messages whose numbers must fit, times and enumerations."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from enum import IntEnum
from typing import Any, ParamSpec, TypeVar

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from recollect_api.errors import InvalidRequest, Violation

E = TypeVar("E", bound=IntEnum)
M = TypeVar("M", bound=Message)
P = ParamSpec("P")

_BITS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_ENUM: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
"""Kind of field → the least and the largest number that it holds."""


def made(kind: Callable[P, M], /, *args: P.args, **kwargs: P.kwargs) -> M:
    """A message of `kind`; InvalidRequest names the fields whose numbers it cannot hold."""
    return made_at("", kind, *args, **kwargs)


def made_at(at: str, kind: Callable[P, M], /, *args: P.args, **kwargs: P.kwargs) -> M:
    """The same for a part of a request, whose path is `at`."""
    try:
        return kind(*args, **kwargs)
    except ValueError:
        violations = tuple(_beyond(kind.DESCRIPTOR, at, kwargs))  # type: ignore[attr-defined] # a message's class
        if not violations:
            raise
        raise _unsendable(*violations) from None


def timestamp(field: str, time: datetime) -> Timestamp:
    """`time` as it goes on the wire; ValueError, with `field`, where it has no zone, TypeError where it is no time,
    InvalidRequest where UTC ends."""
    if not hasattr(time, "utcoffset"):
        raise TypeError(f"{field} must be a datetime, got {time!r}; use datetime.fromisoformat or datetime.now(UTC)")
    if time.utcoffset() is None:
        raise ValueError(
            f"{field} must have a time zone, got {time.isoformat()}; use datetime.now(UTC) or add tzinfo=UTC"
        )
    stamp = Timestamp()
    try:
        stamp.FromDatetime(time)
    except OverflowError:
        description = f"must be within the years 1 to 9999 of UTC, got {time.isoformat()}; send another time"
        raise _unsendable(Violation(field=field, description=description)) from None
    return stamp


def member(kind: type[E], number: int) -> E | int:
    """The member of `kind` with that number, or the number itself."""
    # A newer service may know members that this client does not; they must not break an older caller.
    return kind(number) if number in kind._value2member_map_ else number


def _beyond(described: Descriptor, at: str, values: Mapping[str, Any]) -> Iterator[Violation]:
    """What is wrong with each number that a message of that kind cannot hold."""
    for name, given in values.items():
        field = described.fields_by_name[name]
        if field.cpp_type not in _BITS or given is None:
            continue
        least, most = _BITS[field.cpp_type]
        repeated = not isinstance(given, int) and hasattr(given, "__iter__")
        for index, value in enumerate(given if repeated else [given]):
            if not least <= value <= most:
                place = f"{at}{name}[{index}]" if repeated else f"{at}{name}"
                description = f"must be from {least} to {most}, got {value}; send another number"
                yield Violation(field=place, description=description)


def _unsendable(*violations: Violation) -> InvalidRequest:
    return InvalidRequest("the request cannot be sent", violations=violations)
