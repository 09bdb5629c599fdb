"""Carry what is known of a call into the process that does a part of it, behind a handle of Ray Serve."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from recollect.gateway.request_ids import request_id
from recollect.telemetry import tracing
from recollect.telemetry.current import OTHER, Call, current, method_now
from recollect_api.request_ids import METADATA_KEY

Carried = Mapping[str, str]
"""What goes along: the call's id, its method, its trace."""
_METHOD = "method"


def carried() -> Carried:
    """What is known of the call that this task answers."""
    return {METADATA_KEY: request_id.get(), _METHOD: method_now(), **tracing.carried()}


@contextmanager
def continued(call: Carried, part: str) -> Iterator[None]:
    """Do `part` of a call of another process in the block: its lines of log and its spans are that call's."""
    known = Call(call.get(_METHOD, OTHER), trace_id=tracing.trace_id_of(list(call.items())))
    before = request_id.set(call.get(METADATA_KEY, "")), current.set(known)
    try:
        with tracing.continued(call, part):
            yield
    finally:
        request_id.reset(before[0])
        current.reset(before[1])
