"""Keep versions where several machines share them, and on each machine what it builds and what it uses.

<url>/models/<name>/<version>/…                the files
<url>/models/<name>/<version>/manifest.json    uploaded last: before it the version is none
<url>/models/.labels/…                         see `recollect.artifacts.changes`
<url>/models/.holds/…, .uploads/…              see `recollect.artifacts.signs`
var/models/<name>/<version>/…                  built, checked, mapped and held here, as in a store of one machine
var/models/.shared/…                           see `recollect.artifacts.last_seen`
"""

import logging
import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recollect.artifacts.copies import fetch, is_whole, require_all, shared_manifest, upload
from recollect.artifacts.holds import Hold
from recollect.artifacts.kinds import MODELS, NAME, Artifact, ArtifactKind, check_name
from recollect.artifacts.last_seen import LastSeen
from recollect.artifacts.locks import locked
from recollect.artifacts.manifests import MANIFEST_FILE, Manifest, as_text, bytes_of
from recollect.artifacts.placing import kept, lacking, put_in_place
from recollect.artifacts.remote import Remote
from recollect.artifacts.removal import PARTIAL_SUFFIX, PUBLISHING_LOCK, Removed, needed_versions, remove_unneeded
from recollect.artifacts.shared_labels import SharedLabels
from recollect.artifacts.shared_removal import remove_shared
from recollect.artifacts.signs import SharedHold
from recollect.artifacts.store import ArtifactStore
from recollect.errors import ArtifactError, RemoteError, VersionDamaged

log = logging.getLogger(__name__)

REFRESH_S = 5.0
"""How often a machine asks for labels, at most."""
GLANCE_BYTES = 1 << 20
"""Largest JSON file that is read to tell what a version is."""


