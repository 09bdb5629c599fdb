"""Keep descriptor sets on disk: an accepted revision is durable, and writers that compete learn of each other.

<root>/<name>/current                  one line: the newest accepted revision, or that the set is deleted
<root>/<name>/revisions/<etag>.json    what a revision says; never changed
<root>/<name>/ready/<encoder>          one line: etag of the revision that answers with that encoder
<root>/<name>/progress/<encoder>       one line: how many texts of which revision are embedded
<root>/<name>/lock, preparing-…        held by who changes the set, and by who embeds its texts

Sets that come with Recollect are read from the package until a revision of the same name is stored.
"""

import difflib
import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import IO

from recollect.errors import ArtifactError
from recollect.gateway.errors import AlreadyExists, Conflict, NotFound, ShippedSet
from retrieval.descriptors.descriptor_set import (
    DescriptorSet,
    dump_descriptor_set,
    parse_descriptor_set,
    shipped_sets,
)
from retrieval.files import sync

KEPT_REVISIONS = 20
"""Newest revisions of a set that are kept, beside those that answer."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_LINE_BYTES = 4_096
_DIGITS = 12
"""Hex digits of a content's digest in its etag."""


def is_set_name(name: str) -> bool:
    """Whether `name` can be that of a stored set, and with that of a directory."""
    return _NAME.fullmatch(name) is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class Revision:
    """One accepted state of a set."""

    name: str
    number: int
    """Counts up and is never used twice, also not after the set was deleted; 0 for what is shipped."""
    digest: str
    """First digits of the content's digest."""
    classes: int
    texts: int
    """Texts to embed."""

    @property
    def etag(self) -> str:
        """Names this revision and its content."""
        return f"{self.number}-{self.digest}"

    @property
    def shipped(self) -> bool:
        """Whether it comes with Recollect."""
        return self.number == 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """The newest revision of a set and how far it is with one encoder."""

    revision: Revision
    serving_etag: str
    """Revision that answers; empty while there is none."""
    embedded: int
    """Texts of the newest revision that are embedded."""

    @property
    def ready(self) -> bool:
        """Whether the newest revision answers."""
        return _supersedes(self.serving_etag, self.revision)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Record:
    """What `current` holds."""

    number: int
    digest: str
    classes: int
    texts: int
    since: int
    """Number of the first revision after the last deletion: older ones must not come back."""
    deleted: bool = False


