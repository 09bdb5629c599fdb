"""Measure ways to recommend on what users did next, beside each other and with how far each figure may be off."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from recsys.errors import ConfigError
from recsys.recommending.contenders import SERVED, Contender
from recsys.recommending.held_out import HeldOut
from recsys.recommending.metrics import (
    Floats,
    Ids,
    Mean,
    coverage_at,
    hit_rate_at,
    hits,
    mean_over_users,
    ndcg_at,
    recall_at,
)

CANDIDATE_CUTS = (50, 100, 200, 500)
CUTS = (10, 20, 50)
COMPARED = "ndcg@20"
"""The figure whose difference is told."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What one contender reached."""

    contender: str
    figures: dict[str, Mean]
    """candidate_recall@N, and of what is shown ndcg@N, recall@N and hit_rate@N."""
    coverage: dict[str, float]
    """coverage@N, share of the catalogue that anybody is shown."""
    difference: Mean
    """COMPARED less that of what is served, over the same users; 0 for that itself."""

    def as_row(self) -> dict[str, Any]:
        """Figure → value, and figure_error → its standard error; None where there were too few users for one."""
        figures = {**self.figures, f"{COMPARED}_difference": self.difference}
        values = {name: _rounded(mean.value) for name, mean in figures.items()}
        errors = {f"{name}_error": _rounded(mean.error) for name, mean in figures.items()}
        coverage = {name: _rounded(value) for name, value in self.coverage.items()}
        return {"contender": self.contender, **values, **errors, **coverage}


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """All contenders on the same users and targets."""

    again: bool
    """Whether items of the history may be shown, and are wanted."""
    users: int
    """Users who took something that counts."""
    targets: int
    """What they took."""
    rows: list[Measured]


def evaluate(
    asked: HeldOut,
    contenders: Mapping[str, Contender],
    *,
    again: bool,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Ask every contender for every user, and measure what it answers.

    With `again`, all that a user took is wanted and may be shown; without, only what was new to them. Users who took
    nothing of that kind are left out. `progress` is called with 1 after each user.
    """
    if SERVED not in contenders:
        raise ConfigError(f"contenders must have {SERVED!r}, which others are compared with; got {sorted(contenders)}")
    all_wanted = asked.wanted if again else asked.new
    users = np.flatnonzero(all_wanted.counts > 0)
    wanted = all_wanted.take(users)
    deepest, shown = CANDIDATE_CUTS[-1], CUTS[-1]
    candidates = {name: np.full((len(users), deepest), -1, dtype=np.int64) for name in contenders}
    ranked = {name: np.full((len(users), shown), -1, dtype=np.int64) for name in contenders}
    for place, user in enumerate(users.tolist()):
        history = asked.history(user)
        for name, contender in contenders.items():
            answer = contender(history, again)
            _fill(candidates[name][place], answer.candidates)
            _fill(ranked[name][place], answer.ranked)
        if progress is not None:
            progress(1)
    found = {name: hits(ranked[name], wanted) for name in contenders}
    cut = int(COMPARED.partition("@")[2])
    served = ndcg_at(cut, found[SERVED], wanted.counts)
    n_items = asked.store.catalogue.n_items
    rows = []
    for name in contenders:
        figures = _candidate_figures(hits(candidates[name], wanted), wanted.counts)
        figures |= _figures(found[name], wanted.counts)
        rows.append(
            Measured(
                contender=name,
                figures={figure: mean_over_users(values) for figure, values in figures.items()},
                coverage={f"coverage@{n}": coverage_at(n, ranked[name], n_items) for n in CUTS},
                difference=mean_over_users(figures[COMPARED] - served),
            )
        )
    return Evaluation(again=again, users=len(users), targets=len(wanted.item_ids), rows=rows)


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 6)


def _fill(row: Ids, items: Ids) -> None:
    row[: len(items)] = items[: len(row)]


def _candidate_figures(found: npt.NDArray[np.bool_], counts: Ids) -> dict[str, Floats]:
    return {f"candidate_recall@{n}": recall_at(n, found, counts) for n in CANDIDATE_CUTS}


def _figures(found: npt.NDArray[np.bool_], counts: Ids) -> dict[str, Floats]:
    measures = {"ndcg": ndcg_at, "recall": recall_at, "hit_rate": hit_rate_at}
    return {f"{name}@{n}": measure(n, found, counts) for name, measure in measures.items() for n in CUTS}