class SharedStore(ArtifactStore):
    """Versions that several machines share at `remote`; `root` keeps those that this machine has built or used.

    What asks `remote` raises RemoteError where there is no answer. `resolve` goes on with what this machine has, and
    the log says so.
    """

    is_shared = True

    def __init__(
        self,
        root: Path,
        remote: Remote,
        *,
        kind: ArtifactKind = MODELS,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        refresh_s: float | None = None,
    ) -> None:
        super().__init__(root, kind=kind, clock=clock)
        self.remote = remote
        self._refresh_s = REFRESH_S if refresh_s is None else refresh_s
        self._seen = LastSeen(root, remote, clock)
        self._silent = False

    @property
    def place(self) -> str:
        """Where the versions are, for messages."""
        return self.remote.shown

    def publish(
        self, name: str, source: Path, *, parents: Mapping[str, Any] | None = None, move: bool = False
    ) -> Artifact:
        """See `ArtifactStore.publish`; the version is kept here, then uploaded.

        Where that fails, RemoteError says how to go on: the version is whole here, and none there yet.
        """
        artifact = super().publish(name, source, parents=parents, move=move)
        self._share(name, artifact.version)
        return artifact

    def names(self) -> list[str]:
        """Names of which there is a version, there or here."""
        return sorted({*super().names(), *self._names_there()})

    def versions(self, name: str) -> list[str]:
        """Versions of `name`, there or only here, oldest first; those of another kind are not among them."""
        return sorted({*self.versions_here(name), *self._there(name)})

    def last_seen(self, name: str, label: str) -> str | None:
        """See `ArtifactStore.last_seen`."""
        seen = self._seen.label(name, label)
        return None if seen is None else seen.version

    def all_last_seen(self, label: str) -> dict[str, str]:
        """See `ArtifactStore.all_last_seen`. A name whose version was never looked at is left out."""
        found = {name: self.last_seen(name, label) for name in self._seen.names(label)}
        return {name: version for name, version in found.items() if version and self._is_of_kind(name, version)}

    def refresh(self, *, now: bool = False) -> None:
        """See `ArtifactStore.refresh`."""
        try:
            if now:
                self._seen.refresh()
            elif not self._seen.refresh_after(self._refresh_s):
                return
        except RemoteError as error:
            if not self._silent:
                log.warning("what is here answers on, and labels that move are not followed: %s", error)
            self._silent = True
        else:
            if self._silent:
                log.warning("%s answers again", self.remote.shown)
            self._silent = False

    def set_label(self, name: str, label: str, version: str, *, expected: str | None = None) -> None:
        """See `ArtifactStore.set_label`; a version that is only here is uploaded first."""
        check_name("label", label)
        if version not in self.versions(name):
            raise ArtifactError(self._unknown(name, version))
        if version not in self._there(name):
            self._share(name, version)
        labels = self._labels(name)
        with labels.changing():
            before = labels.get(label)
            labels.set(label, version, expected=expected)
        self._require_kept(name, label, version, before)

    def hold(self, artifact: Artifact) -> Hold:
        """See `ArtifactStore.hold`; other machines see it too, and remove the version no sooner than a day after this
        process has died."""
        return SharedHold(super().hold(artifact), self.remote, artifact.name, artifact.version, self._clock)

    def remove_unneeded(self, name: str, *, keep: int = 2) -> Removed:
        """See `ArtifactStore.remove_unneeded`; there, and then what this machine keeps.

        What was shared less than a day ago stays there: its label may be on the way.
        """
        check_name("artifact name", name)
        labels, now = self._labels(name), self._clock()
        there = remove_shared(self.remote, name, labels, self._there(name), keep=keep, now=now)
        labels.forget_oldest()
        with labels.changing():
            needed = needed_versions(labels, self.versions_here(name), keep)
        here = remove_unneeded(
            self.root / name, super()._labels(name), self.versions_here(name), keep=keep, also=needed
        )
        left = self._there(name)
        self._seen.forget(name, left)
        shutil.rmtree(self._glances / name, ignore_errors=True)
        return Removed(
            versions=tuple(sorted({*there.versions, *(each for each in here.versions if each not in left)})),
            held=tuple(sorted({*there.held, *here.held})),
            leftovers=there.leftovers + here.leftovers,
            bytes=there.bytes + here.bytes,
            evicted=tuple(each for each in here.versions if each in left),
        )

    def has(self, reference: str) -> bool:
        """Whether it is the `name/version` of one that there is, here or there."""
        if super().has(reference):
            return True
        name, slash, version = reference.partition("/")
        return bool(slash and NAME.fullmatch(name) and NAME.fullmatch(version)) and version in self._there(name)

    def verify(self, reference: str) -> Artifact:
        """As `resolve`, and whether all files are there in their size; their hashes are checked by whoever fetches."""
        artifact = self.resolve(reference)
        if self.contains(artifact):
            require_all(
                self.remote, artifact.name, artifact.version, self._manifest_there(artifact.name, artifact.version)
            )
        return artifact

    def version(self, name: str, version: str) -> Artifact:
        """See `ArtifactStore.version`."""
        if version in self.versions_here(name):
            return super().version(name, version)
        manifest = self._there(name).get(version)
        if manifest is None:
            raise ArtifactError(self._unknown(name, version))
        directory = self._glances / name / version
        wanted = {
            f"{name}/{version}/{file}": directory / file
            for file, entry in manifest["files"].items()
            if file.endswith(".json") and entry["bytes"] <= GLANCE_BYTES and not (directory / file).exists()
        }
        for path, data in self.remote.read_all([*wanted]).items():
            self._seen.keep(wanted[path], data)
        self._seen.keep(directory / MANIFEST_FILE, as_text(manifest).encode())
        return Artifact(name=name, version=version, directory=directory)

    def here(self, name: str, version: str) -> Artifact:
        """See `ArtifactStore.here`."""
        if not self._is_here(f"{name}/{version}"):
            self._fetch(name, version)
        return super().version(name, version)

    def bytes_of(self, artifact: Artifact) -> int:
        """Size of a version's files."""
        return super().bytes_of(artifact) if self.contains(artifact) else bytes_of(self.manifest(artifact))

    def where(self, name: str, version: str) -> list[str]:
        """`here`, `shared` or both."""
        here, there = self._is_here(f"{name}/{version}"), version in self._there(name)
        return [place for place, is_there in (("here", here), ("shared", there)) if is_there]

    def _labels(self, name: str) -> SharedLabels:
        return SharedLabels(name, self.remote, self._seen, self._clock)

    @property
    def _glances(self) -> Path:
        return self._seen.directory / "glances"

    def _names_there(self) -> list[str]:
        paths = [path.split("/") for path in self.remote.list()]
        found = {parts[0] for parts in paths if len(parts) == 3 and parts[2] == MANIFEST_FILE}
        return [name for name in found if NAME.fullmatch(name) and self._there(name)]

    def _all_there(self, name: str) -> dict[str, Manifest]:
        """Version → manifest of all that are there whole, of whatever kind, oldest first."""
        if not NAME.fullmatch(name):
            return {}
        paths = [path.split("/") for path in self.remote.list(name)]
        found = sorted(parts[1] for parts in paths if len(parts) == 3 and parts[2] == MANIFEST_FILE)
        manifests = self._seen.manifests(name, [version for version in found if NAME.fullmatch(version)])
        return dict(sorted(manifests.items()))

    def _there(self, name: str) -> dict[str, Manifest]:
        """The same, of the store's kind."""
        return {version: manifest for version, manifest in self._all_there(name).items() if self._has_marker(manifest)}

    def _has_marker(self, manifest: Manifest) -> bool:
        marker = self.kind.marker
        return not marker or any(file.split("/")[0] == marker for file in manifest["files"])

    def _is_of_kind(self, name: str, version: str) -> bool:
        if self._is_here(f"{name}/{version}"):
            return (self.root / name / version / self.kind.marker).exists()
        try:
            manifest = self._seen.manifests(name, [version]).get(version)
        except RemoteError:
            return False
        return manifest is not None and self._has_marker(manifest)

    def require_kind(self, name: str) -> None:
        """See `ArtifactStore.require_kind`."""
        super().require_kind(name)
        found = self._all_there(name)
        if found and not any(self._has_marker(manifest) for manifest in found.values()):
            raise self._other_kind(name)

    def _manifest_of(self, name: str, files: dict[str, Any]) -> Manifest | None:
        same = (manifest for manifest in self._there(name).values() if manifest["files"] == files)
        # The one that all machines have, rather than one that was published here alone.
        return next(same, None) or super()._manifest_of(name, files)

    def _pointed_at(self, name: str, label: str) -> str | None:
        try:
            return self.labelled(name, label)
        except RemoteError as error:
            version = self.last_seen(name, label)
            if version is None:
                raise
            log.warning("%s@%s is taken as last seen, %s: %s", name, label, version, error)
            return version

    def _checked(self, name: str, version: str) -> Artifact:
        if not self._is_here(f"{name}/{version}"):
            self._fetch(name, version)
            return Artifact(name=name, version=version, directory=self.root / name / version)
        try:
            return super()._checked(name, version)
        except VersionDamaged as damaged:
            self._mend(name, version, damaged)
        return super()._checked(name, version)

    def _mend(self, name: str, version: str, damaged: VersionDamaged) -> None:
        """Fetch what is missing or altered here; `damaged` itself where the version is not shared."""
        try:
            if shared_manifest(self.remote, name, version) is None:
                raise damaged
            log.warning("what is damaged of %s/%s is fetched again: %s", name, version, damaged)
            self._fetch(name, version)
        except RemoteError as error:
            raise RemoteError(f"{name}/{version} is damaged here and cannot be fetched again: {error}") from error

    def _check(self, name: str, version: str) -> None:
        """As far as that is possible without fetching it; who fetches it checks all."""
        if self._is_here(f"{name}/{version}"):
            self._checked(name, version)
        manifest = self._there(name).get(version)
        if manifest is not None:
            require_all(self.remote, name, version, manifest)
        else:
            self._share(name, version)

    def _manifest_there(self, name: str, version: str) -> Manifest:
        """The manifest as it is there now."""
        manifest = shared_manifest(self.remote, name, version)
        if manifest is None:
            raise ArtifactError(self._unknown(name, version))
        return manifest

    def _share(self, name: str, version: str) -> None:
        """Upload a version that is whole here, unless it is there, as far as sizes tell."""
        manifest = self._all_there(name).get(version)
        if manifest is not None and is_whole(self.remote, name, version, manifest):
            return
        super()._check(name, version)
        try:
            upload(self.remote, self.root / name / version, name, version, self._clock)
        except RemoteError as error:
            raise RemoteError(
                f"{name}/{version} is whole here, in {self.root}, but not shared yet: {error}. Repeat the command, or "
                f"activate {version}, and it goes on"
            ) from error

    def _fetch(self, name: str, version: str) -> None:
        """Have the files here, those that are not or are altered, under a name that is none until all are checked.

        RemoteError where one is altered there or there is no room.
        """
        manifest = self._manifest_there(name, version)
        directory = self.root / name
        with locked(directory / PUBLISHING_LOCK):
            partial = directory / f".{version}{PARTIAL_SUFFIX}"
            with kept(directory / version):
                # Another process may have had them first.
                wanted = lacking(directory / version, manifest)
                if not wanted:
                    return
                try:
                    fetch(self.remote, partial, name, version, {**manifest, "files": wanted})
                    put_in_place(partial, directory / version, manifest, wanted)
                except OSError as error:
                    shutil.rmtree(partial, ignore_errors=True)
                    raise RemoteError(
                        f"{name}/{version} cannot be fetched into {self.root}: {error}; make room and repeat"
                    ) from error

    def _require_kept(self, name: str, label: str, version: str, before: str | None) -> None:
        """Mend a label that was moved to what another machine removed at this very moment."""
        if self.remote.read(f"{name}/{version}/{MANIFEST_FILE}") is not None:
            return
        if self._is_here(f"{name}/{version}"):
            self._share(name, version)
            return
        if before is not None:
            self._labels(name).set(label, before, expected=version)
        raise RemoteError(
            f"{name}/{version} was removed by another machine at this very moment; {name}@{label} points at "
            f"{before or 'what is gone'}"
        )
