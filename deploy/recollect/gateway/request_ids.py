"""Know one call from another: the id that its caller gave, or one that is made for it."""

import os
from collections.abc import Sequence
from contextvars import ContextVar

from recollect_api.request_ids import METADATA_KEY, fits_metadata

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the call that this task answers; empty outside of calls."""


def id_of(metadata: Sequence[tuple[str, str | bytes]]) -> str:
    """The id that a call's metadata give it; a new one where they give none, or one that no line of log should hold."""
    for key, value in metadata:
        if key == METADATA_KEY and isinstance(value, str) and fits_metadata(value):
            return value
    return os.urandom(16).hex()  # as random as a UUID, in a fifth of the time
