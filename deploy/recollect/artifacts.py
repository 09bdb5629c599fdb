"""Keep versions of models and indexes: publish whole directories, label them atomically, check every byte before use.

var/models/<name>/<version>/…           the model directory, never changed once it is there
var/models/<name>/<version>/manifest.json   sha256 and size of every file, parents, time
var/models/<name>/labels/<label>        one line: the version that the label points at
var/indexes/…                           the same for indexes
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recollect.errors import ArtifactError

MANIFEST_FILE = "manifest.json"
SCHEMA_VERSION = 1
STABLE = "stable"
"""The label that serving follows when nothing else is said."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Artifact:
    """One version of something, its bytes checked."""

    name: str
    """What it is, "dare" for instance; a directory outside a store goes by its own name."""
    version: str
    """Which one; "unversioned" for a directory outside a store."""
    directory: Path
    """Where its files are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ArtifactKind:
    """What a store keeps, as its messages say it."""

    noun: str
    """What one is called."""
    remedy: str
    """How to come by one."""


MODELS = ArtifactKind(noun="model", remedy="train one with `recollect train` or name a model directory")
GALLERIES = ArtifactKind(noun="gallery", remedy="make one with `recollect composed index`")


class ArtifactStore:
    """Versions of artifacts under `root`."""

    def __init__(
        self,
        root: Path,
        *,
        kind: ArtifactKind = MODELS,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.root = root
        self._kind = kind
        self._clock = clock

    def publish(
        self, name: str, source: Path, *, parents: Mapping[str, Any] | None = None, move: bool = False
    ) -> Artifact:
        """Copy `source`, the folders in it included, in as a new version of `name`; it appears whole or not at all.

        The version is the time of publishing and the first digits of its content's hash. Content that is there
        already keeps its version. `move` takes the files away from `source`, which must be on the same file system.
        """
        _check_name("artifact name", name)
        paths = sorted(path for path in source.rglob("*") if path.is_file() and path != source / MANIFEST_FILE)
        files = {path.relative_to(source).as_posix(): _digest(path) for path in paths}
        if not files:
            raise ArtifactError(f"{source} holds no files to publish")
        content = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
        directory = self.root / name
        for version in self.versions(name):
            if version.endswith(content[:8]) and _manifest(directory / version)["files"] == files:
                return Artifact(name=name, version=version, directory=directory / version)
        version = f"{self._clock():%Y%m%dT%H%M%S}-{content[:8]}"
        partial = directory / f".{version}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for file in files:
            (partial / file).parent.mkdir(parents=True, exist_ok=True)
            if move:
                (source / file).rename(partial / file)
            else:
                shutil.copyfile(source / file, partial / file)
            _sync(partial / file)
        for folder in {(partial / file).parent for file in files}:
            _sync(folder)
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "name": name,
            "version": version,
            "created": self._clock().isoformat(timespec="seconds"),
            "parents": dict(parents or {}),
            "files": files,
        }
        (partial / MANIFEST_FILE).write_text(json.dumps(manifest, indent=2) + "\n")
        _sync(partial / MANIFEST_FILE)
        partial.rename(directory / version)
        _sync(directory)
        return Artifact(name=name, version=version, directory=directory / version)

    def names(self) -> list[str]:
        """Names of which there is a version, in their order."""
        found = {path.parents[1].name for path in self.root.glob(f"*/*/{MANIFEST_FILE}")}
        return sorted(name for name in found if _NAME.fullmatch(name) and self.versions(name))

    def versions(self, name: str) -> list[str]:
        """Versions of `name`, oldest first."""
        found = (self.root / name).glob(f"*/{MANIFEST_FILE}")
        return sorted(path.parent.name for path in found if not path.parent.name.startswith("."))

    def set_label(self, name: str, label: str, version: str) -> None:
        """Point `label` at `version`, in one step that readers see before or after, never between."""
        _check_name("label", label)
        if version not in self.versions(name):
            raise ArtifactError(self._unknown(name, version))
        path = self.root / name / "labels" / label
        path.parent.mkdir(exist_ok=True)
        partial = path.with_name(f".{label}.partial")
        partial.write_text(f"{version}\n")
        _sync(partial)
        partial.replace(path)
        _sync(path.parent)

    def labelled(self, name: str, label: str) -> str | None:
        """The version that `label` points at, None where there is none: one small file, read anew each time."""
        if not (_NAME.fullmatch(name) and _NAME.fullmatch(label)):
            return None
        try:
            return (self.root / name / "labels" / label).read_text().strip()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def labels(self, name: str) -> dict[str, str]:
        """Label → version."""
        found = (path for path in (self.root / name / "labels").glob("*") if not path.name.startswith("."))
        return {path.name: path.read_text().strip() for path in sorted(found)}

    def resolve(self, reference: str) -> Artifact:
        """The artifact behind "name@label", "name/version" or the path of a directory, every hash checked.

        A directory without a manifest, such as a run's own model, has no hashes to check. Raises ArtifactError that
        says what exists.
        """
        if "@" in reference and not Path(reference).exists():
            name, label = reference.split("@", 1)
            labels = self.labels(name)
            if label not in labels:
                have = ", ".join(f"{name}@{known}" for known in labels) or f"no label of {name!r}"
                raise ArtifactError(
                    f"no {self._kind.noun} {reference!r} in {self.root}: there is {have}; {self._kind.remedy}"
                )
            reference = f"{name}/{labels[label]}"
        inside = self.root / reference
        if _is_version(reference) and (inside / MANIFEST_FILE).exists():
            name, version = reference.split("/")
            self._verify(inside)
            return Artifact(name=name, version=version, directory=inside)
        path = Path(reference)
        if path.is_dir():
            if (path / MANIFEST_FILE).exists():
                manifest = self._verify(path)
                return Artifact(name=manifest["name"], version=manifest["version"], directory=path)
            return Artifact(name=path.resolve().name, version="unversioned", directory=path)
        if _is_version(reference):
            name, version = reference.split("/")
            raise ArtifactError(self._unknown(name, version))
        raise ArtifactError(f"{reference!r} is neither name@label, name/version nor a directory")

    def _verify(self, directory: Path) -> dict[str, Any]:
        manifest = _manifest(directory)
        for file, expected in manifest["files"].items():
            path = directory / file
            found = _digest(path) if path.is_file() else None
            if found != expected:
                state = "missing" if found is None else "altered"
                raise ArtifactError(f"{path} is {state} since it was published; restore it or use another version")
        return manifest

    def _unknown(self, name: str, version: str) -> str:
        have = ", ".join(self.versions(name)) or "none"
        return f"no version {version!r} of {name!r} in {self.root}; versions there: {have}"


def _is_version(reference: str) -> bool:
    parts = reference.split("/")
    return len(parts) == 2 and all(_NAME.fullmatch(part) for part in parts)


def _check_name(what: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ArtifactError(
            f"{what} must be 1 to 100 letters, digits, '.', '_' or '-', and start with a letter or digit; got {name!r}"
        )


def _manifest(directory: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((directory / MANIFEST_FILE).read_text())
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{directory / MANIFEST_FILE} cannot be read: {error}") from error
    if manifest.get("schema_version") != SCHEMA_VERSION:
        raise ArtifactError(
            f"{directory} has manifest schema {manifest.get('schema_version')}, this release reads {SCHEMA_VERSION}"
        )
    return manifest


def _digest(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "bytes": path.stat().st_size}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
