"""Build a directory beside its destination and swap it in whole: a killed import leaves no half store."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from recsys.data.event_store import MANIFEST_FILE
from recsys.errors import StoreError


@contextmanager
def staged_directory(destination: Path, *, overwrite: bool) -> Iterator[Path]:
    """An empty directory beside `destination` that takes its place when the block ends without an error.

    Everything in it reaches the disk before it is renamed. An existing store is kept until then, and kept where the
    block fails; if the process dies between the two renames of a replacement, the old store is put back by the next
    import. StoreError: `destination` exists and `overwrite` was not asked for, or it is no event store, or another
    process is building it, or it cannot be written.
    """
    destination = Path(os.path.abspath(destination))  # noqa: PTH100 - a link at `destination` is to be replaced, not followed
    staging = destination.with_name(f".{destination.name}.importing")
    previous = destination.with_name(f".{destination.name}.previous")
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        lock = _lock(staging, destination)
    except OSError as error:
        raise _unwritable(destination, error) from error
    try:
        try:
            _recover(destination, previous)
            _require_replaceable(destination, overwrite=overwrite)
            _empty(staging)
            yield staging
            _require_replaceable(destination, overwrite=overwrite)
            _sync(staging)
            _swap(staging, destination, previous)
        except OSError as error:
            raise _unwritable(destination, error) from error
        finally:
            # After the swap there is nothing left under this name.
            shutil.rmtree(staging, ignore_errors=True)
    finally:
        os.close(lock)


def _unwritable(destination: Path, error: OSError) -> StoreError:
    return StoreError(
        f"cannot write event store {destination}: {error.strerror or error}; choose another destination or free space"
    )


def _lock(staging: Path, destination: Path) -> int:
    """Make `staging` and hold it; what a killed import left there is ours once nobody holds it."""
    while True:
        staging.mkdir(exist_ok=True)
        lock = os.open(staging, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between open and lock another import may have finished and renamed this very directory into place.
            if staging.exists() and staging.stat().st_ino == os.fstat(lock).st_ino:
                return lock
        except BlockingIOError:
            os.close(lock)
            raise StoreError(
                f"another import into {destination} is running; wait for it, or choose another destination"
            ) from None
        os.close(lock)


def _recover(destination: Path, previous: Path) -> None:
    if not previous.exists():
        return
    if destination.exists():
        shutil.rmtree(previous)
    else:
        previous.rename(destination)


def _require_replaceable(destination: Path, *, overwrite: bool) -> None:
    if not destination.exists() and not destination.is_symlink():
        return
    if destination.is_dir() and not any(destination.iterdir()):
        return
    if not (destination / MANIFEST_FILE).is_file():
        raise StoreError(f"{destination} exists and is not an event store; choose another destination")
    if not overwrite:
        raise StoreError(
            f"{destination} already holds an event store; replace it with --overwrite, or choose another destination"
        )


def _empty(directory: Path) -> None:
    for entry in directory.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _sync(directory: Path) -> None:
    for path in (*directory.iterdir(), directory):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _swap(staging: Path, destination: Path, previous: Path) -> None:
    if destination.exists() or destination.is_symlink():
        destination.rename(previous)
        try:
            staging.rename(destination)
        except OSError:
            previous.rename(destination)
            raise
    else:
        staging.rename(destination)
    parent = os.open(destination.parent, os.O_RDONLY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)
    # A symbolic link cannot be removed as a tree: it is only unlinked, and what it pointed at stays.
    if previous.is_symlink():
        previous.unlink()
    else:
        with suppress(OSError):
            shutil.rmtree(previous)
