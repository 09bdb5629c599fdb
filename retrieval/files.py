"""Have files on the disk whole: a reader finds the old one or the new one, never half; and know them by hash or key."""

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any


def write_whole(path: Path, text: str) -> None:
    """Replace `path` by `text`, UTF-8, once all of it is on the disk; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    sync(partial)
    partial.replace(path)
    sync(path.parent)


def link_or_copy(source: Path, target: Path) -> None:
    """Have `source` as `target` too: as a hard link, or a copy where the file system has none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def sync(path: Path) -> None:
    """Have a file or directory on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_key(path: Path) -> str:
    """Another one for a file that was written anew, or that is at another place; nothing of it is read."""
    try:
        state = path.stat()
    except OSError:
        return f"{path} missing"
    return f"{path} {state.st_size} {state.st_mtime_ns}"


def digest(path: Path) -> dict[str, Any]:
    """sha256 and size of a file."""
    with path.open("rb") as file:
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "bytes": path.stat().st_size}


def size_of(directory: Path, *, alone: bool = False) -> int:
    """Bytes of all files in a directory and those in it; with `alone`, of those that have no hard link elsewhere."""
    files = [path.stat() for path in directory.rglob("*") if path.is_file()]
    return sum(file.st_size for file in files if not alone or file.st_nlink == 1)
