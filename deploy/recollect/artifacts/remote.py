"""Reach the place where machines share versions: any URL that fsspec knows, or a directory that all of them mount.

What is asked of a file system is little: list, read, write, create, remove. What one cannot do is said here once:

- An object that is written appears whole on object stores and in directories. Elsewhere (SFTP, FTP) a writer that dies
  leaves part of it, so that readers must know a whole one by its content.
- `create` is exact in directories, and on object stores that know conditional writes (S3, Google Cloud, Azure).
  Elsewhere two machines that create the same object at the same moment may both be told that they did.
"""

import contextlib
import errno
import os
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from recollect.artifacts.transfers import Transfer
from recollect.errors import RemoteError, SetupError
from retrieval.files import sync

T = TypeVar("T")
_PARTIAL = ".partial"
"""Folder of a directory in which files are written that then get their names."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Remote:
    """Files below one URL. Used by several threads and, after a fork, by several processes."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._kept = threading.local()

    @property
    def shown(self) -> str:
        """The URL as people and logs may see it: without a password."""
        return re.sub(r"(?<=://)([^/@:]*):[^/@]*@", r"\1:…@", self.url)

    def list(self, below: str = "") -> dict[str, int | None]:
        """Path → bytes of every file in a folder and those in it; none where there is no such folder. Some file systems
        don't know sizes."""

        def find(fs: Any, path: str) -> dict[str, Any]:
            fs.invalidate_cache()
            found: dict[str, Any] = fs.find(path, detail=True)
            return found

        try:
            found = self._ask("list", below, find)
        except FileNotFoundError:
            self._require_bucket()
            return {}
        if not found:
            self._require_mounted()
        root = self._root()
        return {
            path.removeprefix(root).lstrip("/"): facts.get("size")
            for path, facts in found.items()
            if facts.get("type", "file") == "file"
        }

    def read(self, path: str) -> bytes | None:
        """What is in a small file; None where there is none."""
        try:
            return self._ask("read", path, lambda fs, full: bytes(fs.cat_file(full)))
        except FileNotFoundError:
            return None

    def read_all(self, paths: Sequence[str]) -> dict[str, bytes]:
        """Small files, as many at once as the file system can; those that are not there are left out."""
        if not paths:
            return {}
        full = {self._full(path): path for path in paths}

        def read(fs: Any, _path: str) -> dict[str, Any]:
            read: dict[str, Any] = fs.cat([*full], on_error="return")
            return read

        found = {}
        for path, data in self._ask("read", paths[0], read).items():
            if isinstance(data, FileNotFoundError):
                continue
            if isinstance(data, Exception):
                raise self._error("read", full[path], data) from data
            found[full[path]] = data
        return found

    def write(self, path: str, data: bytes) -> None:
        """Put `data` there, whatever was there before."""
        folder = self._directory()
        if folder is None:
            self._put("write", path, lambda fs, full: fs.pipe_file(full, data))
            return
        self._require_mounted()
        with self._local_errors("write", path):
            _written(folder, path, data).replace(folder / path)
            sync((folder / path).parent)

    def create(self, path: str, data: bytes) -> bool:
        """Put `data` there if nothing is, and say whether that is so; `data` must be like nobody else's."""
        folder = self._directory()
        if folder is not None:
            self._require_mounted()
            with self._local_errors("write", path):
                _link(folder, path, data)
            return self.read(path) == data
        try:
            self._put("write", path, lambda fs, full: fs.pipe_file(full, data, mode="create"))
        except FileExistsError:
            pass
        except RemoteError:
            # Two at the same moment are refused in several ways; what is there says which it was.
            if self.read(path) is None:
                raise
        # A write whose answer was lost was repeated, and refused because of itself.
        return self.read(path) == data

    def upload(self, file: Path, path: str, transfer: Transfer) -> None:
        """Copy a file of this machine there."""
        self._require_mounted()
        self._put("write", path, lambda fs, full: fs.put_file(str(file), full, callback=transfer.file()))
        folder = self._directory()
        if folder is not None:
            sync(folder / path)

    def download(self, path: str, file: Path, transfer: Transfer) -> None:
        """Copy a file from there; RemoteError where there is none, OSError where this machine has no room for it."""
        try:
            self._ask("read", path, lambda fs, full: fs.get_file(full, str(file), callback=transfer.file()))
        except FileNotFoundError as error:
            self._require_bucket()
            raise RemoteError(f"{self.shown}/{path} is missing; restore it or use another version") from error

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files; those that are not there any more are no error."""
        for path in paths:
            try:
                self._ask("remove", path, lambda fs, full: fs.rm_file(full))
            except FileNotFoundError:
                continue
            except RemoteError:
                if self._ask("list", path, _exists):
                    raise

    def remove_folders(self, below: str) -> None:
        """Remove a folder and those in it, all of them empty, where a file system has such; what cannot be stays."""

        def remove(fs: Any, full: str) -> None:
            for path in sorted(fs.find(full, withdirs=True), reverse=True):
                fs.rmdir(path)
            fs.rmdir(full)

        if not self._is_object_store():
            with contextlib.suppress(RemoteError, FileNotFoundError):
                self._ask("remove", below, remove)

    def remove_partial(self, before: datetime) -> None:
        """Remove what killed writers left in a directory and nobody has touched since."""
        folder = self._directory()
        if folder is not None:
            with self._local_errors("remove", _PARTIAL):
                for path in (folder / _PARTIAL).glob("*"):
                    with contextlib.suppress(FileNotFoundError):  # its writer is done with it
                        if path.stat().st_mtime < before.timestamp():
                            path.unlink()

    def _put(self, what: str, path: str, action: Callable[[Any, str], Any]) -> None:
        """Write, and make the folder where the file system wants one; a bucket is never made."""
        try:
            self._ask(what, path, action)
            return
        except FileNotFoundError:
            self._require_bucket()
        except RemoteError:
            if self._is_object_store():
                raise
        try:
            parent = path.rpartition("/")[0]
            self._ask(what, parent, lambda fs, full: fs.makedirs(full, exist_ok=True))
            self._ask(what, path, action)
        except FileNotFoundError as error:
            raise self._error(what, path, error) from error

    def _ask(self, what: str, path: str, action: Callable[[Any, str], T]) -> T:
        """What `action` makes of the file system and the whole path; RemoteError says what was wrong.

        FileNotFoundError and FileExistsError go through, as does the OSError of a disk of ours that is full.
        """
        kept = getattr(self._kept, "opened", None) is not None
        for again in (True, False) if kept else (False,):
            try:
                fs, root = self._opened()
                return action(fs, _joined(root, path))
            except (FileNotFoundError, FileExistsError, SetupError, RemoteError):
                raise
            except Exception as error:
                # Each implementation has exceptions of its own; what all have in common is that they end up here.
                if isinstance(error, OSError) and error.errno in _NO_ROOM and what == "read":
                    raise
                self._kept.opened = None
                # A connection that was kept may be one that the server has closed meanwhile.
                if not again or isinstance(error, PermissionError) or getattr(fs, "async_impl", False):
                    raise self._error(what, path, error) from error
        raise AssertionError("the last try returns or raises")

    def _opened(self) -> tuple[Any, str]:
        """The file system, and where we are in it; one a thread, since few can be shared."""
        kept: tuple[int, Any, str] | None = getattr(self._kept, "opened", None)
        if kept is None or kept[0] != os.getpid():
            from fsspec.core import url_to_fs

            try:
                fs, path = url_to_fs(self.url)
            except (ImportError, ValueError) as error:
                raise SetupError(f"artifacts at {self.shown} cannot be used: {error}") from error
            except Exception as error:
                raise self._error("reach", "", error) from error
            kept = self._kept.opened = (os.getpid(), fs, fs._strip_protocol(path))
        return kept[1], kept[2]

    def _root(self) -> str:
        return self._opened()[1]

    def _full(self, path: str) -> str:
        return _joined(self._root(), path)

    def _directory(self) -> Path | None:
        """Where we are, if it is a directory of this machine or one that it mounts."""
        from fsspec.implementations.local import LocalFileSystem

        fs, root = self._opened()
        return Path(root) if isinstance(fs, LocalFileSystem) else None

    def _is_object_store(self) -> bool:
        """Whether it knows objects and no folders, as far as fsspec tells: what speaks HTTP is such."""
        from fsspec.implementations.dirfs import DirFileSystem

        fs = self._opened()[0]
        while isinstance(fs, DirFileSystem):
            fs = fs.fs
        return bool(getattr(fs, "async_impl", False))

    def _require_mounted(self) -> None:
        """RemoteError where the folder that we are in is missing: it is never made, since it may not be mounted."""
        folder = self._directory()
        if folder is not None and not folder.parent.is_dir():
            raise RemoteError(f"{self.shown}: there is no folder {folder.parent}; mount it, make it, or correct it")

    def _require_bucket(self) -> None:
        """RemoteError where not even the bucket, or the outermost folder, is there: it is never made."""
        self._require_mounted()
        root = self._root()
        first = root.strip("/").split("/")[0]
        absolute = root.startswith("/")
        if not first or not (absolute or self._is_object_store()):
            return
        outermost = f"/{first}" if absolute else first
        if not self._ask("list", "", lambda fs, _full: _exists(fs, outermost)):
            raise RemoteError(f"{self.shown}: there is no bucket or folder {outermost!r}; make it, or correct the URL")

    def _local_errors(self, what: str, path: str) -> "_Explained":
        return _Explained(self, what, path)

    def _error(self, what: str, path: str, error: Exception) -> RemoteError:
        place = f"{self.shown}/{path}" if path else self.shown
        told = f"{type(error).__name__}: {error}".rstrip(": ")
        if isinstance(error, PermissionError):
            return RemoteError(f"no right to {what} {place}; check the credentials and what they may do ({told})")
        return RemoteError(f"cannot {what} {place}: {told}")


class _Explained:
    """Turns what a directory's own calls raise into RemoteError."""

    def __init__(self, remote: Remote, what: str, path: str) -> None:
        self._remote, self._what, self._path = remote, what, path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise self._remote._error(self._what, self._path, error) from error


def _exists(fs: Any, full: str) -> bool:
    fs.invalidate_cache()
    return bool(fs.exists(full))


def _joined(root: str, path: str) -> str:
    return f"{root.rstrip('/')}/{path}".rstrip("/") if path and root else (path or root)


def _written(folder: Path, path: str, data: bytes) -> Path:
    """`data` on the disk, where nobody looks for it, and the folder made that it is for."""
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    partial = folder / _PARTIAL / uuid4().hex
    partial.parent.mkdir(exist_ok=True)
    partial.write_bytes(data)
    sync(partial)
    return partial


def _link(folder: Path, path: str, data: bytes) -> None:
    """`data` at `path`, whole from the first moment, unless something is there."""
    partial = _written(folder, path, data)
    with contextlib.suppress(FileExistsError):
        (folder / path).hardlink_to(partial)
    partial.unlink()
    sync((folder / path).parent)
