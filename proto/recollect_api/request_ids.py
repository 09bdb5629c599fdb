"""How a call's name travels: which metadata carry it, and what may be one."""

METADATA_KEY = "x-request-id"
"""Metadata that a call may carry its id in, and that every answer and refusal carries it in, among its trailers."""
MAX_LENGTH = 128
"""Longest id that is taken from there; a longer one is as good as none."""


def fits_metadata(given: str) -> bool:
    """Whether an id can be told in metadata: one to `MAX_LENGTH` printable characters of ASCII."""
    return 0 < len(given) <= MAX_LENGTH and given.isascii() and given.isprintable()
