"""Which version each label of one name points at, and pointed at before: one small file a label, replaced in one step.

<name>/labels/<label>           the version
<name>/labels/.history.jsonl    every change: when, which label, from which version to which
<name>/labels/.lock             held by whoever changes or removes
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from recollect.artifacts.kinds import NAME, check_name
from recollect.artifacts.locks import locked
from recollect.errors import LabelMoved, NothingBefore
from retrieval.files import sync, write_whole

STABLE = "stable"
"""The label that serving follows when nothing else is said."""
SET, ROLLBACK = "set", "rollback"


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelChange:
    """A label that was moved."""

    time: str
    """When, ISO 8601 with its zone."""
    label: str
    version: str
    before: str | None
    """What it pointed at until then; None: there was no such label."""
    how: str
    """set or rollback."""


class Labels(ABC):
    """The labels of one name."""

    def __init__(self, name: str, clock: Callable[[], datetime]) -> None:
        self._name = name
        self._clock = clock

    @abstractmethod
    def get(self, label: str) -> str | None:
        """The version that `label` points at, None where there is none."""

    @abstractmethod
    def all(self) -> dict[str, str]:
        """Label → version."""

    @abstractmethod
    def set(self, label: str, version: str, *, expected: str | None = None, how: str = SET) -> None:
        """Point `label` at `version`; whoever calls is `changing`.

        LabelMoved where `expected` is told and the label points at something else; "" expects that there is none yet.
        """

    @abstractmethod
    def history(self) -> list[LabelChange]:
        """Every change of every label, oldest first; one that a crash cut short is left out."""

    @abstractmethod
    def changing(self) -> AbstractContextManager[None]:
        """What is read in the block is what a change in it follows on."""

    def made(self, label: str) -> list[LabelChange]:
        """The changes of `label` that were made, oldest first: whoever tells one may die before it is done.

        The next one tells where the label was then, and of the last one the label does.
        """
        told = [change for change in self.history() if change.label == label]
        after = [*(change.before for change in told[1:]), self.get(label)]
        return [change for change, version in zip(told, after, strict=False) if change.version == version]

    def stack(self, label: str) -> list[str]:
        """The versions that `label` pointed at, the present one last; a rollback takes the one it left away."""
        current = self.get(label)
        if current is None:
            return []
        versions: list[str] = []
        for change in self.made(label):
            if change.how == ROLLBACK and change.version in versions:
                del versions[len(versions) - versions[::-1].index(change.version) :]
            else:
                versions.append(change.version)
        while versions and versions[-1] != current:
            versions.pop()
        return versions or [current]

    def previous(self, label: str) -> str:
        """The version that `label` pointed at before the present one; NothingBefore where there was none."""
        stack = self.stack(label)
        if len(stack) < 2:
            raise NothingBefore(
                f"{self._name}@{label} points at {stack[-1] if stack else 'nothing'} and pointed at nothing before; "
                "there is nothing to roll back to"
            )
        return stack[-2]

    def _require(self, label: str, expected: str | None, found: str | None) -> None:
        if expected is not None and (found or "") != expected:
            raise label_moved(self._name, label, found, expected)

    def _change(self, label: str, version: str, before: str | None, how: str) -> LabelChange:
        return LabelChange(
            time=self._clock().isoformat(timespec="seconds"), label=label, version=version, before=before, how=how
        )


class LocalLabels(Labels):
    """Labels in the directory of a name below `root`, on this machine."""

    def __init__(self, root: Path, name: str, clock: Callable[[], datetime]) -> None:
        super().__init__(name, clock)
        self._directory = root / name / "labels"

    def get(self, label: str) -> str | None:
        """One small file, read anew each time."""
        if not (NAME.fullmatch(self._name) and NAME.fullmatch(label)):
            return None
        try:
            return (self._directory / label).read_text().strip()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def all(self) -> dict[str, str]:
        """Label → version."""
        if not NAME.fullmatch(self._name):
            return {}
        found = sorted(path for path in self._directory.glob("*") if not path.name.startswith("."))
        return {path.name: path.read_text().strip() for path in found}

    def set(self, label: str, version: str, *, expected: str | None = None, how: str = SET) -> None:
        """See `Labels`; told in the history first."""
        check_name("label", label)
        before = self.get(label)
        self._require(label, expected, before)
        if before == version:
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        # First told, then done: what was told and not done is known by its version, which the label does not have.
        change = self._change(label, version, before, how)
        with self._history.open("a") as file:
            # Begun on a line of its own: the last one may have been cut short.
            file.write("\n" + json.dumps(asdict(change)) + "\n")
        sync(self._history)
        write_whole(self._directory / label, f"{version}\n")

    def history(self) -> list[LabelChange]:
        """One line each."""
        try:
            lines = self._history.read_text().splitlines()
        except FileNotFoundError:
            return []
        changes = []
        for line in lines:
            try:
                changes.append(LabelChange(**json.loads(line)))
            except (ValueError, TypeError):
                continue
        return changes

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Keep others from changing labels, and from removing versions, until the block ends."""
        with locked(self._directory / ".lock"):
            yield

    @property
    def _history(self) -> Path:
        return self._directory / ".history.jsonl"


def label_moved(name: str, label: str, current: str | None, expected: str) -> LabelMoved:
    """The error of a caller who expected `label` of `name` to point at something else."""
    return LabelMoved(
        f"label {label!r} of {name!r} points at {current or 'nothing'}, not at {expected or 'nothing'} as expected; "
        "look at what was activated meanwhile, then say it again",
        current=current or None,
    )
