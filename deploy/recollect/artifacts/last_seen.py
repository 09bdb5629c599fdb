"""What this machine knows of the place where machines share versions, so that it goes on answering without it.

<root>/.shared/<place>/labels/<name>@<label>.json       number and version of the newest change
<root>/.shared/<place>/manifests/<name>/<version>.json  as it is there: a version never changes
<root>/.shared/<place>/.looked                          when labels were last asked for, by whichever process
"""

import hashlib
import json
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from recollect.artifacts import changes
from recollect.artifacts.kinds import NAME
from recollect.artifacts.locks import locked
from recollect.artifacts.manifests import MANIFEST_FILE, Manifest, parse_manifest
from recollect.artifacts.remote import Remote
from recollect.errors import ArtifactError
from retrieval.files import write_whole

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class SeenLabel:
    """What a label was when it was last asked for."""

    number: int
    """Number of the change that made it so."""
    highest: int
    """The highest number there is; beyond `number` are changes whose writer died."""
    version: str


class LastSeen:
    """Labels and manifests of one remote, kept below a store's `root`."""

    def __init__(self, root: Path, remote: Remote, clock: Callable[[], datetime]) -> None:
        place = hashlib.sha256(remote.url.encode()).hexdigest()[:16]
        self.directory = root / ".shared" / place
        self._remote = remote
        self._clock = clock
        self._gone: set[str] = set()

    def label(self, name: str, label: str) -> SeenLabel | None:
        """A label as last seen: one small file, read anew each time."""
        if not (NAME.fullmatch(name) and NAME.fullmatch(label)):
            return None
        return self._label(f"{name}@{label}")

    def labels(self, name: str) -> dict[str, SeenLabel]:
        """Those of `name`."""
        if not NAME.fullmatch(name):
            return {}
        found = ((each.name.removesuffix(".json"), each) for each in self._labels.glob(f"{name}@*.json"))
        seen = {reference.partition("@")[2]: self._label(reference) for reference, _ in sorted(found)}
        return {label: each for label, each in seen.items() if each is not None}

    def names(self, label: str) -> list[str]:
        """Every name that has `label`."""
        suffix = f"@{label}.json"
        return sorted(path.name.removesuffix(suffix) for path in self._labels.glob(f"*{suffix}"))

    def refresh(self) -> None:
        """Ask for all labels; RemoteError where there is no answer, and what was known is known still."""
        with locked(self.directory / ".lock"):
            self._look()

    def refresh_after(self, seconds: float) -> bool:
        """The same, unless some process of this machine has asked within so many seconds, or asks now; says whether
        this one did."""
        now = self._clock().timestamp()
        try:
            # A clock that was set back must not keep this machine from asking until it is there again.
            recent = 0 <= now - float((self.directory / ".looked").read_text()) < seconds
        except (FileNotFoundError, ValueError):
            recent = False
        if recent:
            return False
        with locked(self.directory / ".lock", wait=False) as free:
            if free:
                self._look()
            return free

    def note(self, name: str, label: str, number: int, version: str) -> None:
        """Know of a change that this process has made."""
        with locked(self.directory / ".lock"):
            seen = self.label(name, label)
            if seen is None or seen.number < number:
                self._keep(f"{name}@{label}", SeenLabel(number=number, highest=number, version=version))

    def manifests(self, name: str, versions: Iterable[str]) -> dict[str, Manifest]:
        """The manifests of versions that are there; those that are torn are left out."""
        found, unknown = {}, {}
        for version in versions:
            try:
                data = self._manifest(name, version).read_bytes()
                found[version] = parse_manifest(data, name, version, str(self._manifest(name, version)))
            except (FileNotFoundError, ArtifactError):
                unknown[f"{name}/{version}/{MANIFEST_FILE}"] = version
        for path, data in self._remote.read_all([*unknown]).items():
            version = unknown[path]
            try:
                found[version] = parse_manifest(data, name, version, f"{self._remote.shown}/{name}/{version}")
            except ArtifactError as error:
                log.info("%s", error)
                continue
            self.keep(self._manifest(name, version), data)
        return found

    def keep(self, path: Path, data: bytes) -> None:
        """Write a file that others here may be writing too, with the same content."""
        with locked(self.directory / ".keeping"):
            write_whole(path, data.decode(errors="replace"))

    def forget(self, name: str, there: Iterable[str]) -> None:
        """Keep no manifests but those of the versions that are `there`."""
        kept = {f"{version}.json" for version in there}
        for path in self._manifest(name, "").parent.glob("*.json"):
            if path.name not in kept:
                path.unlink(missing_ok=True)

    def _look(self) -> None:
        # Before the answer, which may take long to be none: others need not wait for the same.
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / ".looked").write_text(str(self._clock().timestamp()))
        numbers: dict[str, list[int]] = defaultdict(list)
        for path in self._remote.list(changes.FOLDER):
            found = changes.numbered(path)
            if found is not None:
                name, label, number = found
                numbers[f"{name}@{label}"].append(number)
        for reference, there in numbers.items():
            self._take(reference, sorted(there, reverse=True))
        gone = {path.name.removesuffix(".json") for path in self._labels.glob("*.json")} - set(numbers)
        for reference in gone - self._gone:
            # No command removes a label: a mount that is missing, for instance, looks as if there were none.
            log.warning("%s is not in %s any more; it is taken as last seen", reference, self._remote.shown)
        self._gone = gone

    def _take(self, reference: str, there: list[int]) -> None:
        """Know the newest of the changes `there`, newest first, that is whole."""
        seen = self._label(reference)
        name, _, label = reference.partition("@")
        for number in there:
            if seen is not None and seen.number == number:
                if seen.highest != there[0]:
                    self._keep(reference, SeenLabel(number=number, highest=there[0], version=seen.version))
                return
            change = changes.read(self._remote.read(changes.path_of(name, label, number)))
            if change is not None:
                self._keep(reference, SeenLabel(number=number, highest=there[0], version=change.version))
                return

    def _keep(self, reference: str, seen: SeenLabel) -> None:
        write_whole(self._labels / f"{reference}.json", json.dumps(asdict(seen)) + "\n")

    def _label(self, reference: str) -> SeenLabel | None:
        try:
            return SeenLabel(**json.loads((self._labels / f"{reference}.json").read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    @property
    def _labels(self) -> Path:
        return self.directory / "labels"

    def _manifest(self, name: str, version: str) -> Path:
        return self.directory / "manifests" / name / f"{version}.json"
