"""Bring the log of all processes of a service to the one that was started, which writes it to its standard error.

What Ray brings there of its workers has a prefix before each line and leaves out lines that look alike, so that no
program could read it. Here a line is one datagram on a socket of this machine: whole, unaltered, and never waited for.
Where nobody takes it, on another machine of a cluster for instance, it goes to the process's own standard error, which
Ray keeps in the files of its session.
"""

import contextlib
import logging
import shutil
import socket
import sys
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

_LONGEST = 1 << 16
"""Bytes of a line; what is longer, a trace perhaps, goes to the process's own standard error."""
_END = b""


class RelayHandler(logging.Handler):
    """Sends lines to `relay`, and to the handler `otherwise` where nobody takes them."""

    def __init__(self, relay: Path, *, otherwise: logging.Handler) -> None:
        super().__init__()
        self._relay = str(relay)
        self._otherwise = otherwise
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        try:
            line = self.format(record).encode(errors="backslashreplace")
            if len(line) > _LONGEST:
                raise OSError("too long for a datagram")
            self._socket.sendto(line, self._relay)
        except OSError:
            self._otherwise.handle(record)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """See `logging.Handler`."""
        self._socket.close()
        super().close()


class LogRelay:
    """Writes what `RelayHandler`s send to standard error, for the time of a `with` block."""

    def __init__(self) -> None:
        # Its own directory, which only this user can enter.
        parent = tempfile.gettempdir()
        self._directory = Path(tempfile.mkdtemp(prefix="recollect-log-", dir=parent if len(parent) < 60 else "/tmp"))
        self.path = self._directory / "socket"
        """Where to send lines to; short, since the kernel allows 107 bytes."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)

    def __enter__(self) -> Self:
        self._socket.bind(str(self.path))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Behind all that was sent before.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last, contextlib.suppress(OSError):
            last.sendto(_END, str(self.path))
        self._thread.join(5)
        self._socket.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _write(self) -> None:
        while (line := self._socket.recv(_LONGEST)) != _END:
            sys.stderr.write(line.decode(errors="replace") + "\n")
            sys.stderr.flush()
