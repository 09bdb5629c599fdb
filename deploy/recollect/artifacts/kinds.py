"""What a store keeps, and how its messages call it."""

import re
from dataclasses import dataclass
from pathlib import Path

from recollect.errors import ArtifactError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""What names and labels look like."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Artifact:
    """One version of something, its bytes checked."""

    name: str
    """What it is, "dare" for instance; a directory outside a store goes by its own name."""
    version: str
    """Which one; "unversioned" for a directory outside a store."""
    directory: Path
    """Where its files are."""

    @property
    def reference(self) -> str:
        """`name/version`: the one form that never comes to mean something else."""
        return f"{self.name}/{self.version}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ArtifactKind:
    """What a store keeps, as its messages say it."""

    noun: str
    """What one is called."""
    remedy: str
    """How to come by one."""
    marker: str = ""
    """What every version of it contains, where a directory holds versions of several kinds."""


MODELS = ArtifactKind(noun="model", remedy="train one with `recollect train` or name a model directory")
COMPOSED_MODELS = ArtifactKind(
    noun="model",
    remedy="train one with `recollect composed train`, one to start from with `recollect composed pretrain`, or name a "
    "model directory or a shipped model",
)
ENCODERS = ArtifactKind(
    noun="encoder", remedy="train one with `recollect encoder train`, or name a directory or a shipped encoder"
)
GALLERIES = ArtifactKind(noun="gallery", remedy="make one with `recollect composed index`", marker="gallery")
INDEXES = ArtifactKind(noun="index", remedy="build one with `recollect index build`", marker="index")
CATALOGUES = ArtifactKind(noun="catalogue", remedy="import one with `recollect catalogue import`")
INDEXES_AND_GALLERIES = ArtifactKind(noun="index or gallery", remedy=INDEXES.remedy)
"""To list and remove what both keep below `var/indexes`."""


def check_name(what: str, name: str) -> None:
    """ArtifactError where `name` cannot name something or a label."""
    if not NAME.fullmatch(name):
        raise ArtifactError(
            f"{what} must be 1 to 100 letters, digits, '.', '_' or '-', and start with a letter or digit; got {name!r}"
        )
