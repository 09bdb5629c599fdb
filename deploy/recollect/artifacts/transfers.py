"""Tell how far a version is that is being fetched or shared: whoever listens hears bytes done of bytes in all."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

Told = Callable[[str, int, int], None]
"""Called with (what is done, bytes done, bytes in all); from other threads too."""
_listener: ContextVar[Told | None] = ContextVar("listener", default=None)


@contextmanager
def heard(told: Told) -> Iterator[None]:
    """Let `told` hear of every transfer that this thread begins in the block."""
    before = _listener.set(told)
    try:
        yield
    finally:
        _listener.reset(before)


class Transfer:
    """Several files that are copied, one after the other."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._done = what, total, 0
        # Taken here: file systems tell from threads of their own.
        self._told = _listener.get()
        self._tell(0)

    def file(self) -> Any:
        """What a file system tells of the file that comes next: an fsspec callback."""
        from fsspec.callbacks import Callback

        return Callback(hooks={"bytes": lambda _size, value, **_: self._tell(value)})

    def finished(self, size: int) -> None:
        """A file of `size` bytes is there, or was already; some file systems tell nothing in between."""
        self._done += size
        self._tell(0)

    def _tell(self, more: int) -> None:
        if self._told is not None:
            self._told(self._what, min(self._done + more, self._total), self._total)
