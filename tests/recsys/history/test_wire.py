"""Connections that many callers share: replies reach who asked, late ones nobody, and one that hangs is left."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from recsys.history.wire import Endpoint, LoginRefused, WireLost, Wires

Run = Callable[..., Any]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
LONG_S = 30.0


def after(seconds: float) -> float:
    """So many seconds from now, by the clock of the loop that runs."""
    return asyncio.get_running_loop().time() + seconds


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Run a scenario in both event loops that the store may have; replicas of Ray have uvloop's."""
    loop_factory = asyncio.new_event_loop
    if request.param == "uvloop":
        loop_factory = pytest.importorskip("uvloop").new_event_loop
    return partial(_run, tmp_path, loop_factory)


def _run(
    path: Path,
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
    serve: Serve,
    scenario: Callable[[Wires], Awaitable[Any]],
    *,
    most: int = 1,
    query: str = "",
) -> Any:
    """What `scenario` gives with connections to a server that `serve` answers for."""
    served: set[asyncio.Task[Any] | None] = set()

    async def until_it_ends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.add(asyncio.current_task())
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the caller has gone
        finally:
            writer.close()

    async def main() -> Any:
        server = await asyncio.start_unix_server(until_it_ends, path / "server.sock")
        wires = Wires(Endpoint.of(f"unix://{path}/server.sock{query}"), most=most)
        try:
            return await asyncio.wait_for(scenario(wires), LONG_S)
        finally:
            wires.close()
            server.close()
            await asyncio.gather(*(each for each in served if each is not None))
            await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(main())


async def read_command(reader: asyncio.StreamReader) -> list[bytes]:
    """Words of the next command; raises IncompleteReadError at the end."""
    count = int((await reader.readuntil(b"\r\n"))[1:])
    words = []
    for _ in range(count):
        size = int((await reader.readuntil(b"\r\n"))[1:])
        words.append((await reader.readexactly(size + 2))[:-2])
    return words


def answering(answer: Callable[[list[bytes]], Awaitable[bytes]]) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(await answer(await read_command(reader)))

    return serve


async def echo(words: list[bytes]) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(words[-1]), words[-1])


def test_replies_reach_who_asked_for_them(run: Run) -> None:
    async def scenario(wires: Wires) -> None:
        trips = [[("ECHO", f"{caller}-{at}") for at in range(caller % 4 + 1)] for caller in range(200)]
        replies = await asyncio.gather(*(wires.ask(trip, until=after(LONG_S)) for trip in trips))
        assert replies == [[word.encode() for _, word in trip] for trip in trips]

    run(answering(echo), scenario, most=3)


def test_large_replies_come_whole(run: Run) -> None:
    async def scenario(wires: Wires) -> None:
        texts = [bytes([65 + at]) * 1_000_000 for at in range(8)]
        replies = await asyncio.gather(*(wires.ask([("ECHO", text)], until=after(LONG_S)) for text in texts))
        assert replies == [[text] for text in texts]

    run(answering(echo), scenario)


def test_error_replies_are_told_among_the_others(run: Run) -> None:
    async def answer(words: list[bytes]) -> bytes:
        return b"-ERR no such thing\r\n" if words[-1] == b"bad" else b":1\r\n"

    async def scenario(wires: Wires) -> None:
        one, error, other = await wires.ask([("GET", "a"), ("GET", "bad"), ("GET", "b")], until=after(LONG_S))
        assert (one, other) == (1, 1)
        assert str(error) == "ERR no such thing"

    run(answering(answer), scenario)


def test_what_comes_late_is_dropped_and_the_connection_goes_on(run: Run) -> None:
    may_answer = asyncio.Event()

    async def answer(words: list[bytes]) -> bytes:
        if words[-1] == b"slow":
            await may_answer.wait()
        return await echo(words)

    async def scenario(wires: Wires) -> None:
        slow = asyncio.ensure_future(wires.ask([("ECHO", "slow")], until=after(LONG_S)))
        await asyncio.sleep(0.05)
        slow.cancel()
        behind = asyncio.ensure_future(wires.ask([("ECHO", "behind")], until=after(LONG_S)))
        await asyncio.sleep(0.05)
        may_answer.set()
        assert await behind == [b"behind"]

    run(answering(answer), scenario)


def test_a_connection_on_which_something_is_overdue_is_left(run: Run) -> None:
    connections: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(len(connections))
        if connections[-1] > 0:
            await answering(echo)(reader, writer)
            return
        while await reader.read(1_000):  # the first hears everything and says nothing
            pass

    async def scenario(wires: Wires) -> None:
        stuck = asyncio.ensure_future(wires.ask([("ECHO", "a")], until=after(0.1)))
        await asyncio.sleep(0.2)
        assert await wires.ask([("ECHO", "b")], until=after(LONG_S)) == [b"b"]
        with pytest.raises(TimeoutError):
            await stuck

    run(serve, scenario)


