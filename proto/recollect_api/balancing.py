"""Which of several connections takes the next call: that whose turn it is, or another that has less to do.

Replicas of one address share its connections by chance, and one that has more of them would get more calls, whether or
not it can take them. A client therefore looks at two connections for each call and takes the one with fewer calls under
way (the power of two choices, Mitzenmacher 2001). A replica that refuses calls, or is gone, never has many under way:
what failed lately counts as if it still were, or it would get them all.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

import grpc  # type: ignore[import-untyped]

from recollect_api.fading import left_after

T = TypeVar("T")
"""What makes calls over a connection, such as stubs."""

FAILURE_COUNTS = 4
"""A call that just failed counts as so many under way, and for a second, which is two half-lives, as one at least."""
_ANOTHER_MIGHT_ANSWER = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    }
)
"""Statuses that tell of the replica; the others tell of the call, whatever answers it."""


class Balancer(Generic[T]):
    """Gives each call one of several connections; threads may share it."""

    def __init__(
        self,
        connections: Sequence[T],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        below: Callable[[int], int] = random.randrange,
    ) -> None:
        """`below(n)` draws one of 0 … n - 1."""
        if not connections:
            raise ValueError("connections is empty; give at least one")
        self._connections = [_Connection(makes_calls=each) for each in connections]
        self._monotonic = monotonic
        self._below = below
        self._lock = threading.Lock()
        self._turn = 0

    @contextmanager
    def call(self) -> Iterator[T]:
        """A block that makes one call over what it is given, and raises what the call ends with."""
        with self._lock:
            connection = self._chosen()
            connection.under_way += 1
        failed = False
        try:
            yield connection.makes_calls
        except grpc.RpcError as error:
            failed = error.code() in _ANOTHER_MIGHT_ANSWER
            raise
        finally:
            with self._lock:
                connection.under_way -= 1
                if failed:
                    connection.fail(self._monotonic())

    def choose(self) -> T:
        """What a stream is begun over: that counts as no call, since a stream may be open and have nothing to do."""
        with self._lock:
            return self._chosen().makes_calls

    def _chosen(self) -> "_Connection[T]":
        several, turn = len(self._connections), self._turn
        self._turn = (turn + 1) % several
        in_turn = self._connections[turn]
        if several == 1:
            return in_turn
        other = self._connections[(turn + 1 + self._below(several - 1)) % several]
        now = self._monotonic()
        return other if other.load(now) < in_turn.load(now) else in_turn


@dataclass(kw_only=True, slots=True)
class _Connection(Generic[T]):
    makes_calls: T
    under_way: int = 0
    failures: float = 0.0
    """What is left of them."""
    at_s: float = 0.0
    """When that was so."""

    def load(self, now: float) -> int:
        """Calls under way, and what counts as such."""
        if not self.failures:
            return self.under_way
        self._fade(now)
        return self.under_way + int(FAILURE_COUNTS * self.failures)

    def fail(self, now: float) -> None:
        """Count a call that failed."""
        self._fade(now)
        self.failures += 1

    def _fade(self, now: float) -> None:
        self.failures *= left_after(now - self.at_s)
        self.at_s = now
