"""What a version consists of: every file with its hash and size, as its manifest says and its name repeats."""

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import Any

from recollect.errors import ArtifactError, VersionDamaged

MANIFEST_FILE = "manifest.json"
SCHEMA_VERSION = 1
CONTENT_DIGITS = 8
"""Digits of the content's hash that end the name of a version."""
Manifest = dict[str, Any]
"""Its `files` are path → sha256 and bytes."""


def content_of(files: dict[str, Any]) -> str:
    """The hash of all hashes."""
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def as_text(manifest: Manifest) -> str:
    """What a manifest's file contains."""
    return json.dumps(manifest, indent=2) + "\n"


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a version; VersionDamaged where it cannot be read."""
    try:
        manifest: Manifest = json.loads((directory / MANIFEST_FILE).read_text())
    except (OSError, ValueError) as error:
        raise VersionDamaged(f"{directory / MANIFEST_FILE} cannot be read: {error}; use another version") from error
    if manifest.get("schema_version") != SCHEMA_VERSION:
        raise ArtifactError(
            f"{directory} has manifest schema {manifest.get('schema_version')}, this release reads {SCHEMA_VERSION}"
        )
    return manifest


def parse_manifest(data: bytes, name: str, version: str, where: str) -> Manifest:
    """The manifest of a version that another machine has made; ArtifactError where it is torn, altered, or would have
    files written outside of the version's directory."""
    try:
        manifest = json.loads(data)
        schema = manifest["schema_version"]
        if schema != SCHEMA_VERSION:
            raise ArtifactError(f"{where} has manifest schema {schema}, this release reads {SCHEMA_VERSION}")
        files = {str(path): (str(entry["sha256"]), int(entry["bytes"])) for path, entry in manifest["files"].items()}
        same = (manifest["name"], manifest["version"]) == (name, version)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"the manifest of {where} is torn; publish it again or use another version") from error
    if not same or not files or content_of(manifest["files"])[:CONTENT_DIGITS] != version[-CONTENT_DIGITS:]:
        raise ArtifactError(
            f"the manifest of {where} is altered since it was published; restore it or use another version"
        )
    strange = next((path for path in files if not _stays_inside(path)), None)
    if strange is not None:
        raise ArtifactError(f"the manifest of {where} names {strange!r}, which is not a file of a version")
    return manifest  # type: ignore[no-any-return]


def bytes_of(manifest: Manifest) -> int:
    """Size of all files."""
    return sum(int(entry["bytes"]) for entry in manifest["files"].values())


def _stays_inside(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return bool(parts) and ".." not in parts and parts[0] != "/" and "\\" not in path and path != MANIFEST_FILE
