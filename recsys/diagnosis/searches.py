"""What a search keeps of a batch of histories, and the orders that need no model to compare it with."""

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch

from recsys.data.event_store import EventStore
from recsys.data.samples import SampleSet
from recsys.models.batch import Batch, collate
from recsys.models.model import Scorer


class Histories(NamedTuple):
    """G histories of at most L behaviours as a rectangle that ends with each one's newest, and T targets for each."""

    batch: Batch
    """The same, ragged, as models read them."""
    padding: npt.NDArray[np.int64]
    """[G] columns before each history's oldest behaviour."""
    categories: npt.NDArray[np.int32]
    """[G, L] category row of each behaviour; -1 where padded."""
    target_categories: npt.NDArray[np.int32]
    """[G, T] category row of each target."""

    @property
    def positions(self) -> npt.NDArray[np.int64]:
        """[L] position of each column, 1 = the most recent."""
        return np.arange(self.categories.shape[1], 0, -1)


def read_histories(store: EventStore, samples: SampleSet) -> Histories:
    """The histories of `samples` and their categories."""
    batch = collate(store, samples)
    lengths = samples.ends - samples.begins
    padding = batch.longest - lengths
    categories = np.full((len(samples), batch.longest), -1, dtype=np.int32)
    # Row by row, left to right: the order in which the histories stand behind each other.
    categories[np.arange(batch.longest) >= padding[:, None]] = store.catalogue.category_rows[batch.rows.numpy()]
    return Histories(batch, padding, categories, store.catalogue.category_rows[samples.targets])


class Kept(NamedTuple):
    """What a search kept."""

    columns: npt.NDArray[np.int64]
    """[G, T, K] columns of the rectangle, best first; -1 where fewer were found."""
    weights: npt.NDArray[np.float32] | None
    """[G, T, K] attention weight of each; None where nothing is weighted."""


class Search(Protocol):
    """Anything that keeps K behaviours of a history for a target."""

    def keep(self, histories: Histories) -> Kept:
        """What it keeps."""
        ...


class ModelSearch:
    """The search of a trained model, in the form that scores."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    def keep(self, histories: Histories) -> Kept:
        """What it keeps."""
        batch = histories.batch.to(self._scorer.device)
        _, found = self._scorer.score(batch.rows, batch.offsets, batch.targets, longest=batch.longest)
        positions = found.positions.cpu().numpy()
        columns = np.where(positions >= 0, positions + histories.padding[:, None, None], -1)
        return Kept(columns, found.weights.float().cpu().numpy())


class MostRecent:
    """The K latest behaviours."""

    def __init__(self, k: int) -> None:
        self._k = k

    def keep(self, histories: Histories) -> Kept:
        """What it keeps."""
        shape = (*histories.target_categories.shape, histories.categories.shape[1])
        return Kept(_best(np.zeros(shape, dtype=np.float32), histories, self._k), None)


class SameCategory:
    """Behaviours of the target's category, then all others; the latest first of both."""

    def __init__(self, k: int) -> None:
        self._k = k

    def keep(self, histories: Histories) -> Kept:
        """What it keeps."""
        same = histories.categories[:, None, :] == histories.target_categories[:, :, None]
        return Kept(_best(same.astype(np.float32), histories, self._k), None)


class ByGrades:
    """The K behaviours of the highest grades; the latest first of equal ones."""

    def __init__(self, k: int, grades: "Grader") -> None:
        self._k, self._grades = k, grades

    def keep(self, histories: Histories) -> Kept:
        """What it keeps."""
        return Kept(_best(self._grades(histories), histories, self._k), None)


class Grader(Protocol):
    """What behaviours are worth for targets."""

    def __call__(self, histories: Histories) -> npt.NDArray[np.float32]:
        """[G, T, L], at least 0; 0 where padded."""
        ...


def _best(scores: npt.NDArray[np.float32], histories: Histories, k: int) -> npt.NDArray[np.int64]:
    """[G, T, K] columns of the K highest `scores` [G, T, L] of real behaviours, the newest first of equal ones; -1
    where there are fewer."""
    real = torch.from_numpy(histories.categories[:, None, ::-1] >= 0)
    newest_first = torch.from_numpy(np.ascontiguousarray(scores[..., ::-1])).masked_fill(~real, -torch.inf)
    order = newest_first.argsort(dim=-1, descending=True, stable=True)[..., :k]  # [G, T, J]
    found = real.expand(newest_first.shape).gather(-1, order)
    columns = torch.where(found, scores.shape[-1] - 1 - order, -1)
    return torch.nn.functional.pad(columns, (0, k - columns.shape[-1]), value=-1).numpy()
