"""Let one process at a time write a run directory."""

import fcntl
import time
from pathlib import Path
from types import TracebackType
from typing import TextIO

from recsys.errors import DataError

_PATIENCE_S = 30.0
"""How long to wait for a killed run's workers to go away, seconds."""


class RunLock:
    """Holds `run / "lock"` while the context is open; the system releases it when the process dies."""

    def __init__(self, run: Path) -> None:
        self._path = run / "lock"
        self._file: TextIO | None = None

    def __enter__(self) -> "RunLock":
        self._file = self._path.open("a")
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return self
            except BlockingIOError:
                if time.monotonic() > deadline:
                    self._file.close()
                    raise DataError(
                        f"another process is training in {self._path.parent}; wait for it or choose another run name"
                    ) from None
                time.sleep(0.2)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        self._file.close()
