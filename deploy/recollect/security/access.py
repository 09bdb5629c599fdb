"""Let a call through if its token is known, allows the method and has not been used too often; remember whose it is."""

import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]

from recollect.gateway.errors import CallError, RateExceeded, ScopeMissing, TokenExpired, Unauthorised
from recollect.gateway.refusing import refusing
from recollect.security.rates import TokenBucket
from recollect.security.scopes import ANY_TOKEN_SERVICES, OPEN_SERVICES, SCOPES
from recollect.security.tokens import Clock, Token, TokenBook, now

Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]]

caller: ContextVar[Token | None] = ContextVar("caller", default=None)
"""The token of the call that this task answers; None where none is asked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AccessRules:
    """Who is let in."""

    tokens: Path
    """File of the tokens."""
    rate: float | None = None
    """Calls a second, of each replica, that a token without a rate of its own allows; None: any number."""


class AccessInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Let only calls through that carry `authorization: Bearer TOKEN`, with the scope of their method.

    Comes first, and refuses before the request is read: who has no token learns nothing, not even by a crafted one.
    """

    def __init__(
        self, rules: AccessRules, *, clock: Clock = now, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """SetupError where the file of tokens cannot be read."""
        self._book = TokenBook(rules.tokens)
        self._rate = rules.rate
        self._clock = clock
        self._monotonic = monotonic
        self._buckets: dict[str, TokenBucket] = {}

    async def intercept_service(
        self, continuation: Continuation, details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler:
        """Replace the handler of a call that may not be answered."""
        method: str = details.method
        if method.startswith(OPEN_SERVICES):
            return await continuation(details)
        try:
            token = self._known(details)
            self._require_rate(token)
            handler = await continuation(details)
            if handler is not None:  # else nobody answers it, which gRPC says
                _require_scope(token, method)
        except CallError as error:
            return refusing(error)
        caller.set(token)
        return handler

    def _known(self, details: grpc.HandlerCallDetails) -> Token:
        given = str(dict(details.invocation_metadata).get("authorization", ""))
        scheme, _, presented = given.partition(" ")
        token = self._book.find(presented)
        state = None if token is None else token.state(self._clock())
        if scheme.lower() != "bearer" or token is None or state == "revoked":
            raise Unauthorised("missing or wrong token; send metadata authorization: Bearer TOKEN")
        if state == "expired":
            raise TokenExpired(f"token {token.id} expired at {token.expires:%Y-%m-%dT%H:%M:%SZ}; ask for another one")
        return token

    def _require_rate(self, token: Token) -> None:
        rate = token.rate or self._rate
        if rate is None:
            return
        burst = token.burst or max(1.0, rate)
        bucket = self._buckets.get(token.id)
        if bucket is None or (bucket.rate, bucket.burst) != (rate, burst):
            bucket = self._buckets[token.id] = TokenBucket(rate, burst, self._monotonic)
        wait_s = bucket.take()
        if wait_s > 0:
            raise RateExceeded(f"token {token.id} may make {rate:g} calls a second; wait {wait_s:.3f} s", wait_s)


def _require_scope(token: Token, method: str) -> None:
    if method.startswith(ANY_TOKEN_SERVICES):
        return
    needed = SCOPES.get(method)
    if needed is None or needed not in token.scopes:
        wanted = "which no token allows" if needed is None else f"for which it needs the scope {needed}"
        raise ScopeMissing(
            f"token {token.id} does not allow {method}, {wanted}",
            method=method,
            scope="" if needed is None else needed,
        )
