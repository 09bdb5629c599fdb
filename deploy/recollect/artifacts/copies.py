"""Copy versions between a machine and the place where machines share them: whole, checked, going on after a kill."""

import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from recollect.artifacts.holds import hold
from recollect.artifacts.manifests import (
    MANIFEST_FILE,
    Manifest,
    as_text,
    bytes_of,
    parse_manifest,
    read_manifest,
)
from recollect.artifacts.remote import Remote
from recollect.artifacts.signs import uploading
from recollect.artifacts.transfers import Transfer
from recollect.errors import ArtifactError, RemoteError
from retrieval.files import digest, sync

SHARED = "shared"
"""Entry of a shared manifest: when the version was uploaded, ISO 8601."""


def shared_manifest(remote: Remote, name: str, version: str) -> Manifest | None:
    """The manifest as it is there now, None where there is none; RemoteError where it is torn or altered."""
    data = remote.read(f"{name}/{version}/{MANIFEST_FILE}")
    try:
        return None if data is None else parse_manifest(data, name, version, f"{remote.shown}/{name}/{version}")
    except ArtifactError as error:
        raise RemoteError(str(error)) from error


def upload(remote: Remote, directory: Path, name: str, version: str, clock: Callable[[], datetime]) -> None:
    """Share the version in `directory`: its files, and when all of them are there its manifest.

    What a killed upload has left there in its size is taken as it is: an upload of the same version has put it there.
    """
    manifest = read_manifest(directory)
    files, base = manifest["files"], f"{name}/{version}"
    with hold(directory), uploading(remote, name, version, clock):
        there = remote.list(base)
        transfer = Transfer(f"sharing {base}", bytes_of(manifest))
        for file, entry in files.items():
            if there.get(f"{base}/{file}") != entry["bytes"]:
                remote.upload(directory / file, f"{base}/{file}", transfer)
            transfer.finished(entry["bytes"])
        require_all(remote, name, version, manifest)
        shared = {**manifest, SHARED: clock().isoformat(timespec="seconds")}
        remote.write(f"{base}/{MANIFEST_FILE}", as_text(shared).encode())


def require_all(remote: Remote, name: str, version: str, manifest: Manifest) -> None:
    """RemoteError where a file is missing there or has another size than its manifest says."""
    there = remote.list(f"{name}/{version}")
    for file, entry in manifest["files"].items():
        path = f"{name}/{version}/{file}"
        if path not in there or there[path] not in (entry["bytes"], None):
            found = f"has {there[path]:,} bytes" if path in there else "is missing"
            raise RemoteError(
                f"{remote.shown}/{path} {found} and should have {entry['bytes']:,}; restore it or use another version"
            )


def is_whole(remote: Remote, name: str, version: str, manifest: Manifest) -> bool:
    """Whether all files are there, in the size that its manifest says."""
    try:
        require_all(remote, name, version, manifest)
    except RemoteError:
        return False
    return True


def fetch(remote: Remote, partial: Path, name: str, version: str, manifest: Manifest) -> None:
    """Have the files of `manifest` in `partial`, checked; what a killed process has fetched is used.

    RemoteError where a file is missing or altered there, OSError where there is no room.
    """
    require_all(remote, name, version, manifest)
    partial.mkdir(parents=True, exist_ok=True)
    files = manifest["files"]
    whole = {file for file in files if (partial / file).is_file() and digest(partial / file) == files[file]}
    for path in [each for each in partial.rglob("*") if each.is_file()]:
        if path.relative_to(partial).as_posix() not in whole:
            path.unlink()
    wanted, free = sum(files[file]["bytes"] for file in files if file not in whole), shutil.disk_usage(partial).free
    if wanted > free:
        raise OSError(f"it takes {wanted / 1e6:,.1f} MB more, and {free / 1e6:,.1f} MB are free")
    transfer = Transfer(f"fetching {name}/{version}", bytes_of(manifest))
    for file, expected in files.items():
        if file not in whole:
            _fetch_file(remote, f"{name}/{version}/{file}", partial / file, expected, transfer)
        transfer.finished(expected["bytes"])
    for folder in {(partial / file).parent for file in files}:
        sync(folder)


def _fetch_file(remote: Remote, path: str, file: Path, expected: dict[str, Any], transfer: Transfer) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    remote.download(path, file, transfer)
    if digest(file) != expected:
        file.unlink()
        raise RemoteError(f"{remote.shown}/{path} is altered since it was published; restore it or use another version")
    sync(file)
