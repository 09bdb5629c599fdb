"""Signs of life that machines leave for one another, since none sees the others' locks: who holds, who is uploading.

.holds/<name>@<version>/<sign>.json      a process uses the version; renewed while it lives
.uploads/<name>@<version>/<sign>.json    a process is sharing the version

A sign counts for a day after it was last written, by the clock of whoever wrote it; a process that ends in order takes
its signs away.
"""

import atexit
import contextlib
import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import uuid4

from recollect.artifacts.holds import Hold
from recollect.artifacts.remote import Remote
from recollect.errors import RemoteError

log = logging.getLogger(__name__)

HOLDS, UPLOADS = ".holds", ".uploads"
VALID = timedelta(days=1)
"""How long a sign counts; clocks of machines may differ by much less."""
RENEW_S = 3600.0
"""How often a hold is renewed."""
RETRY_S = 60.0
"""How soon it is tried again where that failed."""
END_S = 5.0
"""How long a process that ends waits for its signs to be taken away, each of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Signs:
    """The signs of one kind that there are for one name."""

    valid: frozenset[str]
    """Versions with a sign that counts."""
    expired: tuple[str, ...]
    """Paths of those that count no more, or that are torn."""


def signs(remote: Remote, folder: str, name: str, now: datetime) -> Signs:
    """What signs there are."""
    paths = [path for path in remote.list(folder) if path.startswith(f"{folder}/{name}@")]
    valid, expired = set(), []
    read = remote.read_all(paths)
    for path in paths:
        try:
            counts = datetime.fromisoformat(json.loads(read[path])["written"]) > now - VALID
        except (KeyError, ValueError, TypeError):
            counts = False
        if counts:
            valid.add(path.split("/")[1].partition("@")[2])
        elif path in read:
            expired.append(path)
    return Signs(valid=frozenset(valid), expired=tuple(expired))


@contextlib.contextmanager
def uploading(remote: Remote, name: str, version: str, clock: Callable[[], datetime]) -> Iterator[None]:
    """Keep half of a version from being removed as something that was left, until the block ends well."""
    path = _path(UPLOADS, name, version)
    _write(remote, path, clock)
    yield
    remote.remove([path])


class SharedHold(Hold):
    """A hold that other machines see: a lock here, and a sign there that a thread renews."""

    def __init__(self, here: Hold, remote: Remote, name: str, version: str, clock: Callable[[], datetime]) -> None:
        self._here = here
        self._remote = remote
        self._reference = f"{name}/{version}"
        self._clock = clock
        self._released = threading.Event()
        self._path = _path(HOLDS, name, version)
        left = self._renew(warned=False)
        self._keeping = threading.Thread(target=self._keep, args=(left,), name="holding", daemon=True)
        self._keeping.start()
        # A thread of this kind does nothing more once the process ends.
        atexit.register(self._end)

    def release(self) -> None:
        """Let the version be removed, at once here and soon elsewhere; again changes nothing."""
        self._here.release()
        self._released.set()

    def _end(self) -> None:
        self.release()
        self._keeping.join(END_S)

    def _keep(self, left: bool) -> None:
        while not self._released.wait(RENEW_S if left else RETRY_S):
            left = self._renew(warned=not left)
        with contextlib.suppress(RemoteError):  # it counts no more in a day
            self._remote.remove([self._path])
        atexit.unregister(self._end)

    def _renew(self, *, warned: bool) -> bool:
        try:
            _write(self._remote, self._path, self._clock)
        except RemoteError as error:
            if not warned:
                log.warning("other machines are not told that %s is in use here: %s", self._reference, error)
            return False
        return True


def _path(folder: str, name: str, version: str) -> str:
    """Where this process leaves a sign."""
    return f"{folder}/{name}@{version}/{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}.json"


def _write(remote: Remote, path: str, clock: Callable[[], datetime]) -> None:
    remote.write(path, json.dumps({"written": clock().isoformat()}).encode())
