"""A trained model and a history → scores and reasons: what the serving path calls."""

from collections.abc import Sequence
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
from recsys.models.self_test import require_self_test


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


@dataclass(frozen=True, kw_only=True, slots=True)
class RankingCall:
    """What to rank, for one history."""

    history_item_ids: npt.NDArray[np.int64]
    """[L] oldest first; may be empty."""
    candidate_item_ids: npt.NDArray[np.int64]
    """[T] may be empty."""
    explain: bool = False
    """Whether the ranking also tells what was found."""


class Ranker:
    """A model in serving form with its vocabulary. Scoring only reads, so threads may share it."""

    def __init__(self, serving: Scorer, catalogue: Catalogue) -> None:
        prepare()  # here, so that no request waits for a compiler
        self._serving = serving
        self.catalogue = catalogue

    @classmethod
    def load(cls, directory: Path, *, dtype: TableDtype = "float32") -> "Ranker":
        """Read a model directory; its tables are kept as `dtype`. Raises StoreError where it cannot be read, holds a
        baseline, or fails its self-test, which warms it up, too."""
        saved = load_dare(directory)
        ranker = cls(saved.model.serving(dtype), saved.catalogue)
        require_self_test(directory, ranker._serving, saved.catalogue, rounded=dtype != "float32")
        return ranker

    def rank(
        self, history_item_ids: npt.ArrayLike, candidate_item_ids: npt.ArrayLike, *, explain: bool = False
    ) -> Ranking:
        """Score `candidate_item_ids` [T] for a history of item ids [L], oldest first; either may be empty.

        Behaviours outside the vocabulary keep their place in the history and carry no features.
        """
        call = RankingCall(
            history_item_ids=np.asarray(history_item_ids, dtype=np.int64),
            candidate_item_ids=np.asarray(candidate_item_ids, dtype=np.int64),
            explain=explain,
        )
        return self.rank_together([call])[0]

    def rank_together(self, calls: Sequence[RankingCall]) -> list[Ranking]:
        """What `rank` gives for each of `calls`, in less time than one by one.

        All are scored for as many candidates as the longest has, so those of like numbers belong together. The order in
        which numbers are added up depends on the shape, so scores may differ from those of `rank` in their last bits.
        """
        if not calls:
            return []
        rows = [self.catalogue.rows_of(call.candidate_item_ids) for call in calls]
        most = max(map(len, rows))
        if most == 0:
            return [_nothing(call.explain) for call in calls]
        targets = np.full((len(calls), most), UNKNOWN_ROW, dtype=np.int32)
        for target, own in zip(targets, rows, strict=True):
            target[: len(own)] = own
        histories = [call.history_item_ids for call in calls]
        scores, found = self._serving.score(
            torch.from_numpy(self.catalogue.rows_of(np.concatenate(histories))),
            torch.from_numpy(np.cumsum([0, *map(len, histories)])),
            torch.from_numpy(targets),
        )
        return [
            Ranking(
                scores=scores[at, : len(own)].numpy(),
                known=own != UNKNOWN_ROW,
                found_positions=found.positions[at, : len(own)].numpy() if call.explain else None,
                found_weights=found.weights[at, : len(own)].numpy() if call.explain else None,
            )
            for at, (call, own) in enumerate(zip(calls, rows, strict=True))
        ]


def _nothing(explain: bool) -> Ranking:
    positions, weights = np.empty((0, 0), dtype=np.int64), np.empty((0, 0), dtype=np.float32)
    return Ranking(
        scores=np.empty(0, dtype=np.float32),
        known=np.empty(0, dtype=bool),
        found_positions=positions if explain else None,
        found_weights=weights if explain else None,
    )
