"""Keep versions of models and indexes: publish whole directories, label them atomically, check every byte before use.

var/models/<name>/<version>/…               the model directory, never changed once it is there
var/models/<name>/<version>/manifest.json   sha256 and size of every file, parents, time
var/models/<name>/labels/<label>            see `recollect.artifacts.labels`
var/indexes/…                               the same for indexes and galleries
var/catalogues/…                            the same for catalogues
"""

import contextlib
import shutil
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recollect.artifacts.holds import Hold, hold
from recollect.artifacts.kinds import MODELS, NAME, Artifact, ArtifactKind, check_name
from recollect.artifacts.labels import ROLLBACK, LabelChange, Labels, LocalLabels
from recollect.artifacts.locks import locked
from recollect.artifacts.manifests import (
    CONTENT_DIGITS,
    MANIFEST_FILE,
    SCHEMA_VERSION,
    Manifest,
    content_of,
    read_manifest,
)
from recollect.artifacts.placing import kept, lacking, put_in_place
from recollect.artifacts.removal import PARTIAL_SUFFIX, PUBLISHING_LOCK, Removed, remove_unneeded
from recollect.errors import ArtifactError, VersionDamaged
from recollect.timed_names import second_after
from retrieval.files import digest, size_of, sync


class ArtifactStore:
    """Versions of artifacts under `root`."""

    is_shared = False
    """Whether other machines see the versions."""

    def __init__(
        self,
        root: Path,
        *,
        kind: ArtifactKind = MODELS,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.root = root
        self.kind = kind
        self._clock = clock

    def publish(
        self, name: str, source: Path, *, parents: Mapping[str, Any] | None = None, move: bool = False
    ) -> Artifact:
        """Copy `source`, the folders in it included, in as a new version of `name`; it appears whole or not at all.

        The version is the time of publishing and the first digits of its content's hash; it sorts behind those that
        are here. Content that is there already keeps its version, whose files are mended where they are missing or
        altered. `move` takes the files that are needed away from `source`, which must be on the same file system.
        """
        self.require_kind(name)
        paths = sorted(path for path in source.rglob("*") if path.is_file() and path != source / MANIFEST_FILE)
        files = {path.relative_to(source).as_posix(): digest(path) for path in paths}
        if not files:
            raise ArtifactError(f"{source} holds no files to publish")
        directory = self.root / name
        with locked(directory / PUBLISHING_LOCK):
            manifest = self._manifest_of(name, files) or self._new_manifest(name, files, parents)
            version = manifest["version"]
            artifact = Artifact(name=name, version=version, directory=directory / version)
            partial = directory / f".{version}{PARTIAL_SUFFIX}"
            with kept(artifact.directory):
                wanted = lacking(artifact.directory, manifest)
                try:
                    if wanted:
                        _fill(partial, source, wanted, move=move)
                        put_in_place(partial, artifact.directory, manifest, wanted)
                except OSError as error:
                    if not move:
                        shutil.rmtree(partial, ignore_errors=True)
                    raise ArtifactError(
                        f"{name} cannot be published in {self.root}: {error}; nothing has changed, make room and repeat"
                    ) from error
        return artifact

    def require_kind(self, name: str) -> None:
        """ArtifactError where `name` cannot name something, or names versions of another kind."""
        check_name("artifact name", name)
        found = [path.parent.name for path in (self.root / name).glob(f"*/{MANIFEST_FILE}")]
        if not self.versions_here(name) and any(not version.startswith(".") for version in found):
            raise self._other_kind(name)

    def _new_manifest(self, name: str, files: dict[str, Any], parents: Mapping[str, Any] | None) -> Manifest:
        second = second_after(self.versions_here(name), self._clock())
        return {
            "schema_version": SCHEMA_VERSION,
            "name": name,
            "version": f"{second}-{content_of(files)[:CONTENT_DIGITS]}",
            "created": self._clock().isoformat(timespec="seconds"),
            "parents": dict(parents or {}),
            "files": files,
        }

    def _manifest_of(self, name: str, files: dict[str, Any]) -> Manifest | None:
        """The manifest of the version that has these files."""
        for version in self.versions_here(name):
            if version.endswith(content_of(files)[:CONTENT_DIGITS]):
                with contextlib.suppress(VersionDamaged):  # it cannot be told what it had
                    manifest = read_manifest(self.root / name / version)
                    if manifest["files"] == files:
                        return manifest
        return None

    @property
    def place(self) -> str:
        """Where the versions are, for messages."""
        return str(self.root)

    def names(self) -> list[str]:
        """Names of which there is a version, in their order."""
        found = {path.parents[1].name for path in self.root.glob(f"*/*/{MANIFEST_FILE}")}
        return sorted(name for name in found if NAME.fullmatch(name) and self.versions(name))

    def versions(self, name: str) -> list[str]:
        """Versions of `name`, oldest first; those of another kind are not among them."""
        return self.versions_here(name)

    def versions_here(self, name: str) -> list[str]:
        """Those whose files are on this machine."""
        if not NAME.fullmatch(name):
            return []
        found = [path.parent for path in (self.root / name).glob(f"*/{MANIFEST_FILE}")]
        marker = self.kind.marker
        return sorted(path.name for path in found if not path.name.startswith(".") and (path / marker).exists())

    def version(self, name: str, version: str) -> Artifact:
        """A version as it lies there, its bytes not checked; ArtifactError where there is none.

        Of one that only other machines have it is the small JSON files, which tell what it is; see `here`.
        """
        if not _is_version(f"{name}/{version}") or version not in self.versions(name):
            raise ArtifactError(self._unknown(name, version))
        return Artifact(name=name, version=version, directory=self.root / name / version)

    def here(self, name: str, version: str) -> Artifact:
        """The same with all its files, fetched where they are not on this machine."""
        return self.version(name, version)

    def bytes_of(self, artifact: Artifact) -> int:
        """Size of a version's files."""
        return size_of(artifact.directory)

    def where(self, name: str, version: str) -> list[str]:
        """`here`, `shared` or both."""
        return ["here"] if self._is_here(f"{name}/{version}") else []

    def manifest(self, artifact: Artifact) -> dict[str, Any]:
        """What was noted when it was published, as `created` and `parents`; VersionDamaged where it cannot be read."""
        return read_manifest(artifact.directory)

    def set_label(self, name: str, label: str, version: str, *, expected: str | None = None) -> None:
        """Point `label` at `version`, in one step that readers see before or after, never between.

        LabelMoved where it does not point at `expected`, if that is told: someone else was faster. "" expects that
        there is no such label yet.
        """
        check_name("label", label)
        labels = self._labels(name)
        if version not in self.versions(name):
            raise ArtifactError(self._unknown(name, version))
        with labels.changing():
            if version not in self.versions(name):
                raise ArtifactError(self._unknown(name, version))
            labels.set(label, version, expected=expected)

    def roll_back(self, name: str, label: str, *, expected: str | None = None) -> str:
        """Point `label` at the version before the present one, which is returned; again, at the one before that.

        NothingBefore where there was none, VersionDamaged where it is, LabelMoved as `set_label`.
        """
        labels = self._labels(name)
        if labels.get(label) is None:  # a lock would be made for a name that there is not
            raise ArtifactError(self._no_label(name, label))
        with labels.changing():
            version = self.previous(name, label)
            self._check(name, version)
            labels.set(label, version, expected=expected, how=ROLLBACK)
        return version

    def previous(self, name: str, label: str) -> str:
        """The version that `roll_back` would go back to; errors as there."""
        labels = self._labels(name)
        if labels.get(label) is None:
            raise ArtifactError(self._no_label(name, label))
        version = labels.previous(label)
        if version not in self.versions(name):
            raise ArtifactError(self._unknown(name, version))
        return version

    def label_history(self, name: str) -> list[LabelChange]:
        """Every change of the labels of `name`, oldest first."""
        return self._labels(name).history()

    def labelled(self, name: str, label: str) -> str | None:
        """The version that `label` points at, None where there is none: one small file, read anew each time."""
        return self._labels(name).get(label)

    def last_seen(self, name: str, label: str) -> str | None:
        """The same as this machine knows it, at once and whatever does not answer; see `refresh`."""
        return self.labelled(name, label)

    def all_last_seen(self, label: str) -> dict[str, str]:
        """Name → version of all that have `label`, as this machine knows it."""
        found = {name: self.labelled(name, label) for name in self.names()}
        return {name: version for name, version in found.items() if version is not None}

    def refresh(self, *, now: bool = False) -> None:
        """Have this machine know the labels that machines share, soon enough or `now`; a store of one machine does.

        Where there is no answer the log says so, and what was known stays.
        """

    def labels(self, name: str) -> dict[str, str]:
        """Label → version."""
        return self._labels(name).all()

    def contains(self, artifact: Artifact) -> bool:
        """Whether it is a version of this store, rather than a directory elsewhere."""
        return artifact.directory == self.root / artifact.name / artifact.version

    def hold(self, artifact: Artifact) -> Hold:
        """Keep a version from being removed until it is let go; ArtifactError for a directory outside the store."""
        if not self.contains(artifact):
            raise ArtifactError(f"{artifact.directory} is not in {self.root}; hold a version of this store")
        return hold(artifact.directory)

    def remove_unneeded(self, name: str, *, keep: int = 2) -> Removed:
        """Remove versions that no label needs and no process holds, and what killed processes left.

        Each label keeps its version and the `keep` before it, to be rolled back to; of versions that never had a label
        the `keep` newest stay.
        """
        check_name("artifact name", name)
        return remove_unneeded(self.root / name, self._labels(name), self.versions(name), keep=keep)

    def resolve(self, reference: str) -> Artifact:
        """The artifact behind "name@label", "name/version" or the path of a directory, every hash checked.

        A directory without a manifest, such as a run's own model, has no hashes to check. Raises VersionDamaged, or
        ArtifactError that says what exists.
        """
        if "@" in reference and not Path(reference).exists():
            name, label = reference.split("@", 1)
            version = self._pointed_at(name, label)
            if version is None:
                raise ArtifactError(self._no_label(name, label))
            reference = f"{name}/{version}"
        if self._is_here(reference):
            name, version = reference.split("/")
            return self._checked(name, version)
        path = Path(reference)
        if path.is_dir():
            if (path / MANIFEST_FILE).exists():
                manifest = self._verify(path)
                return Artifact(name=manifest["name"], version=manifest["version"], directory=path)
            return Artifact(name=path.resolve().name, version="unversioned", directory=path)
        if _is_version(reference):
            return self._checked(*reference.split("/"))
        remedy = f"; say {reference}@stable for the one that answers" if reference in self.names() else ""
        raise ArtifactError(f"{reference!r} is neither name@label, name/version nor a directory{remedy}")

    def has(self, reference: str) -> bool:
        """Whether it is the `name/version` of one that there is."""
        return self._is_here(reference)

    def verify(self, reference: str) -> Artifact:
        """As `resolve`, and where machines share versions, look whether it is whole there."""
        return self.resolve(reference)

    def _pointed_at(self, name: str, label: str) -> str | None:
        return self.labelled(name, label)

    def _is_here(self, reference: str) -> bool:
        return _is_version(reference) and (self.root / reference / MANIFEST_FILE).exists()

    def _check(self, name: str, version: str) -> None:
        """VersionDamaged where it is."""
        self._verify(self.root / name / version)

    def _checked(self, name: str, version: str) -> Artifact:
        """A version whose files are here, every hash checked."""
        if not self._is_here(f"{name}/{version}"):
            raise ArtifactError(self._unknown(name, version))
        directory = self.root / name / version
        self._verify(directory)
        return Artifact(name=name, version=version, directory=directory)

    def _verify(self, directory: Path) -> Manifest:
        manifest = read_manifest(directory)
        for file, expected in manifest["files"].items():
            path = directory / file
            found = digest(path) if path.is_file() else None
            if found != expected:
                state = "missing" if found is None else "altered"
                raise VersionDamaged(f"{path} is {state} since it was published; restore it or use another version")
        return manifest

    def _labels(self, name: str) -> Labels:
        return LocalLabels(self.root, name, self._clock)

    def _no_label(self, name: str, label: str) -> str:
        have = ", ".join(f"{name}@{known}" for known in self.labels(name)) or f"no label of {name!r}"
        return f"no {self.kind.noun} '{name}@{label}' in {self.place}: there is {have}; {self.kind.remedy}"

    def _unknown(self, name: str, version: str) -> str:
        have = ", ".join(self.versions(name)) or "none"
        return f"no version {version!r} of {name!r} in {self.place}; versions there: {have}"

    def _other_kind(self, name: str) -> ArtifactError:
        return ArtifactError(
            f"{name!r} in {self.place} is not {self.kind.noun} but something else; choose another name"
        )


def _fill(partial: Path, source: Path, files: Collection[str], *, move: bool) -> None:
    """Have `files` of `source` under a name that is no version."""
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for file in files:
        (partial / file).parent.mkdir(parents=True, exist_ok=True)
        if move:
            (source / file).rename(partial / file)
        else:
            shutil.copyfile(source / file, partial / file)
        sync(partial / file)
    for folder in {(partial / file).parent for file in files}:
        sync(folder)


def _is_version(reference: str) -> bool:
    parts = reference.split("/")
    return len(parts) == 2 and all(NAME.fullmatch(part) for part in parts)
