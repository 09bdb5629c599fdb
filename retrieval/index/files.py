"""Keep an index as a directory whose every byte is checked before FAISS, whose reader trusts its input, sees one.

manifest.json   schema, facts, sha256 and size of every other file, sha256 of all this; replaced last, so that a state
                is there whole or not at all
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrieval.errors import IndexingError
from retrieval.files import digest, sync, write_whole

MANIFEST_FILE = "manifest.json"
SCHEMA_VERSION = 2


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a directory holds, every file checked."""

    directory: Path
    """Where the files are."""
    facts: dict[str, Any]
    """What the owner of the directory wrote."""
    roles: dict[str, str]
    """Role → file."""
    files: dict[str, dict[str, Any]]
    """File → sha256 and bytes."""

    def path(self, role: str) -> Path:
        """The file of a role; IndexingError where there is none."""
        if role not in self.roles:
            raise IndexingError(f"{self.directory / MANIFEST_FILE} names no file of {role}; build the index again")
        return self.directory / self.roles[role]


def write_manifest(
    directory: Path, roles: Mapping[str, str], facts: Mapping[str, Any], *, before: Manifest | None = None
) -> Manifest:
    """Make `roles` (role → file) the state of `directory`, and remove what belonged to the state before.

    Files that the state `before` had already are as they were, and not read again.
    """
    there = {} if before is None else before.files
    files = {file: there.get(file) or _synced(directory / file) for file in roles.values()}
    content = {"schema_version": SCHEMA_VERSION, "facts": dict(facts), "roles": dict(roles), "files": files}
    sync(directory)
    write_whole(directory / MANIFEST_FILE, json.dumps(sealed(content), indent=2) + "\n")
    for path in directory.iterdir():
        if path.is_file() and path.name != MANIFEST_FILE and path.name not in files:
            path.unlink()
    return Manifest(directory, dict(facts), dict(roles), files)


def read_manifest(directory: Path, *, only: Collection[str] | None = None) -> Manifest:
    """The manifest of `directory`, every file checked against it, or those of the roles `only`; IndexingError says
    which is missing or altered."""
    path = directory / MANIFEST_FILE
    try:
        content = json.loads(path.read_text())
        schema = content["schema_version"]
        if schema != SCHEMA_VERSION:
            raise IndexingError(f"{directory} has schema {schema}, this release reads {SCHEMA_VERSION}; build it again")
        facts, roles, files = dict(content["facts"]), dict(content["roles"]), dict(content["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IndexingError(f"{path} cannot be read: {error!r}; name the directory of an index") from error
    if sealed(content) != content:
        raise IndexingError(f"{path} is altered since it was written; restore it or build it again")
    for file in (*files, *roles.values()):
        if not isinstance(file, str) or Path(file).name != file:
            raise IndexingError(f"{path} names {file!r}, which is not in its own directory; build the index again")
        if file not in files:
            raise IndexingError(f"{path} names {file!r} and tells no hash of it; build the index again")
    checked = files if only is None else {file: files[file] for role, file in roles.items() if role in only}
    for file, expected in checked.items():
        found = digest(directory / file) if (directory / file).is_file() else None
        if found != expected:
            state = "missing" if found is None else "altered"
            raise IndexingError(f"{directory / file} is {state} since it was written; restore it or build it again")
    return Manifest(directory, facts, roles, files)


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """What a manifest says and, as `sha256`, the hash of that, however it is laid out."""
    said = {key: value for key, value in content.items() if key != "sha256"}
    return {**said, "sha256": hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()}


def _synced(path: Path) -> dict[str, Any]:
    sync(path)
    return digest(path)