class DescriptorSetStore:
    """Sets under `root`. Any number of threads and processes may share it; every method blocks."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        """Every set, stored or shipped, by name."""
        found = {path.parent.name for path in self.root.glob("*/current")}
        stored = {name for name in found if is_set_name(name) and self._stored(name) is not None}
        return sorted(stored | set(self._shipped))

    def newest(self, name: str) -> Revision:
        """The newest accepted revision; NotFound names the sets whose names come close."""
        newest = self._newest_or_none(name)
        if newest is not None:
            return newest
        names = self.names()
        close = difflib.get_close_matches(name, names, n=3) or names[:3]
        raise NotFound(
            f"no descriptor set {name!r}; there is {', '.join(map(repr, close))}"
            + (f" and {len(names) - len(close)} more" if len(names) > len(close) else "")
            if names
            else f"no descriptor set {name!r}, and no other; create one"
        )

    def content(self, name: str, etag: str) -> DescriptorSet:
        """What that revision says; FileNotFoundError where it is no longer kept, ArtifactError where it is altered."""
        if etag.startswith("0-"):
            shipped = self._shipped.get(name)
            if shipped is None or shipped[0].etag != etag:
                raise FileNotFoundError(f"revision {etag} of {name!r} came with another release")
            return shipped[1]
        path = self._directory(name) / "revisions" / f"{etag}.json"
        found = parse_descriptor_set(path.read_text(encoding="utf-8"), name=name)
        if not etag.endswith(found.digest[:_DIGITS]):
            raise ArtifactError(f"{path} is altered since it was accepted; restore it, or delete the set")
        return found

    def read(self, name: str) -> tuple[Revision, DescriptorSet]:
        """The newest accepted revision and what it says."""
        with self._locked(self.newest(name).name):
            newest = self.newest(name)
            return newest, self.content(name, newest.etag)

    def create(self, descriptors: DescriptorSet) -> Revision:
        """Store a new set; AlreadyExists where its name means something else, the same content is returned as it is."""
        with self._locked(descriptors.name):
            newest = self._newest_or_none(descriptors.name)
            if newest is None:
                return self._accept(descriptors, since=None)
        if _says(newest, descriptors):
            return newest
        raise AlreadyExists(
            f"there is a descriptor set {newest.name!r} already; choose another name, or update it with its etag "
            f"{newest.etag}",
            etag=newest.etag,
        )

    def update(self, descriptors: DescriptorSet, etag: str) -> Revision:
        """Replace the set if `etag` is still its newest revision, else Conflict. Same content is returned as it is."""
        self.newest(descriptors.name)
        with self._locked(descriptors.name):
            newest = self.newest(descriptors.name)
            if _says(newest, descriptors):
                return newest
            _require(newest, etag)
            record = self._record(newest.name)
            since = None if record is None or record.deleted else record.since
            return self._accept(descriptors, since=since)

    def delete(self, name: str, etag: str = "") -> None:
        """Delete the set; with an `etag` only if that is still its newest revision. The shipped one comes back."""
        record = self._record(name)
        if record is not None and record.deleted:
            repeated = etag == _named(name, record).etag if etag else name not in self._shipped
            if repeated:
                return
        self.newest(name)
        with self._locked(name):
            newest = self.newest(name)
            if etag:
                _require(newest, etag)
            if newest.shipped:
                raise ShippedSet(f"descriptor set {name!r} comes with the service and stays; update it to use a copy")
            record = self._record(name)
            assert record is not None, "what is not shipped is stored"
            # First of all it stops to answer: once it is marked as deleted, nothing of it may be ready.
            ready = self._made(self._directory(name) / "ready")
            for label in ready.iterdir():
                label.unlink()
            sync(ready)
            self._write(name, "current", json.dumps(asdict(replace(record, deleted=True))))
            for path in (self._directory(name) / "revisions").iterdir():
                path.unlink()

    def standing(self, name: str, encoder: str) -> Standing:
        """The newest revision and how far it is with `encoder`."""
        return self.standing_of(self.newest(name), encoder)

    def standing_of(self, revision: Revision, encoder: str) -> Standing:
        """How far `revision` is with `encoder`, whether or not there is a newer one."""
        serving = self.ready(revision.name, encoder) or ""
        etag, _, embedded = (self._line(revision.name, f"progress/{encoder}") or "").partition(" ")
        counted = int(embedded) if etag == revision.etag else 0
        return Standing(
            revision=revision,
            serving_etag=serving,
            embedded=revision.texts if _supersedes(serving, revision) else counted,
        )

    def ready(self, name: str, encoder: str) -> str | None:
        """Etag of the revision that answers with `encoder`: one small file, read anew for every call."""
        return self._line(name, f"ready/{encoder}")

    def mark_ready(self, revision: Revision, encoder: str) -> None:
        """Let `revision` answer with `encoder` on every replica, unless a newer one does or the set was deleted."""
        with self._locked(revision.name):
            newest, record = self._newest_or_none(revision.name), self._record(revision.name)
            since = record.since if record is not None and not record.deleted else 0
            if newest is None or not (revision.shipped or since <= revision.number <= newest.number):
                return  # deleted meanwhile
            ready = self.ready(revision.name, encoder)
            if ready is None or revision == newest or _number(ready) < revision.number:
                self._write(revision.name, f"ready/{encoder}", revision.etag)

    def note_progress(self, revision: Revision, encoder: str, embedded: int) -> None:
        """Say how many texts are embedded, for whoever asks; by who holds `preparing`."""
        self._write(revision.name, f"progress/{encoder}", f"{revision.etag} {embedded}", durable=False)

    def preparing(self, name: str, encoder: str) -> IO[str] | None:
        """The right to embed the texts of a set, until it is closed; None where another process has it.

        The kernel gives it back when that process dies.
        """
        held = (self._made(self._directory(name)) / f"preparing-{encoder}").open("w")
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.close()
            return None
        return held

    @cached_property
    def _shipped(self) -> dict[str, tuple[Revision, DescriptorSet]]:
        folder = resources.files("retrieval.descriptors") / "sets"
        found = {}
        for name in shipped_sets():
            text = (folder / f"{name}.json").read_text(encoding="utf-8")
            descriptors = replace(parse_descriptor_set(text, name=name), name=name)
            found[name] = _revision(0, descriptors), descriptors
        return found

    def _newest_or_none(self, name: str) -> Revision | None:
        stored = self._stored(name)
        return self._shipped[name][0] if stored is None and name in self._shipped else stored

    def _stored(self, name: str) -> Revision | None:
        record = self._record(name)
        return None if record is None or record.deleted else _named(name, record)

    def _record(self, name: str) -> _Record | None:
        line = self._line(name, "current")
        return None if line is None else _Record(**json.loads(line))

    def _accept(self, descriptors: DescriptorSet, *, since: int | None) -> Revision:
        """Make `descriptors` the newest revision; the caller holds the lock."""
        record = self._record(descriptors.name)
        number = 1 if record is None else record.number + 1
        revision = _revision(number, descriptors)
        record = _Record(
            number=number,
            digest=revision.digest,
            classes=revision.classes,
            texts=revision.texts,
            since=number if since is None else since,
        )
        self._write(revision.name, f"revisions/{revision.etag}.json", dump_descriptor_set(descriptors))
        self._write(revision.name, "current", json.dumps(asdict(record)))
        self._prune(revision)
        return revision

    def _prune(self, newest: Revision) -> None:
        directory = self._directory(newest.name)
        serving = {path.read_text().strip() for path in (directory / "ready").glob("[!.]*")}
        for path in (directory / "revisions").glob("*.json"):
            if _number(path.stem) <= newest.number - KEPT_REVISIONS and path.stem not in serving:
                path.unlink()

    def _line(self, name: str, file: str) -> str | None:
        # Done for every call: `open` would let go of the interpreter, and wait for it, seven times instead of three.
        try:
            descriptor = os.open(self._directory(name) / file, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            return os.read(descriptor, _LINE_BYTES).decode().strip()
        finally:
            os.close(descriptor)

    def _write(self, name: str, file: str, text: str, *, durable: bool = True) -> None:
        """Replace a file in one step, which readers see before or after, never between."""
        path = self._directory(name) / file
        self._made(path.parent)
        partial = path.with_name(f".{path.name}.partial")
        with partial.open("w", encoding="utf-8") as out:
            out.write(text if text.endswith("\n") else f"{text}\n")
            out.flush()
            if durable:
                os.fsync(out.fileno())
        partial.replace(path)
        if durable:
            sync(path.parent)

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """Be the only one who changes the set."""
        with (self._made(self._directory(name)) / "lock").open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield

    def _made(self, directory: Path) -> Path:
        if not directory.is_dir():
            self._made(directory.parent)
            directory.mkdir(exist_ok=True)
            sync(directory.parent)
        return directory

    def _directory(self, name: str) -> Path:
        if not is_set_name(name):
            raise ValueError(f"{name!r} is no name of a descriptor set; check it with is_set_name")
        return self.root / name


def _revision(number: int, descriptors: DescriptorSet) -> Revision:
    return Revision(
        name=descriptors.name,
        number=number,
        digest=descriptors.digest[:_DIGITS],
        classes=len(descriptors.classes),
        texts=sum(len(described.scored) or 1 for described in descriptors.classes),
    )


def _named(name: str, record: _Record) -> Revision:
    return Revision(name=name, number=record.number, digest=record.digest, classes=record.classes, texts=record.texts)


def _number(etag: str) -> int:
    return int(etag.partition("-")[0])


def _supersedes(etag: str, revision: Revision) -> bool:
    """Whether `etag` is that of `revision` or of a later one."""
    return etag == revision.etag or (etag != "" and _number(etag) > revision.number)


def _says(revision: Revision, descriptors: DescriptorSet) -> bool:
    return revision.digest == descriptors.digest[:_DIGITS]


def _require(newest: Revision, etag: str) -> None:
    if newest.etag != etag:
        raise Conflict(
            f"descriptor set {newest.name!r} has changed: its etag is {newest.etag}, not {etag!r}; get it, repeat your "
            "change and send the new etag",
            etag=newest.etag,
        )
