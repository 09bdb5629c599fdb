"""Know one call from another: the id that its caller gave, or one that is made for it."""

import uuid
from collections.abc import Sequence
from contextvars import ContextVar

METADATA_KEY = "x-request-id"
"""Metadata that a call may carry its id in, and that every answer and refusal carries it in, among its trailers."""
MAX_LENGTH = 128
"""Longest id that is taken from there; a longer one is as good as none."""

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the call that this task answers; empty outside of calls."""


def id_of(metadata: Sequence[tuple[str, str | bytes]]) -> str:
    """The id that a call's metadata give it; a new one where they give none, or one that no line of log should hold."""
    for key, value in metadata:
        if key == METADATA_KEY and isinstance(value, str) and fits_metadata(value):
            return value
    return uuid.uuid4().hex


def fits_metadata(given: str) -> bool:
    """Whether an id can be told in metadata: one to `MAX_LENGTH` printable characters of ASCII."""
    return 0 < len(given) <= MAX_LENGTH and given.isascii() and given.isprintable()
