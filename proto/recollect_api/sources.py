"""Callers' iterators for streams: who waits for the next part may give up, and a part that comes late is kept.

A stream of the service lasts for seconds, and the iterator that fills it may be quiet for longer. The stream ends then,
with the answers to what it brought, while the draw goes on: what it brings is the first part of the next stream.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Generic, TypeVar

T = TypeVar("T")
"""What is sent for a part."""

_END: Any = object()


class Source(Generic[T]):
    """A caller's iterator, drawn from in a thread of its own; one stream after the other reads it."""

    def __init__(self, parts: Iterable[Any], make: Callable[[Any], T]) -> None:
        """`make` turns a part into what is sent."""
        self.error: BaseException | None = None
        """What the iterator, or `make`, raised in a stream; what comes later is for the next one."""
        self._raised: BaseException | None = None
        self._parts = iter(parts)
        self._goes_on = self._parts is parts
        self._make = make
        self._changed = threading.Condition()
        self._stream = 0
        self._open = self._drawing = self._ended = self._has_thread = False
        self._drawn: tuple[T, ...] = ()

    def open(self) -> None:
        """Begin another stream."""
        with self._changed:
            self._stream += 1
            self._open = True

    def close(self, *, answered: bool) -> bool:
        """End the stream; whether it leaves something to the next one: what is still waited for, or came too late.

        What was drawn for one that was not answered is sent again by the caller, who has had it all from the iterator;
        a list is begun anew.
        """
        with self._changed:
            self._open = False
            self._changed.notify_all()
            came_late = bool(self._drawn) or self._raised is not self.error
            return (answered and came_late) or (self._drawing and (answered or self._goes_on))

    def wait(self) -> bool:
        """Wait for a part, however long that takes; False where there are no more, and once the stream is closed."""
        with self._changed:
            self._ask()
            self._changed.wait_for(lambda: not (self._drawing and self._open))
            self.error = self._raised
            return bool(self._drawn)

    def parts(self, most: int, seconds: float) -> Iterator[T]:
        """What comes within `seconds`, for the stream that is open."""
        return self._parts_of(self._stream, most, time.monotonic() + seconds)

    def _parts_of(self, stream: int, most: int, until: float) -> Iterator[T]:
        for _ in range(most):
            drawn = self._take(stream, until)
            yield from drawn
            if not drawn:
                return

    def _take(self, stream: int, until: float) -> tuple[T, ...]:
        with self._changed:
            left_s = until - time.monotonic()
            if left_s > 0:
                self._ask()
            self._changed.wait_for(lambda: not (self._drawing and self._reads(stream)), max(0.0, left_s))
            if not self._reads(stream):
                return ()
            self.error = self._raised
            drawn, self._drawn = self._drawn, ()
            return drawn

    def _reads(self, stream: int) -> bool:
        # gRPC's thread may still read for a stream that ended when the next one begins.
        return self._open and stream == self._stream

    def _ask(self) -> None:
        if self._drawn or self._drawing or self._ended:
            return
        self._drawing = True
        self._changed.notify_all()
        if not self._has_thread:
            self._has_thread = True
            # A daemon: an iterator that is quiet for ever must not keep the program from ending.
            threading.Thread(target=self._draw, name="recollect-source", daemon=True).start()

    def _draw(self) -> None:
        """Draw when asked, until the stream ends; a draw that outlasts it is the last of this thread."""
        while True:
            drawn: tuple[T, ...] = ()
            raised = None
            try:
                part = next(self._parts, _END)
                drawn = () if part is _END else (self._make(part),)
            except BaseException as error:
                raised = error
            with self._changed:
                self._drawing, self._drawn, self._ended, self._raised = False, drawn, not drawn, raised
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._drawing or self._ended or not self._open)
                if not self._drawing:
                    self._has_thread = False
                    return


class Sources(Generic[T]):
    """The sources of a client from which something comes late; threads may share it."""

    def __init__(self) -> None:
        self._late: dict[int, tuple[Iterable[Any], Source[T]]] = {}
        self._open: set[Source[T]] = set()

    @contextmanager
    def of(self, parts: Iterable[Any], make: Callable[[Any], T]) -> Iterator[Source[T]]:
        """A source for one stream of `parts`, with what came late for the stream before.

        Raises at the end what `parts` or `make` raised.
        """
        # By identity, since few iterators can be told apart otherwise; the entry keeps `parts`, and so its id.
        late, answered = self._late.pop(id(parts), None), False
        source = Source(parts, make) if late is None else late[1]
        source.open()
        self._open.add(source)
        try:
            yield source
            answered = True
        except Exception:
            if source.error is not None:
                raise source.error  # noqa: B904 - whatever else the call ended with is its context
            raise
        finally:
            self._open.discard(source)
            if source.close(answered=answered):
                self._late[id(parts)] = parts, source
        if source.error is not None:
            raise source.error

    def close(self) -> None:
        """End the streams that wait for a part."""
        for source in list(self._open):
            source.close(answered=False)


