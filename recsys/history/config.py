"""How histories are kept, and under which keys: all keys of a user lie in one slot of a Redis cluster."""

from dataclasses import dataclass
from typing import NamedTuple

LARGEST_CAP = 15_000_000
"""Events; a header counts to 2^24, of which a sixteenth is slack."""


class Keys(NamedTuple):
    """The keys of one user; the user id is their hash tag."""

    history: str
    """The behaviours, one string."""
    requests: str
    """Which requests were applied lately, one string that expires."""
    deletion: str
    """When the user was deleted, a hash; stays when all else is gone, so that nothing old comes back."""
    copy: str
    """Exists within a script only."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HistoryConfig:
    """How histories are kept and how long a caller waits for them."""

    cap: int = 50_000
    """Longest history that is kept, in events."""
    prefix: str = "recollect:history:"
    """What every key begins with."""
    timeout_s: float = 0.25
    """Deadline of one call, retries and waiting for a connection included, in seconds."""
    bulk_timeout_s: float = 30.0
    """Deadline of one round trip of `load`, in seconds."""
    max_clock_skew_ms: int = 60_000
    """How far in the future an event may lie, in milliseconds."""
    max_connections: int = 64
    """Most connections to Redis that one store holds open."""
    requests_kept: int = 64
    """Request ids of a user that are remembered at least, the latest ones; twice as many at most."""
    requests_s: int = 24 * 3600
    """How long they are remembered after the user's latest append, in seconds."""

    def __post_init__(self) -> None:
        for name in ("cap", "timeout_s", "bulk_timeout_s", "max_connections", "requests_kept", "requests_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.cap > LARGEST_CAP:
            raise ValueError(f"cap must be at most {LARGEST_CAP:,}, got {self.cap:,}; a header counts no further")
        if self.max_clock_skew_ms < 0:
            raise ValueError(f"max_clock_skew_ms must be 0 or more, got {self.max_clock_skew_ms}")
        if not self.prefix or "{" in self.prefix:
            raise ValueError(f"prefix must be some text without '{{', got {self.prefix!r}; the user id is the hash tag")

    @property
    def slack(self) -> int:
        """Events by which a stored string may exceed `cap` before it is cut: each cut rewrites it, so it is put off."""
        return max(1, self.cap // 16)

    def keys_of(self, user_id: str) -> Keys:
        """The keys of `user_id`."""
        if not user_id:
            raise ValueError("user_id must not be empty; pass the id that the user's events carry")
        # A brace within the hash tag would end it there, or make it none.
        tag = user_id.replace("%", "%25").replace("}", "%7D")
        history = f"{self.prefix}{{{tag}}}"
        return Keys(history, f"{history}:requests", f"{history}:deletion", f"{history}:copy")

    def user_of(self, key: str) -> str | None:
        """The user whose history `key` is; None for any other key."""
        if key.startswith(f"{self.prefix}{{") and key.endswith("}"):
            return key[len(self.prefix) + 1 : -1].replace("%7D", "}").replace("%25", "%")
        return None
