"""Take no more calls at one time than a process can hold."""

import asyncio

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]

from recollect.gateway.errors import TooManyCalls
from recollect.gateway.handlers import Continuation
from recollect.gateway.refusing import refusing

_PROBE = "/grpc.health.v1.Health/Check"
"""Answered however many calls there are: who is busy is alive."""


class LimitInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Refuse calls beyond a number, before they are read; one event loop's, whatever server of it they come to.

    gRPC has such a limit as well, of each server for itself, and refuses without a reason.
    """

    def __init__(self, most: int) -> None:
        """`most` calls are worked on at one time, streams among them while they last."""
        self._most = most
        self._calls = 0

    async def intercept_service(
        self, continuation: Continuation, details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler:
        """Replace the handler of a call that is too many."""
        if details.method == _PROBE:
            return await continuation(details)
        if self._calls >= self._most:
            return refusing(TooManyCalls(self._most))
        task = asyncio.current_task()
        assert task is not None, "gRPC answers each call in a task of its own"
        self._calls += 1
        task.add_done_callback(self._ended)
        return await continuation(details)

    def _ended(self, _task: asyncio.Task[None]) -> None:
        self._calls -= 1
