"""Hold the model that answers: one reference, so that every reply is computed with, and labelled by, one version."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from recollect.telemetry.answers import serving
from recsys.data.catalogue import Catalogue
from recsys.models.popularity import NOTHING_POPULAR, Popularity

if TYPE_CHECKING:
    from recollect.artifacts import Hold
    from recsys.models.dare import TableDtype
    from recsys.ranking import Ranking, RankingCall


NO_ITEMS = Catalogue(
    item_ids=np.array([-1], dtype=np.int64),
    category_rows=np.array([0], dtype=np.int32),
    category_ids=np.array([-1], dtype=np.int64),
)
"""The vocabulary of a model that knows nothing."""


class Ranker(Protocol):
    """What the gateway needs of a model; `recsys.ranking.Ranker` is one. Called from several threads at once."""

    def rank(
        self,
        history_item_ids: npt.NDArray[np.int64],
        candidate_item_ids: npt.NDArray[np.int64],
        *,
        explain: bool = False,
    ) -> "Ranking":
        """Score candidates [T] by a history [L], oldest first."""
        ...

    def rank_together(self, calls: "Sequence[RankingCall]") -> "list[Ranking]":
        """What `rank` gives for each of `calls`, in their order."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedModel:
    """A loaded model and the label of its replies."""

    name: str
    version: str
    ranker: Ranker
    catalogue: Catalogue = NO_ITEMS
    """The model's vocabulary, which knows categories."""
    popularity: Popularity = NOTHING_POPULAR
    """How many events each item has."""
    hold: "Hold | None" = None
    """Keeps the version on the disk while it answers: a replica that heals loads it again."""

    @property
    def reference(self) -> str:
        """`name/version`: the one form that never comes to mean another model."""
        return f"{self.name}/{self.version}"


class ModelSource(Protocol):
    """Where models come from. Pickled into every replica."""

    def pin(self, reference: str) -> str:
        """The form of `reference` that means the same model from now on; ArtifactError where there is none."""
        ...

    def current(self, reference: str) -> str:
        """What `reference` means now: `name/version` for a label, anything else as it is. Asked every few seconds;
        ArtifactError where there is no such label."""
        ...

    def load(self, reference: str) -> ServedModel:
        """Load the model that `reference` names; blocking."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class ArtifactModels:
    """Models from an artifact store, their files checked against their hashes."""

    root: Path
    """Directory of the store."""
    shared: str | None = None
    """URL where machines share models; None: they do not."""
    dtype: "TableDtype" = "float32"
    """Type of the serving tables."""

    def pin(self, reference: str) -> str:
        """`dare@stable` becomes `dare/<version>`, a directory its whole path. Checks the hashes, and that it is no
        baseline."""
        from recollect.artifacts import open_store
        from recollect.errors import ArtifactError
        from recsys.errors import StoreError
        from recsys.models.directory import require_dare

        store = open_store(self.root, shared=self.shared)
        artifact = store.resolve(reference)
        try:
            require_dare(artifact.directory)
        except StoreError as error:
            raise ArtifactError(str(error)) from error
        if store.contains(artifact):
            return artifact.reference
        return str(artifact.directory.resolve())

    def current(self, reference: str) -> str:
        """The version that this machine knows the label to point at, which it asks for where machines share them."""
        from recollect.artifacts import MODELS, open_store
        from recollect.artifacts.following import split_reference

        if "@" not in reference or Path(reference).exists():
            return reference
        store = open_store(self.root, shared=self.shared)
        name, label = split_reference(reference, MODELS)
        store.refresh()
        version = store.last_seen(name, label)
        return self.pin(reference) if version is None else f"{name}/{version}"

    def load(self, reference: str) -> ServedModel:
        """Check the hashes, then load."""
        from recollect.artifacts import open_store
        from recsys.models.popularity import load_popularity
        from recsys.ranking import Ranker as TrainedRanker

        store = open_store(self.root, shared=self.shared)
        artifact = store.resolve(reference)
        hold = store.hold(artifact) if store.contains(artifact) else None
        try:
            ranker = TrainedRanker.load(artifact.directory, dtype=self.dtype)
            return ServedModel(
                name=artifact.name,
                version=artifact.version,
                ranker=ranker,
                catalogue=ranker.catalogue,
                popularity=load_popularity(artifact.directory),
                hold=hold,
            )
        except BaseException:
            if hold is not None:
                hold.release()
            raise


class ModelSlot:
    """The model that answers now.

    A call takes `current` once and keeps it: a swap in between changes nothing for that call.
    """

    def __init__(self, model: ServedModel) -> None:
        self.current = model
        serving("model", model.name, model.version)

    def swap(self, model: ServedModel) -> ServedModel:
        """Let `model` answer from now on; returns the one that answered before."""
        before, self.current = self.current, model
        serving("model", model.name, model.version)
        return before
