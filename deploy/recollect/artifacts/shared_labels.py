"""Labels that machines share: nobody overwrites another's change, wherever the file system can create exclusively."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from recollect.artifacts import changes
from recollect.artifacts.kinds import check_name
from recollect.artifacts.labels import SET, LabelChange, Labels
from recollect.artifacts.last_seen import LastSeen, SeenLabel
from recollect.artifacts.remote import Remote
from recollect.errors import LabelMoved

REMEMBERED = 100
"""Changes of each label that a removal leaves: how far back a label can be rolled."""


class SharedLabels(Labels):
    """The labels of one name, asked for anew each time. RemoteError where there is no answer."""

    def __init__(self, name: str, remote: Remote, seen: LastSeen, clock: Callable[[], datetime]) -> None:
        super().__init__(name, clock)
        self._remote = remote
        self._seen = seen
        self._begun: dict[str, SeenLabel] | None = None
        self._told: list[LabelChange] | None = None

    def get(self, label: str) -> str | None:
        """The version that `label` points at, None where there is none."""
        seen = self._now().get(label)
        return None if seen is None else seen.version

    def all(self) -> dict[str, str]:
        """Label → version."""
        return {label: seen.version for label, seen in self._now().items()}

    def set(self, label: str, version: str, *, expected: str | None = None, how: str = SET) -> None:
        """See `Labels`. Of a rollback LabelMoved too where another machine was faster by a moment."""
        check_name("label", label)
        while True:
            seen = self._now().get(label)
            before = None if seen is None else seen.version
            self._require(label, expected, before)
            if before == version:
                return
            number = 1 if seen is None else seen.highest + 1
            change = self._change(label, version, before, how)
            if self._remote.create(changes.path_of(self._name, label, number), changes.written(change)):
                self._seen.note(self._name, label, number, version)
                return
            self._begun = None
            if how != SET:
                # From where the label is now, back is somewhere else.
                raise LabelMoved(
                    f"label {label!r} of {self._name!r} was moved by another machine at this very moment; look at what "
                    "was activated, then say it again",
                    current=self.get(label),
                )

    def history(self) -> list[LabelChange]:
        """The newest of every label's changes, oldest first."""
        if self._told is not None:
            return self._told
        numbers = self._numbers()
        read = self._remote.read_all([path for paths in numbers.values() for path in paths.values()])
        dated = []
        for label, paths in numbers.items():
            latest = ""
            for number, path in sorted(paths.items()):
                change = changes.read(read.get(path))
                if change is not None:
                    # Numbers tell the order; clocks of two machines may not.
                    latest = max(latest, change.time)
                    dated.append((latest, label, number, change))
        told = [change for _, _, _, change in sorted(dated, key=lambda each: each[:3])]
        if self._begun is not None:
            self._told = told
        return told

    @contextmanager
    def changing(self) -> Iterator[None]:
        """What is read in the block is what a change in it follows on; who was faster meanwhile keeps it from being
        made."""
        self._begun = self._now()
        try:
            yield
        finally:
            self._begun = self._told = None

    def forget_oldest(self) -> None:
        """Remove changes that are further back than a label can be rolled."""
        for paths in self._numbers().values():
            self._remote.remove([path for _, path in sorted(paths.items())[:-REMEMBERED]])

    def _now(self) -> dict[str, SeenLabel]:
        if self._begun is not None:
            return self._begun
        self._seen.refresh()
        return self._seen.labels(self._name)

    def _numbers(self) -> dict[str, dict[int, str]]:
        """Label → number → path."""
        numbers: dict[str, dict[int, str]] = {}
        for path in self._remote.list(changes.FOLDER):
            found = changes.numbered(path)
            if found is not None and found[0] == self._name:
                numbers.setdefault(found[1], {})[found[2]] = path
        return numbers
