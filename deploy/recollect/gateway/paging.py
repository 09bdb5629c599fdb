"""Page through a history from its newest end while new behaviours keep arriving."""

import base64
import binascii
import struct
from dataclasses import dataclass
from hashlib import blake2b

_LAYOUT = struct.Struct("<BQI8s")
_FORMAT = 1
MAX_SKIP = 100_000
"""Most behaviours of one millisecond that a page begins behind; the longest history that is kept."""
MAX_TIME_MS = 2**53


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """Where a page ended: a time, and how many behaviours of exactly that time were already listed.

    A time and not an index, because an append in between moves every index.
    """

    time_ms: int
    listed: int

    def token(self, listing: str) -> str:
        """This position as an opaque text that is good for `listing` only: whose history, and which part of it."""
        packed = _LAYOUT.pack(_FORMAT, self.time_ms, self.listed, _digest(listing))
        return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def position_of(token: str, listing: str) -> Position | None:
    """The position that `token` holds; None where it is none of ours or another listing's."""
    try:
        packed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        layout, time_ms, listed, digest = _LAYOUT.unpack(packed)
    except (binascii.Error, ValueError, struct.error):
        return None
    if layout != _FORMAT or digest != _digest(listing) or time_ms > MAX_TIME_MS or listed > MAX_SKIP:
        return None
    return Position(time_ms=time_ms, listed=listed)


def _digest(listing: str) -> bytes:
    return blake2b(listing.encode(), digest_size=8).digest()
