"""Keep event stores where machines share them, and have a local copy of one, since training maps its files into memory.

At its URL, an event store has the files that it has in a directory and `files.json`, which is written last: sha256 and
bytes of each. A copy is named by what is in it, so that one that has changed at its URL is fetched beside the old one.
"""

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

from recollect.artifacts.locks import alone
from recollect.artifacts.remote import Remote
from recollect.artifacts.transfers import Transfer
from recollect.errors import RemoteError
from recsys.data.event_store import EventStore
from retrieval.files import digest, sync

FILES_FILE = "files.json"
_Files = dict[str, dict[str, Any]]


def is_url(source: str) -> bool:
    """Whether `source` is a URL as fsspec has them, rather than a path of this machine."""
    return "://" in source or "::" in source


def upload_store(directory: Path, url: str) -> int:
    """Share the event store in `directory` at `url`, in place of what is there; returns its bytes.

    Raises StoreError for a directory that holds none, RemoteError where the place refuses.
    """
    EventStore(directory)
    remote = Remote(url)
    files = {path.name: digest(path) for path in sorted(directory.iterdir()) if path.is_file()}
    files.pop(FILES_FILE, None)
    total = sum(int(entry["bytes"]) for entry in files.values())
    transfer = Transfer(f"uploading {directory.name}", total)
    remote.remove([FILES_FILE])  # until everything is there, nothing is
    for name, entry in files.items():
        remote.upload(directory / name, name, transfer)
        transfer.finished(entry["bytes"])
    remote.write(FILES_FILE, (json.dumps(files, indent=2) + "\n").encode())
    return total


def fetched_store(url: str, folder: Path) -> Path:
    """A directory in `folder` with the event store at `url`: fetched, its hashes checked, unless it was before.

    Goes on with what a killed process has fetched. Raises RemoteError where there is none, or where a file is missing
    or altered; AlreadyRunning where another process fetches the same; OSError where there is no room.
    """
    remote = Remote(url)
    files = _files_at(remote)
    content = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:8]
    directory = folder / f"{_name_of(url)}-{content}"
    if directory.is_dir():
        return directory
    partial = directory.with_name(f".{directory.name}.partial")
    folder.mkdir(parents=True, exist_ok=True)
    with alone(partial.with_suffix(".lock"), f"another process is fetching {remote.shown}"):
        if not directory.is_dir():
            _fetch(remote, files, partial)
            partial.rename(directory)
            sync(folder)
    return directory


def _fetch(remote: Remote, files: _Files, partial: Path) -> None:
    partial.mkdir(exist_ok=True)
    whole = {name for name, expected in files.items() if _is(partial / name, expected)}
    wanted = sum(entry["bytes"] for name, entry in files.items() if name not in whole)
    free = shutil.disk_usage(partial).free
    if wanted > free:
        raise OSError(f"{remote.shown} takes {wanted / 1e6:,.1f} MB more, and {free / 1e6:,.1f} MB are free")
    transfer = Transfer(f"fetching {remote.shown}", sum(entry["bytes"] for entry in files.values()))
    for name, expected in files.items():
        if name not in whole:
            remote.download(name, partial / name, transfer)
            if not _is(partial / name, expected):
                (partial / name).unlink()
                raise RemoteError(
                    f"{remote.shown}/{name} is not what was uploaded; `recollect data upload` the store again"
                )
            sync(partial / name)
        transfer.finished(expected["bytes"])


def _files_at(remote: Remote) -> _Files:
    data = remote.read(FILES_FILE)
    if data is None:
        raise RemoteError(
            f"no event store at {remote.shown}: {FILES_FILE} is missing; put one there with "
            f"`recollect data upload STORE {remote.shown}`"
        )
    try:
        files = {
            str(name): {"sha256": str(entry["sha256"]), "bytes": int(entry["bytes"])}
            for name, entry in json.loads(data).items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RemoteError(
            f"{remote.shown}/{FILES_FILE} is torn ({error}); `recollect data upload` the store again"
        ) from error
    strange = next((name for name in files if not re.fullmatch(r"\w[\w.-]*", name)), None)
    if strange is not None:
        raise RemoteError(f"{remote.shown}/{FILES_FILE} names {strange!r}, which is not a file of an event store")
    return files


def _is(path: Path, expected: dict[str, Any]) -> bool:
    return path.is_file() and path.stat().st_size == expected["bytes"] and digest(path) == expected


def _name_of(url: str) -> str:
    """The last part of its path, as far as a directory can be called so."""
    leads = next((part for part in url.split("::") if "://" in part), url)
    return re.sub(r"[^\w-]+", "-", leads.rstrip("/").rpartition("/")[2]).strip("-") or "store"
