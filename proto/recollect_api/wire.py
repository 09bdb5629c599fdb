"""What the wires of all services share: times and enumerations."""

from datetime import datetime
from enum import IntEnum
from typing import TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

E = TypeVar("E", bound=IntEnum)


def timestamp(field: str, time: datetime) -> Timestamp:
    """`time` as it goes on the wire; ValueError, with `field`, where it has no zone."""
    if time.utcoffset() is None:
        raise ValueError(
            f"{field} must have a time zone, got {time.isoformat()}; use datetime.now(UTC) or add tzinfo=UTC"
        )
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp


def member(kind: type[E], number: int) -> E | int:
    """The member of `kind` with that number, or the number itself."""
    # A newer service may know members that this client does not; they must not break an older caller.
    return kind(number) if number in kind._value2member_map_ else number