class AsyncSource(Generic[T]):
    """As `Source`, of either kind of iterator and in a task of its own."""

    def __init__(self, parts: AsyncIterable[Any] | Iterable[Any], make: Callable[[Any], T]) -> None:
        """`make` turns a part into what is sent."""
        self.error: BaseException | None = None
        """What the iterator, or `make`, raised in a stream; what comes later is for the next one."""
        self._raised: BaseException | None = None
        self._parts = aiter(parts) if isinstance(parts, AsyncIterable) else iter(parts)
        self._goes_on = self._parts is parts
        self._make = make
        self._changed = asyncio.Event()
        self._open = self._drawing = self._ended = False
        self._drawn: tuple[T, ...] = ()
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin another stream."""
        self._open = True

    def close(self, *, answered: bool) -> bool:
        """As that of `Source`; where nothing is left, `cancel` it."""
        self._open = False
        self._changed.set()
        came_late = bool(self._drawn) or self._raised is not self.error
        return (answered and came_late) or (self._drawing and (answered or self._goes_on))

    async def cancel(self) -> None:
        """Draw no more, once the stream is closed."""
        if self._task is not None:
            if self._drawing:
                self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def wait(self) -> bool:
        """As that of `Source`."""
        self._ask()
        await self._settled()
        self.error = self._raised
        return bool(self._drawn)

    async def take(self, until: float) -> tuple[T, ...]:
        """The next part; none where it does not come until then, by the loop's clock, or there are no more."""
        if asyncio.get_running_loop().time() < until:
            self._ask()
            await asyncio.sleep(0)
            if self._drawing:  # else a part was there, and a timeout would have taken longer than it
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(until):
                        await self._settled()
        self.error = self._raised
        drawn, self._drawn = self._drawn, ()
        return drawn

    async def _settled(self) -> None:
        while self._drawing and self._open:
            self._changed.clear()
            await self._changed.wait()

    def _ask(self) -> None:
        if self._drawn or self._drawing or self._ended:
            return
        self._drawing = True
        self._changed.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._draw())

    async def _draw(self) -> None:
        """Draw when asked, until the stream ends; a draw that outlasts it is the last of this task."""
        try:
            while self._drawing or (self._open and not self._ended):
                if self._drawing:
                    self._drawn = await self._next()
                    self._drawing, self._ended = False, not self._drawn
                    self._changed.set()
                else:
                    self._changed.clear()
                    await self._changed.wait()
        except (Exception, asyncio.CancelledError) as error:
            self._drawing, self._ended, self._raised = False, True, error
            self._changed.set()

    async def _next(self) -> tuple[T, ...]:
        part = next(self._parts, _END) if isinstance(self._parts, Iterator) else await anext(self._parts, _END)
        return () if part is _END else (self._make(part),)


class AsyncSources(Generic[T]):
    """As `Sources`, for asyncio."""

    def __init__(self) -> None:
        self._late: dict[int, tuple[AsyncIterable[Any] | Iterable[Any], AsyncSource[T]]] = {}
        self._open: set[AsyncSource[T]] = set()
        self._closed = False

    @asynccontextmanager
    async def of(
        self, parts: AsyncIterable[Any] | Iterable[Any], make: Callable[[Any], T]
    ) -> AsyncIterator[AsyncSource[T]]:
        """A source for one stream of `parts`, with what came late for the stream before.

        Raises at the end what `parts` or `make` raised. Cancelled, it cancels the draw as well.
        """
        late, answered, gives_up = self._late.pop(id(parts), None), False, False
        source = AsyncSource(parts, make) if late is None else late[1]
        source.open()
        self._open.add(source)
        try:
            yield source
            answered = True
        except asyncio.CancelledError:
            gives_up = True
            raise
        except Exception:
            if source.error is not None:
                raise source.error  # noqa: B904 - whatever else the call ended with is its context
            raise
        finally:
            self._open.discard(source)
            if source.close(answered=answered) and not (gives_up or self._closed):
                self._late[id(parts)] = parts, source
            else:
                await source.cancel()
        if source.error is not None:
            raise source.error

    async def close(self) -> None:
        """End the streams that wait for a part, and cancel what is still waited for."""
        self._closed = True
        for source in self._open:
            source.close(answered=False)
        while self._late:
            _, (_, source) = self._late.popitem()
            await source.cancel()
