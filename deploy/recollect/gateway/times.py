"""Convert between the wire's Timestamp and the store's milliseconds since the Unix epoch."""

from google.protobuf.timestamp_pb2 import Timestamp

MAX_TIME_S = 253_402_300_799
"""9999-12-31T23:59:59Z, the end of what a Timestamp may hold."""


def time_problem(time: Timestamp) -> str | None:
    """What is wrong with `time`, or None."""
    if not 0 <= time.seconds <= MAX_TIME_S:
        return f"must be in the years 1970 to 9999, got {time.seconds} seconds since the Unix epoch; check the unit"
    if not 0 <= time.nanos <= 999_999_999:
        return f"must have 0 to 999,999,999 nanos, got {time.nanos}; carry whole seconds over to `seconds`"
    return None


def floor_ms(time: Timestamp) -> int:
    """The millisecond that `time` lies in: when a behaviour happened."""
    return time.seconds * 1_000 + time.nanos // 1_000_000


def ceil_ms(time: Timestamp) -> int:
    """The first millisecond that is not before `time`: behaviours strictly earlier than either are the same ones."""
    return time.seconds * 1_000 - -time.nanos // 1_000_000


def timestamp(time_ms: int) -> Timestamp:
    """`time_ms` as it goes on the wire."""
    return Timestamp(seconds=time_ms // 1_000, nanos=time_ms % 1_000 * 1_000_000)