def test_of_those_who_share_a_connection_each_waits_as_long_as_it_would(run: Run) -> None:
    may_answer = asyncio.Event()

    async def answer(words: list[bytes]) -> bytes:
        await may_answer.wait()
        return await echo(words)

    async def scenario(wires: Wires) -> None:
        ended: list[str] = []

        async def wait(name: str, seconds: float) -> None:
            try:
                await wires.ask([("ECHO", name)], until=after(seconds))
                ended.append(f"{name} is answered")
            except TimeoutError:
                ended.append(f"{name} gives up")

        waiting = [asyncio.ensure_future(wait(f"{seconds}", seconds)) for seconds in (0.4, 0.1, LONG_S, 0.2)]
        await asyncio.gather(waiting[0], waiting[1], waiting[3])
        may_answer.set()
        await waiting[2]
        assert ended == ["0.1 gives up", "0.2 gives up", "0.4 gives up", f"{LONG_S} is answered"]

    run(answering(answer), scenario)


def test_who_waits_for_a_connection_gives_up_in_time_too(run: Run) -> None:
    async def serve(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        while await reader.read(1_000):  # a login that is never answered
            pass

    async def scenario(wires: Wires) -> None:
        with pytest.raises(TimeoutError):
            await wires.ask([("PING",)], until=after(0.1))

    run(serve, scenario, query="?password=s3")


def test_who_waits_when_the_connection_ends_is_told(run: Run) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_command(reader)

    async def scenario(wires: Wires) -> None:
        with pytest.raises(WireLost, match="closed"):
            await wires.ask([("GET", "a")], until=after(LONG_S))

    run(serve, scenario)


def test_another_protocol_is_named(run: Run) -> None:
    async def answer(_words: list[bytes]) -> bytes:
        return b"HTTP/1.1 400 Bad Request\r\n\r\n"

    async def scenario(wires: Wires) -> None:
        with pytest.raises(WireLost, match="does not speak Redis's protocol"):
            await wires.ask([("GET", "a")], until=after(LONG_S))

    run(answering(answer), scenario)


def test_login_name_and_database_come_first(run: Run) -> None:
    said: list[list[bytes]] = []

    async def answer(words: list[bytes]) -> bytes:
        said.append(words)
        return b"+OK\r\n"

    async def scenario(wires: Wires) -> None:
        await wires.ask([("PING",)], until=after(LONG_S))

    run(answering(answer), scenario, query="?username=me&password=s3%20t&client_name=x&db=3")
    assert said == [[b"AUTH", b"me", b"s3 t"], [b"CLIENT", b"SETNAME", b"x"], [b"SELECT", b"3"], [b"PING"]]


def test_a_login_that_is_refused_is_told_to_all_who_wait_for_it(run: Run) -> None:
    async def answer(_words: list[bytes]) -> bytes:
        return b"-WRONGPASS invalid username-password pair\r\n"

    async def scenario(wires: Wires) -> None:
        asked = [wires.ask([("PING",)], until=after(LONG_S)) for _ in range(3)]
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(each) for each in outcomes] == [LoginRefused] * 3

    run(answering(answer), scenario, query="?password=wrong")


def test_no_more_connections_than_allowed_are_opened(run: Run) -> None:
    opened: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(1)
        await answering(echo)(reader, writer)

    async def scenario(wires: Wires) -> None:
        for _ in range(20):
            await asyncio.gather(*(wires.ask([("ECHO", "x")], until=after(LONG_S)) for _ in range(20)))

    run(serve, scenario, most=4)
    assert 1 < len(opened) <= 4


def test_a_host_that_says_nothing_is_left_and_its_name_resolved_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failover by name, while a connection to the old host is being opened."""
    monkeypatch.setattr("recsys.history.wire.OPENING_S", 0.3)
    leads_to, resolve = ["127.0.0.2"], socket.getaddrinfo

    def resolved(host: Any, *options: Any, **more: Any) -> Any:
        return resolve(leads_to[0] if host == "cache.internal" else host, *options, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)

    async def scenario(port: int) -> None:
        ended = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                await answering(echo)(reader, writer)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            ended.set()

        server = await asyncio.start_server(serve, "127.0.0.3", port)
        wires = Wires(Endpoint.of(f"redis://cache.internal:{port}"), most=1)
        with pytest.raises(TimeoutError):
            await wires.ask([("ECHO", "a")], until=after(0.1))
        patient = asyncio.ensure_future(wires.ask([("ECHO", "b")], until=after(LONG_S)))
        await asyncio.sleep(0.1)
        leads_to[0] = "127.0.0.3"
        assert await patient == [b"b"]
        wires.close()
        await ended.wait()
        server.close()

    with ExitStack() as stack:
        gone = stack.enter_context(socket.socket())
        gone.bind(("127.0.0.2", 0))
        gone.listen(0)
        for _ in range(4):  # its queue is full: it takes no more connections and refuses none
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with suppress(BlockingIOError):
                waiting.connect(gone.getsockname())
        asyncio.run(scenario(gone.getsockname()[1]))
