"""Speak Redis's protocol over few connections that many callers share: what is asked is written at once, and replies
come in the order in which they were asked for.

A client of a pool takes a connection for each trip, encodes in Python, and sets a timer for every reply; for replies
that take Redis a tenth of a millisecond that was most of the time. What is read and written here is hiredis's, and one
timer watches all that a connection waits for.
"""

import asyncio
import math
import socket
import ssl
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import hiredis
from redis.asyncio.connection import SSLConnection, parse_url

Command = tuple[Any, ...]
"""Words of one command: text, bytes and numbers."""

_INCOMPLETE = object()
OPENING_S = 2.0
"""To connect to one address and log in may take this long, whoever waits for it; then the name is resolved anew. A host
that has gone says nothing, and the system would wait for it for minutes."""
_KEPT_BYTES = 4 << 20
"""Bytes that a connection keeps for the next reply: to find room for each anew costs more than to read it."""


class WireLost(ConnectionError):  # noqa: N818 - what has happened
    """A connection ended before the replies came; whether Redis did what was asked is not known."""


class _OpeningOverdue(ConnectionError):  # noqa: N818
    """No address has let anybody in within its time."""


class LoginRefused(ConnectionError):  # noqa: N818
    """Redis refused user and password, or asks for them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """Where Redis is and how it is entered, as its URL says."""

    path: str | None
    """Unix socket; None: TCP."""
    host: str
    port: int
    tls: ssl.SSLContext | None
    opening: tuple[Command, ...]
    """What is said first: the login, the name of the client, the database."""

    @classmethod
    def of(cls, url: str) -> "Endpoint":
        """Read `url`; ValueError where it is none, whose text may quote the password."""
        given: dict[str, Any] = dict(parse_url(url))
        over_tls = given.pop("connection_class", None) is SSLConnection
        # One context for all connections: each would read every certificate anew, and hold up everything meanwhile.
        tls = {name: value for name, value in given.items() if name.startswith("ssl_")}
        context = SSLConnection(**tls).ssl_context.get() if over_tls else None
        opening: list[Command] = []
        if given.get("password") is not None:
            user = [given["username"]] if given.get("username") else []
            opening.append(("AUTH", *user, given["password"]))
        if given.get("client_name"):
            opening.append(("CLIENT", "SETNAME", given["client_name"]))
        if given.get("db"):
            opening.append(("SELECT", int(given["db"])))
        return cls(
            path=given.get("path"),
            host=given.get("host", "localhost"),
            port=int(given.get("port", 6379)),
            tls=context,
            opening=tuple(opening),
        )


@dataclass(slots=True)
class _Trip:
    """Replies that are waited for."""

    count: int
    """How many they will be."""
    until: float
    """When they are overdue, by the event loop's clock."""
    done: "asyncio.Future[list[Any]]"
    replies: list[Any] = field(default_factory=list)


