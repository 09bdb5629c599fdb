"""A trained model and a history → scores and reasons: what the serving path calls."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from recollect_kernels import prepare
from recsys.data.catalogue import UNKNOWN_ROW, Catalogue
from recsys.models.dare import TableDtype
from recsys.models.directory import load_dare
from recsys.models.model import Scorer


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranking:
    """Scores of T candidates for one history of L behaviours."""

    scores: npt.NDArray[np.float32]
    """[T] probability of interest, in the order of the candidates."""
    known: npt.NDArray[np.bool_]
    """[T] False for candidates outside the model's vocabulary, which are scored as an item without features."""
    found_positions: npt.NDArray[np.int64] | None
    """[T, K] index into the history as given of each behaviour that was found, highest weight first; -1 where there
    were fewer than K. None unless asked for."""
    found_weights: npt.NDArray[np.float32] | None
    """[T, K] attention weight of each; those of a candidate add up to 1. None unless asked for."""


class Ranker:
    """A model in serving form with its vocabulary. Scoring only reads, so threads may share it."""

    def __init__(self, serving: Scorer, catalogue: Catalogue) -> None:
        prepare()  # here, so that no request waits for a compiler
        self._serving = serving
        self.catalogue = catalogue

    @classmethod
    def load(cls, directory: Path, *, dtype: TableDtype = "float32") -> "Ranker":
        """Read a model directory; its tables are kept as `dtype`. Raises StoreError where it cannot be read or holds a
        baseline."""
        saved = load_dare(directory)
        return cls(saved.model.serving(dtype), saved.catalogue)

    def rank(
        self, history_item_ids: npt.ArrayLike, candidate_item_ids: npt.ArrayLike, *, explain: bool = False
    ) -> Ranking:
        """Score `candidate_item_ids` [T] for a history of item ids [L], oldest first; either may be empty.

        Behaviours outside the vocabulary keep their place in the history and carry no features.
        """
        history = np.asarray(history_item_ids, dtype=np.int64)
        candidates = np.asarray(candidate_item_ids, dtype=np.int64)
        rows = self.catalogue.rows_of(candidates)
        if len(candidates) == 0:
            return _nothing(explain)
        scores, found = self._serving.score(
            torch.from_numpy(self.catalogue.rows_of(history)),
            torch.tensor([0, len(history)]),
            torch.from_numpy(rows).unsqueeze(0),
        )
        return Ranking(
            scores=scores[0].numpy(),
            known=rows != UNKNOWN_ROW,
            found_positions=found.positions[0].numpy() if explain else None,
            found_weights=found.weights[0].numpy() if explain else None,
        )


def _nothing(explain: bool) -> Ranking:
    positions, weights = np.empty((0, 0), dtype=np.int64), np.empty((0, 0), dtype=np.float32)
    return Ranking(
        scores=np.empty(0, dtype=np.float32),
        known=np.empty(0, dtype=bool),
        found_positions=positions if explain else None,
        found_weights=weights if explain else None,
    )
