"""Reach Redis within a deadline, and say in words what went wrong when that fails."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from redis import exceptions as redis_errors
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from recsys.errors import ConfigError, HistoryError, HistoryUnavailable
from recsys.history.scripts import Script

Call = tuple[Sequence[str], Sequence[Any]]
"""One script call: the keys, which are those of one user, then the arguments."""

RIGHTS = (
    "~PREFIX* -@all +@read +@write +@scripting +@connection +info +bgrewriteaof +config|get +cluster|info +acl|whoami"
)
"""What a Redis user of Recollect's own needs; PREFIX is that of the keys, `recollect:history:`."""

_REMEDIES = {
    "WRONGTYPE": "the key holds something else than a history; choose another prefix or delete the key",
    "HISTORYFORMAT": "the key holds something else than a history of this release; delete it and load it again",
    "OOM": "Redis has reached its maxmemory; raise maxmemory or keep shorter histories",
    "READONLY": "this is a read-only replica; give the address of the primary",
    "MISCONF": "Redis cannot write to its disk; free space there or look into its log",
    "NOPERM": f"give the Redis user these rights: {RIGHTS}",
}
_PASSING = frozenset({"LOADING", "BUSY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN"})
_REFUSING = frozenset({"OOM", "READONLY", "MISCONF"})
"""Redis takes no append until someone has mended it."""
_CODE_OF: dict[type[Exception], str] = {  # redis-py cuts the code off the text of these
    redis_errors.OutOfMemoryError: "OOM",
    redis_errors.ReadOnlyError: "READONLY",
    redis_errors.NoPermissionError: "NOPERM",
    redis_errors.MasterDownError: "MASTERDOWN",
    redis_errors.ClusterDownError: "CLUSTERDOWN",
    redis_errors.TryAgainError: "TRYAGAIN",
}
_LOCAL = frozenset({None, "localhost", "127.0.0.1", "::1"})
_CODE = re.compile(r"\b[A-Z]{3,}\b")


def public_address(url: str) -> str:
    """`url` as it may be shown and logged: without user, password and query."""
    parts = urlsplit(url)
    _, at, host = parts.netloc.rpartition("@")
    if url.count("@") > bool(at):  # a password that is not percent-encoded: where it ends is a guess
        return f"{parts.scheme}://***"
    return f"{parts.scheme}://{'***@' if at else ''}{host}{parts.path}"


