"""Remove what no machine needs: never what a label points at or could be rolled back to, a process holds, or is young.

No machine can lock out the others. So a version's manifest goes first, which makes it none any more; then labels and
holds are read once more, and who began to need it meanwhile gets the manifest back. Who moves a label looks whether the
version is still there after that. One of both sees the other.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime

from recollect.artifacts.copies import SHARED
from recollect.artifacts.labels import Labels
from recollect.artifacts.manifests import MANIFEST_FILE, Manifest
from recollect.artifacts.remote import Remote
from recollect.artifacts.removal import Removed, needed_versions
from recollect.artifacts.signs import HOLDS, UPLOADS, VALID, signs


def remove_shared(
    remote: Remote, name: str, labels: Labels, versions: Mapping[str, Manifest], *, keep: int, now: datetime
) -> Removed:
    """Remove of `versions`, oldest first, those that nobody needs, and what killed uploads left.

    Other versions of the name, of another kind for instance, stay.
    """
    # Before the files: who finishes an upload meanwhile has its manifest among them.
    uploads, holds = signs(remote, UPLOADS, name, now), signs(remote, HOLDS, name, now)
    files = _by_version(remote, name)
    with labels.changing():
        needed = needed_versions(labels, [*versions], keep)
    needed |= {version for version, manifest in versions.items() if _is_young(manifest, now)}
    gone, held, freed, leftovers = [], [], 0, 0
    for version in versions:
        if version in needed or version not in files:
            continue
        manifest = remote.read(f"{name}/{version}/{MANIFEST_FILE}")
        if manifest is None:
            continue  # another machine has withdrawn it, and may have to give it back
        if version in holds.valid or not _withdrawn(remote, name, version, manifest, labels, now):
            held.append(version)
            continue
        freed += _remove(remote, name, version, files[version])
        gone.append(version)
    for version, there in files.items():
        if version in versions or version in uploads.valid or _has_manifest(remote, name, version, there):
            continue
        if version not in signs(remote, UPLOADS, name, now).valid:
            freed += _remove(remote, name, version, there)
            leftovers += 1
    remote.remove([*uploads.expired, *holds.expired])
    remote.remove_partial(now - VALID)
    return Removed(versions=tuple(gone), held=tuple(held), leftovers=leftovers, bytes=freed)


def _by_version(remote: Remote, name: str) -> dict[str, dict[str, int]]:
    """Version → file → bytes."""
    files: dict[str, dict[str, int]] = defaultdict(dict)
    for path, size in remote.list(name).items():
        _, version, file = path.split("/", 2) if path.count("/") > 1 else ("", "", "")
        if version:
            files[version][file] = size or 0
    return files


def _has_manifest(remote: Remote, name: str, version: str, files: Mapping[str, int]) -> bool:
    """Whether it is a version, of whatever kind or release; part of a manifest is none."""
    data = remote.read(f"{name}/{version}/{MANIFEST_FILE}") if MANIFEST_FILE in files else None
    try:
        return isinstance(json.loads(data or b""), dict)
    except ValueError:
        return False


def _is_young(manifest: Manifest, now: datetime) -> bool:
    """Whether its label may yet be on the way."""
    try:
        return datetime.fromisoformat(manifest[SHARED]) > now - VALID
    except (KeyError, ValueError, TypeError):
        return False


def _withdrawn(remote: Remote, name: str, version: str, manifest: bytes, labels: Labels, now: datetime) -> bool:
    """Make it no version any more, unless someone begins to need it: then it gets its `manifest` back."""
    path = f"{name}/{version}/{MANIFEST_FILE}"
    remote.remove([path])
    if version in labels.all().values() or version in signs(remote, HOLDS, name, now).valid:
        remote.write(path, manifest)
        return False
    return True


def _remove(remote: Remote, name: str, version: str, files: Mapping[str, int]) -> int:
    remote.remove([f"{name}/{version}/{file}" for file in files])
    for folder in (f"{name}/{version}", f"{HOLDS}/{name}@{version}", f"{UPLOADS}/{name}@{version}"):
        remote.remove_folders(folder)
    return sum(files.values())
