"""Remember beside an event store which users were deleted, so that what still lies in it is never served again.

A file of JSON lines, `STORE.deletions.jsonl`, beside the directory and not in it: an import that replaces the store
brings the same log again, and the deletions must outlive that. Events of a user that are later than the deletion are
another matter: whoever comes back begins anew.
"""

import fcntl
import json
import os
from pathlib import Path

from recsys.errors import StoreError


class Deletions:
    """The deletions of one event store; many processes may add and read at the same time."""

    def __init__(self, store: Path | str) -> None:
        store = Path(os.path.abspath(store))  # noqa: PTH100 - beside the name that was given, where that is a link, too
        self._store = store
        self.path = store.with_name(f"{store.name}.deletions.jsonl")
        self._read_at: tuple[int, int] | None = None
        self._times_ms: dict[str, int] = {}

    def add(self, user_id: str, time_ms: int) -> None:
        """Note that events of `user_id` up to `time_ms` are deleted; on the disk when this returns."""
        line = json.dumps({"user_id": user_id, "time_ms": time_ms}, ensure_ascii=False)
        try:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                self._share(handle)
                # Half a line is what a writer left who was killed: under the lock, none is being written.
                whole = self.path.read_bytes().rfind(b"\n") + 1
                os.ftruncate(handle, whole)
                os.write(handle, f"{line}\n".encode())
                os.fsync(handle)
            finally:
                os.close(handle)
            parent = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(parent)
            finally:
                os.close(parent)
        except OSError as error:
            raise StoreError(f"cannot write {self.path}: {error.strerror or error}; free space there") from error

    def _share(self, handle: int) -> None:
        """Let those read and write the file who may do that with the store: who cannot read it can serve nothing."""
        own, like = os.fstat(handle), (self._store if self._store.exists() else self.path.parent).stat()
        mode, group = like.st_mode & 0o666, like.st_gid
        if own.st_uid != os.geteuid() or (own.st_mode & 0o777, own.st_gid) == (mode, group):
            return
        try:
            os.fchown(handle, like.st_uid if os.geteuid() == 0 else -1, group)
        except PermissionError:  # it is not in that group, and no other should read this
            mode &= 0o606
        os.fchmod(handle, mode)

    def time_of(self, user_id: str) -> int | None:
        """Until when the events of `user_id` are deleted, in milliseconds since the Unix epoch; None: they are not."""
        return self.times_ms.get(user_id)

    @property
    def times_ms(self) -> dict[str, int]:
        """Every deleted user, and until when."""
        try:
            state = self.path.stat()
        except FileNotFoundError:
            return {}
        if self._read_at != (state.st_mtime_ns, state.st_size):
            self._times_ms = _read(self.path)
            self._read_at = (state.st_mtime_ns, state.st_size)
        return self._times_ms


def _read(path: Path) -> dict[str, int]:
    times_ms: dict[str, int] = {}
    *lines, _ = path.read_bytes().split(b"\n")  # what follows the last line break is half a line
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            user_id, time_ms = str(row["user_id"]), int(row["time_ms"])
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{path}, line {number} is no deletion ({error}); mend or remove that line") from error
        times_ms[user_id] = max(time_ms, times_ms.get(user_id, time_ms))
    return times_ms