class Connection:
    """A pool of connections to one Redis; every failure leaves it as HistoryError or HistoryUnavailable."""

    def __init__(self, url: str, *, max_connections: int, timeout_s: float) -> None:
        self.address = public_address(url)
        parts = urlsplit(url)
        self.transport = {"unix": "unix socket", "rediss": "TLS"}.get(parts.scheme, "unencrypted")
        """How Redis is reached."""
        self.local = parts.scheme == "unix" or parts.hostname in _LOCAL
        """Whether nothing leaves this machine."""
        self.timeout_s = timeout_s
        try:
            pool = BlockingConnectionPool.from_url(
                url,
                max_connections=max_connections,
                timeout=timeout_s,
                protocol=2,
                # One more attempt, for the pooled connection that a restart of Redis left dead. Both scripts bear it.
                retry=Retry(NoBackoff(), 1, supported_errors=(redis_errors.ConnectionError,)),
            )
        except ValueError:  # its text may quote the password
            raise ConfigError(
                f"Redis URL {self.address} cannot be used; write redis://HOST:PORT/DB, rediss://HOST:PORT/DB or "
                "unix://PATH, with special characters of a password percent-encoded"
            ) from None
        if pool.connection_class is SSLConnection:
            pool.connection_class = _sharing_context(pool.connection_kwargs)
        self.client: Redis = Redis.from_pool(pool)
        self._execute: Callable[..., Awaitable[Any]] = self.client.execute_command

    async def close(self) -> None:
        """Close every connection of the pool."""
        await self.client.aclose()

    async def command(self, *words: Any, timeout_s: float | None = None) -> Any:
        """Reply of one command."""
        return await self._within(lambda: self._execute(*words), timeout_s)

    async def together(self, *commands: tuple[Any, ...], timeout_s: float | None = None) -> list[Any]:
        """Replies of `commands` in one round trip. No transaction: a Redis that is out of memory refuses those."""

        async def execute() -> list[Any]:
            async with self.client.pipeline(transaction=False) as pipeline:
                for command in commands:
                    pipeline.execute_command(*command)
                return list(await pipeline.execute(raise_on_error=False))

        replies: list[Any] = await self._within(execute, timeout_s)
        for reply in replies:
            if isinstance(reply, Exception):
                raise self._explained(reply) from reply
        return replies

    async def run(self, script: Script, call: Call, *, timeout_s: float | None = None) -> Any:
        """Reply of `script` on one user's keys, in one round trip unless Redis has lost the script."""
        keys, arguments = call

        async def evaluate() -> Any:
            try:
                return await self._execute("EVALSHA", script.digest, len(keys), *keys, *arguments)
            except redis_errors.NoScriptError:
                return await self._execute("EVAL", script.source, len(keys), *keys, *arguments)

        return await self._within(evaluate, timeout_s)

    async def run_many(
        self, script: Script, calls: Sequence[Call], *, timeout_s: float | None = None
    ) -> list[Any | HistoryError]:
        """Replies of `script` on many users' keys, in one round trip unless Redis has lost the script.

        A call that failed has its HistoryError in place of a reply; the others were done.
        """

        async def evaluate(pending: Sequence[Call]) -> list[Any]:
            async with self.client.pipeline(transaction=False) as pipeline:
                for keys, arguments in pending:
                    pipeline.evalsha(script.digest, len(keys), *keys, *arguments)
                return list(await pipeline.execute(raise_on_error=False))

        async def evaluate_all() -> list[Any]:
            replies = await evaluate(calls)
            unknown = [index for index, reply in enumerate(replies) if isinstance(reply, redis_errors.NoScriptError)]
            if unknown:
                await self._execute("SCRIPT LOAD", script.source)
                for index, reply in zip(unknown, await evaluate([calls[index] for index in unknown]), strict=True):
                    replies[index] = reply
            return replies

        if not calls:
            return []
        replies: list[Any] = await self._within(evaluate_all, timeout_s)
        return [
            self._explained(reply, key=keys[0]) if isinstance(reply, Exception) else reply
            for (keys, _), reply in zip(calls, replies, strict=True)
        ]

    async def _within(self, action: Callable[[], Awaitable[Any]], timeout_s: float | None) -> Any:
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        try:
            async with asyncio.timeout(limit_s):
                return await action()
        except TimeoutError:
            raise HistoryUnavailable(
                f"Redis at {self.address} did not answer within {limit_s:g} s; try again, or allow it more time"
            ) from None
        except (redis_errors.RedisError, OSError) as error:
            raise self._explained(error) from error

    def _explained(self, error: Exception, *, key: str | None = None) -> HistoryError:
        """`error` as one of ours, with what to do about it."""
        text = str(error).strip()
        where = f"Redis at {self.address}" + (f", key {key}" if key else "")
        if _refused_login(error):
            return HistoryError(f"{where} refused the login ({text}); put user and password into the URL")
        if isinstance(error, redis_errors.ConnectionError | redis_errors.TimeoutError | OSError):
            return HistoryUnavailable(
                f"{where} cannot be reached ({text}); start it or correct the address, then retry"
            )
        codes = [_CODE_OF.get(type(error), ""), *_CODE.findall(text)]
        if not _PASSING.isdisjoint(codes):
            return HistoryUnavailable(f"{where} cannot answer now ({text}); try again")
        for code in codes:
            if code in _REMEDIES:
                kind = HistoryUnavailable if code in _REFUSING else HistoryError
                return kind(f"{where}: {text}; {_REMEDIES[code]}")
        return HistoryError(f"{where} refused: {text}; look into its log")


def _sharing_context(options: dict[str, Any]) -> type[SSLConnection]:
    """Connections of one TLS context: each would read all certificates anew, and hold up everything else meanwhile."""
    context = SSLConnection(**options).ssl_context

    class SharingContext(SSLConnection):
        def __init__(self, **given: Any) -> None:
            super().__init__(**given)
            self.ssl_context = context

    return SharingContext


def _refused_login(error: BaseException | None) -> bool:
    """Whether `error` comes of a login that was refused: redis-py wraps it where that happens on connecting."""
    while error is not None:
        if isinstance(error, redis_errors.AuthenticationError | redis_errors.AuthorizationError):
            return True
        error = error.__cause__ or error.__context__
    return False
