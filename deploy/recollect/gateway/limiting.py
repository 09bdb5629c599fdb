"""Take no more calls at one time than a process can hold."""

import asyncio

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]

from recollect.gateway.errors import TooManyCalls
from recollect.gateway.handlers import Continuation
from recollect.gateway.refusing import refusing

_HEALTH = "/grpc.health.v1."
"""Answered however many calls there are: who is busy is alive."""
_WATCH = f"{_HEALTH}Health/Watch"
MOST_WATCHES = 100
"""Streams that tell of health; they last for ever and need no token, so that whoever holds many must take no call's
place, nor any number."""


class LimitInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Refuse calls beyond a number, before they are read; one event loop's, whatever server of it they come to.

    gRPC has such a limit as well, of each server for itself, and refuses without a reason.
    """

    def __init__(self, most: int) -> None:
        """`most` calls are worked on at one time, streams among them while they last."""
        self._calls = _Places(most, "calls are worked on")
        self._watches = _Places(MOST_WATCHES, "streams of health are open")

    async def intercept_service(
        self, continuation: Continuation, details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler:
        """Replace the handler of a call that is too many."""
        method: str = details.method
        if method.startswith(_HEALTH) and method != _WATCH:
            return await continuation(details)
        places = self._watches if method == _WATCH else self._calls
        if places.taken >= places.most:
            return refusing(TooManyCalls(places.most, what=places.what))
        places.take()
        return await continuation(details)


class _Places:
    """What calls of one kind take until they end."""

    def __init__(self, most: int, what: str) -> None:
        self.most = most
        self.what = what
        self.taken = 0

    def take(self) -> None:
        """One for the call that this task answers."""
        task = asyncio.current_task()
        assert task is not None, "gRPC answers each call in a task of its own"
        self.taken += 1
        task.add_done_callback(self._ended)

    def _ended(self, _task: asyncio.Task[None]) -> None:
        self.taken -= 1
