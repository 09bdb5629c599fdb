"""Reach Redis within a deadline, and say in words what went wrong when that fails."""

import asyncio
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from recsys.errors import ConfigError, HistoryError, HistoryOverdue, HistoryUnavailable
from recsys.history.scripts import Script
from recsys.history.wire import Command, Endpoint, LoginRefused, WireLost, Wires

Call = tuple[Sequence[str], Sequence[Any]]
"""One script call: the keys, which are those of one user, then the arguments."""

RIGHTS = (
    "~PREFIX* -@all +@read +@write -@dangerous +@scripting +@connection +info +bgrewriteaof +config|get +cluster|info "
    "+acl|whoami"
)
"""What a Redis user of Recollect's own needs; PREFIX is that of the keys, `recollect:history:`.

Not all that writes: FLUSHALL takes no key."""

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
_LOGIN = frozenset({"NOAUTH", "WRONGPASS"})
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
    """Connections to one Redis; every failure leaves it as HistoryError or HistoryUnavailable."""

    def __init__(self, url: str, *, max_connections: int, timeout_s: float) -> None:
        self.address = public_address(url)
        parts = urlsplit(url)
        self.transport = {"unix": "unix socket", "rediss": "TLS"}.get(parts.scheme, "unencrypted")
        """How Redis is reached."""
        self.local = parts.scheme == "unix" or parts.hostname in _LOCAL
        """Whether nothing leaves this machine."""
        self.timeout_s = timeout_s
        try:
            self._wires = Wires(Endpoint.of(url), most=max_connections)
        except ValueError:  # its text may quote the password
            raise ConfigError(
                f"Redis URL {self.address} cannot be used; write redis://HOST:PORT/DB, rediss://HOST:PORT/DB or "
                "unix://PATH, with special characters of a password percent-encoded"
            ) from None

    async def close(self) -> None:
        """Close every connection."""
        self._wires.close()

    async def command(self, *words: Any, timeout_s: float | None = None) -> Any:
        """Reply of one command."""
        return (await self.together(words, timeout_s=timeout_s))[0]

    async def together(self, *commands: Command, timeout_s: float | None = None) -> list[Any]:
        """Replies of `commands` in one round trip. No transaction: a Redis that is out of memory refuses those."""
        replies = await self._ask(commands, timeout_s)
        for reply in replies:
            if isinstance(reply, Exception):
                raise self._explained(reply) from reply
        return replies

    async def run(self, script: Script, call: Call, *, timeout_s: float | None = None) -> Any:
        """Reply of `script` on one user's keys, in one round trip unless Redis has lost the script."""
        (reply,) = await self._ask([_by_digest(script, call)], timeout_s)
        if _has_no_script(reply):
            keys, arguments = call
            (reply,) = await self._ask([("EVAL", script.source, len(keys), *keys, *arguments)], timeout_s)
        if isinstance(reply, Exception):
            raise self._explained(reply) from reply
        return reply

    async def run_many(
        self, script: Script, calls: Sequence[Call], *, timeout_s: float | None = None
    ) -> list[Any | HistoryError]:
        """Replies of `script` on many users' keys, in one round trip unless Redis has lost the script.

        A call that failed has its HistoryError in place of a reply; the others were done.
        """
        if not calls:
            return []
        replies = await self._ask([_by_digest(script, call) for call in calls], timeout_s)
        unknown = [index for index, reply in enumerate(replies) if _has_no_script(reply)]
        if unknown:
            await self.command("SCRIPT", "LOAD", script.source, timeout_s=timeout_s)
            again = await self._ask([_by_digest(script, calls[index]) for index in unknown], timeout_s)
            for index, reply in zip(unknown, again, strict=True):
                replies[index] = reply
        return [
            self._explained(reply, key=keys[0]) if isinstance(reply, Exception) else reply
            for (keys, _), reply in zip(calls, replies, strict=True)
        ]

    async def _ask(self, commands: Sequence[Command], timeout_s: float | None) -> list[Any]:
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        until = asyncio.get_running_loop().time() + limit_s
        try:
            try:
                return await self._wires.ask(commands, until=until)
            except WireLost:
                # Once more, for a connection that a restart of Redis left dead: all that is asked bears it.
                return await self._wires.ask(commands, until=until)
        except TimeoutError:
            raise HistoryOverdue(
                f"Redis at {self.address} did not answer within {limit_s:g} s; try again, or allow it more time"
            ) from None
        except OSError as error:
            raise self._explained(error) from error

    def _explained(self, error: Exception, *, key: str | None = None) -> HistoryError:
        """`error` as one of ours, with what to do about it."""
        text = str(error).strip()
        where = f"Redis at {self.address}" + (f", key {key}" if key else "")
        codes = _CODE.findall(text)
        if isinstance(error, LoginRefused) or not _LOGIN.isdisjoint(codes):
            return HistoryError(f"{where} refused the login ({text}); put user and password into the URL")
        if isinstance(error, OSError):
            return HistoryUnavailable(
                f"{where} cannot be reached ({text}); start it or correct the address, then retry"
            )
        if not _PASSING.isdisjoint(codes):
            return HistoryUnavailable(f"{where} cannot answer now ({text}); try again")
        for code in codes:
            if code in _REMEDIES:
                kind = HistoryUnavailable if code in _REFUSING else HistoryError
                return kind(f"{where}: {text}; {_REMEDIES[code]}")
        return HistoryError(f"{where} refused: {text}; look into its log")


def _by_digest(script: Script, call: Call) -> Command:
    keys, arguments = call
    return "EVALSHA", script.digest, len(keys), *keys, *arguments


def _has_no_script(reply: Any) -> bool:
    """Whether Redis has lost the script: it forgets all of them when it is restarted."""
    return isinstance(reply, Exception) and str(reply).startswith("NOSCRIPT")
