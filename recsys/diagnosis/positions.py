"""Whether a model finds what matters wherever it lies in the history (after PosIR, arXiv 2601.08363).

A relevant behaviour is planted in an unrelated history (`planting.py`) at a position of each bin. *Recall* is the
share of targets whose plant is among the K behaviours that the search keeps. *Score change* is the model's score with
the plant less that with the behaviour that stood there. Lengths are never mixed, so that the place is not confused
with how much else there is to find. The control shuffles time: the same histories, with the same plants, in a random
order, so that what is left of a difference between bins is chance. The *gap* is the oldest bin's figure less the
newest's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from recsys.diagnosis.planting import PLANTS, Plant, Planting
from recsys.models.model import Scorer

Floats = npt.NDArray[np.float64]

_AT_ONCE = 1 << 18
"""Behaviours that are scored at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Planted:
    """What became of one kind of plant in histories of one length: by bin, newest first, and by target; NaN for targets
    that have none to plant."""

    plant: Plant
    length: int
    users: npt.NDArray[np.int32]
    """[N]"""
    found: Floats | None
    """[bins, N] 1 where it was found, else 0; None for models that search for nothing."""
    found_shuffled: Floats | None
    """[bins, N] the same plants in a random order of the same histories."""
    change: Floats
    """[bins, N] what the plant adds to the score, a probability."""
    change_shuffled: Floats
    """[bins, N] what it adds in the random order."""


def measure_positions(
    planting: Planting, scorer: Scorer, *, searches: bool = True, progress: Callable[[int], None] | None = None
) -> list[Planted]:
    """Plant, search and score, for each length and plant of `planting`.

    `progress` is called with the targets done, once for each length: `len(lengths) · N` in all.
    """
    targets = planting.targets
    found = []
    for length in planting.config.lengths:
        shape = (planting.config.bins, len(targets.rows))
        hits = {plant: np.full((2, *shape), np.nan) for plant in PLANTS}
        changes = {plant: np.full((2, *shape), np.nan) for plant in PLANTS}
        step = max(1, _AT_ONCE // length)
        for begin in range(0, shape[1], step):
            part = slice(begin, min(begin + step, shape[1]))
            _measure_part(planting, scorer, length, part, hits, changes)
            if progress is not None:
                progress(part.stop - part.start)
        found += [
            Planted(
                plant=plant,
                length=length,
                users=targets.users,
                found=hits[plant][0] if searches else None,
                found_shuffled=hits[plant][1] if searches else None,
                change=changes[plant][0],
                change_shuffled=changes[plant][1],
            )
            for plant in PLANTS
        ]
    return found


def _measure_part(
    planting: Planting,
    scorer: Scorer,
    length: int,
    part: slice,
    hits: dict[Plant, Floats],
    changes: dict[Plant, Floats],
) -> None:
    """Fill in [2, bins, N] of each plant, in time and shuffled, for the targets in `part`."""
    targets, histories = planting.targets.rows[part], planting.histories(length, part)
    shuffle = planting.shuffles(length, part)
    without = [_score(scorer, histories, targets)[0], _score(scorer, _reordered(histories, shuffle), targets)[0]]
    everyone = np.arange(len(targets))
    for plant in PLANTS:
        items = planting.targets.planted[plant][part]
        missing = items == 0
        for number, column in enumerate(planting.places(length, part)):
            planted = histories.copy()
            planted[everyone, column] = items
            moved = (shuffle == column[:, None]).argmax(axis=1)
            for control, (rows, place) in enumerate(((planted, column), (_reordered(planted, shuffle), moved))):
                score, positions = _score(scorer, rows, targets)
                hit = (positions == place[:, None]).any(axis=1)
                hits[plant][control, number, part] = np.where(missing, np.nan, hit)
                changes[plant][control, number, part] = np.where(missing, np.nan, score - without[control])


def _reordered(rows: npt.NDArray[np.int32], order: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    return np.take_along_axis(rows, order, axis=1)


def _score(
    scorer: Scorer, rows: npt.NDArray[np.int32], targets: npt.NDArray[np.int32]
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """[n] score of each target for its history of `rows` [n, L], and [n, K] positions of what was found."""
    n, length = rows.shape
    scores, found = scorer.score(
        torch.from_numpy(rows.reshape(-1)).to(scorer.device),
        torch.arange(0, n * length + 1, length, device=scorer.device),
        torch.from_numpy(targets[:, None]).to(scorer.device),
        longest=length,
    )
    return scores[:, 0].double().cpu().numpy(), found.positions[:, 0].cpu().numpy()


def mean_of(runs: Sequence[Planted]) -> Planted:
    """Target by target over models that differ in their seed, all asked the same."""
    first = runs[0]

    def mean(parts: Sequence[Floats | None]) -> Floats | None:
        known = [part for part in parts if part is not None]
        return np.mean(known, axis=0) if known else None

    change, shuffled = mean([run.change for run in runs]), mean([run.change_shuffled for run in runs])
    assert change is not None
    assert shuffled is not None
    return Planted(
        plant=first.plant,
        length=first.length,
        users=first.users,
        found=mean([run.found for run in runs]),
        found_shuffled=mean([run.found_shuffled for run in runs]),
        change=change,
        change_shuffled=shuffled,
    )