class Wire(asyncio.Protocol):
    """One connection, entered."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader(notEnoughData=_INCOMPLETE)
        self._reader.setmaxbuf(_KEPT_BYTES)
        self._trips: deque[_Trip] = deque()
        self._transport: asyncio.Transport | None = None
        self._lost: Exception | None = None
        self._loop = asyncio.get_running_loop()
        self._watch: asyncio.TimerHandle | None = None
        self._watch_at = math.inf
        """When what is overdue is looked for next."""

    @classmethod
    async def open(cls, endpoint: Endpoint) -> "Wire":
        """Connect and log in, each address of the host in turn; OSError where Redis is not reached, LoginRefused where
        it lets nobody in."""
        loop = asyncio.get_running_loop()
        hosts = [endpoint.host]
        if endpoint.path is None:
            # Not within the time of one address: a resolver that is slow is asked once, not by a thread for each try.
            found = await loop.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
            hosts = list(dict.fromkeys(str(address[0]) for *_, address in found))
        failed: OSError = WireLost(f"{endpoint.host} has no address")
        for host in hosts:
            try:
                async with asyncio.timeout(OPENING_S):
                    return await cls._open(endpoint, host)
            except LoginRefused:
                raise
            except TimeoutError:
                failed = _OpeningOverdue(f"nobody was let in within {OPENING_S:g} s")
            except OSError as error:
                failed = error
        raise failed

    @classmethod
    async def _open(cls, endpoint: Endpoint, host: str) -> "Wire":
        loop = asyncio.get_running_loop()
        wire: Wire
        if endpoint.path is not None:
            _, wire = await loop.create_unix_connection(cls, endpoint.path)
        else:
            name = endpoint.host if endpoint.tls is not None else None
            _, wire = await loop.create_connection(cls, host, endpoint.port, ssl=endpoint.tls, server_hostname=name)
        try:
            if endpoint.opening:
                for reply in await wire.ask(endpoint.opening, until=loop.time() + OPENING_S):
                    if isinstance(reply, Exception):
                        raise LoginRefused(str(reply)) from reply
        except BaseException:
            wire.close()
            raise
        return wire

    @property
    def waiting(self) -> int:
        """Trips whose replies have not come, those among them for which nobody waits any more."""
        return len(self._trips)

    @property
    def usable(self) -> bool:
        """Whether it can be written to, and nothing that was asked before is overdue."""
        if self._lost is not None or self._transport is None or self._transport.is_closing():
            return False
        return not self._trips or self._loop.time() < self._trips[0].until

    async def ask(self, commands: Sequence[Command], *, until: float) -> list[Any]:
        """A reply for each of `commands`, an error reply as an exception among them.

        WireLost where the connection ends before, TimeoutError where they have not come at `until`, by the event
        loop's clock. Who gives up before hurts nobody: what comes is dropped.
        """
        if self._lost is not None or self._transport is None:
            raise self._lost or WireLost("the connection is not open")
        done: asyncio.Future[list[Any]] = self._loop.create_future()
        self._trips.append(_Trip(len(commands), until, done))
        if until < self._watch_at:
            self._look_at(until)
        packed = [hiredis.pack_command(command) for command in commands]
        self._transport.write(packed[0] if len(packed) == 1 else b"".join(packed))
        return await done

    def close(self) -> None:
        """End it; who waits gets WireLost."""
        if self._transport is not None:
            self._transport.abort()
        self._end(WireLost("the connection was closed"))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not descend from it
        own = transport.get_extra_info("socket")
        if own is not None and own.family != socket.AF_UNIX:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        try:
            self._reader.feed(data)
            while self._trips:
                reply = self._reader.gets()
                if reply is _INCOMPLETE:
                    return
                trip = self._trips[0]
                trip.replies.append(reply)
                if len(trip.replies) == trip.count:
                    self._trips.popleft()
                    if not trip.done.done():  # else nobody waits for it any more
                        trip.done.set_result(trip.replies)
        except hiredis.ProtocolError as error:
            assert self._transport is not None
            self._transport.abort()
            self._end(WireLost(f"what answers does not speak Redis's protocol ({error})"))

    def connection_lost(self, error: Exception | None) -> None:
        """Called by the event loop."""
        self._end(WireLost(str(error) if error is not None else "Redis closed the connection"))

    def _look_at(self, moment: float) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._watch, self._watch_at = self._loop.call_at(moment, self._give_up), moment

    def _give_up(self) -> None:
        """Tell those whose replies are overdue; their place in the order of replies stays."""
        self._watch, self._watch_at = None, math.inf
        now, next_at = self._loop.time(), math.inf
        for trip in self._trips:
            if trip.done.done():
                continue
            if trip.until <= now:
                trip.done.set_exception(TimeoutError())
            else:
                next_at = min(next_at, trip.until)
        if next_at < math.inf:
            self._look_at(next_at)

    def _end(self, error: WireLost) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch, self._watch_at = None, math.inf
        if self._lost is None:
            self._lost = error
        while self._trips:
            trip = self._trips.popleft()
            if not trip.done.done():
                trip.done.set_exception(error)


class Wires:
    """At most `most` connections to one Redis, opened as callers come; use them in one event loop."""

    def __init__(self, endpoint: Endpoint, *, most: int) -> None:
        self._endpoint = endpoint
        self._most = most
        self._wires: list[Wire] = []
        self._opening: asyncio.Task[Wire] | None = None

    async def ask(self, commands: Sequence[Command], *, until: float) -> list[Any]:
        """A reply for each of `commands`, over the connection with the fewest trips before this one.

        WireLost or another OSError where Redis is not reached, TimeoutError where it has not answered at `until`.
        """
        for wire in self._wires:
            if not wire.waiting and wire.usable:
                return await wire.ask(commands, until=until)
        async with asyncio.timeout_at(until):
            while (free := await self._free()) is None:
                continue
        return await free.ask(commands, until=until)

    def close(self) -> None:
        """End all connections."""
        if self._opening is not None:
            self._opening.cancel()
        for wire in self._wires:
            wire.close()
        self._wires.clear()

    async def _free(self) -> Wire | None:
        """A connection; None where it took too long to open one, and whoever still has time tries again."""
        for wire in self._wires:
            if not wire.usable:
                wire.close()  # Redis may be well behind a connection that hangs
        self._wires = [wire for wire in self._wires if wire.usable]
        least = min(self._wires, key=_waiting) if self._wires else None
        if least is not None and (least.waiting == 0 or len(self._wires) >= self._most):
            return least
        opening = self._opening
        if opening is None:
            opening = self._opening = asyncio.create_task(self._open())
            opening.add_done_callback(_noticed)
        if least is not None:
            return least  # the next caller has one more
        try:
            return await asyncio.shield(opening)
        except _OpeningOverdue:
            return None

    async def _open(self) -> Wire:
        try:
            wire = await Wire.open(self._endpoint)
            self._wires.append(wire)
            return wire
        finally:
            self._opening = None


def _waiting(wire: Wire) -> int:
    return wire.waiting


def _noticed(opening: "asyncio.Task[Wire]") -> None:
    """Whoever waits for it has the error; that nobody does is none."""
    if not opening.cancelled():
        opening.exception()
