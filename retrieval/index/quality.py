"""Measure an index, alone and beside the one that answers now, and decide whether it may take over."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from retrieval.errors import IndexingError
from retrieval.index.search import Ids
from retrieval.index.tables import among
from retrieval.index.vector_index import VectorIndex

NEIGHBOURS = 10
"""The k of recall and overlap."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Thresholds:
    """What an index must reach to answer; each is told with its value when it is missed."""

    recall: float = 0.95
    """Share, at least, of the true ten neighbours of sampled vectors that a search finds."""
    coverage: float = 0.99
    """Share, at least, of the ids that should be there which are: those that are told, or those of the live index."""
    norm_drift: float = 0.5
    """Change, at most, of the vectors' mean length against the live index, as a share of it."""
    overlap: float = 0.1
    """Share, at least, of ten neighbours that the live index gave which the new one gives too."""
    queries: int = 200
    """Vectors that are sampled."""

    def __post_init__(self) -> None:
        for name in ("recall", "coverage", "overlap"):
            if not 0 <= getattr(self, name) <= 1:
                raise IndexingError(f"{name} must be 0 to 1, got {getattr(self, name)}")
        if self.norm_drift < 0:
            raise IndexingError(f"norm_drift must be at least 0, got {self.norm_drift}")
        if self.queries < 1:
            raise IndexingError(f"queries must be at least 1, got {self.queries}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One figure against its threshold."""

    name: str
    value: float
    threshold: float
    passed: bool
    reason: str
    """What it means and what to do, for a person."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """Whether an index may answer, and why."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check did."""
        return all(check.passed for check in self.checks)

    @property
    def failed(self) -> list[Check]:
        """The checks that did not pass."""
        return [check for check in self.checks if not check.passed]

    @property
    def reasons(self) -> list[str]:
        """Of the checks that failed."""
        return [check.reason for check in self.failed]

    def as_json(self) -> dict[str, Any]:
        """For a file or a log."""
        return {"passed": self.passed, "checks": [asdict(check) for check in self.checks]}


def judge(
    index: VectorIndex,
    thresholds: Thresholds,
    *,
    live: VectorIndex | None = None,
    expected_ids: Iterable[Any] | None = None,
    seed: int = 0,
) -> Verdict:
    """Hold `index` to `thresholds`, beside the one that answers now where there is one.

    `expected_ids` are those that should be in it; without them those of `live` are, but for what was deleted from
    `index` on purpose.
    """
    rows = sampled_rows(index, thresholds.queries, seed)
    recall = recall_at(index, rows)
    checks = [
        _check(
            "recall",
            recall,
            thresholds.recall,
            f"a search finds {recall:.3f} of the true {NEIGHBOURS} neighbours, fewer than {thresholds.recall}; "
            "build it with more probes or less compression",
        )
    ]
    if expected_ids is None and live is not None:
        expected_ids = live.ids.filter(pl.Series(~among(live.ids, index.changes.removed)))
    if expected_ids is not None:
        checks.append(_covers(index, list(expected_ids), thresholds.coverage))
    if live is not None:
        drift = abs(index.facts.norm_mean / live.facts.norm_mean - 1) if live.facts.norm_mean else float("inf")
        checks.append(
            _check(
                "norm_drift",
                drift,
                thresholds.norm_drift,
                f"the vectors' mean length went from {live.facts.norm_mean:.4g} to {index.facts.norm_mean:.4g}, more "
                f"than {thresholds.norm_drift:.0%}; look at what embedded them",
                at_most=True,
            )
        )
        overlap = neighbours_overlap(index, live, rows)
        if overlap is not None:
            checks.append(
                _check(
                    "overlap",
                    overlap,
                    thresholds.overlap,
                    f"{overlap:.3f} of the neighbours are those of the index that answers, fewer than "
                    f"{thresholds.overlap}; look at what embedded them, or lower the threshold after a new model",
                )
            )
    return Verdict(checks=tuple(checks))


def sampled_rows(index: VectorIndex, count: int, seed: int = 0) -> Ids:
    """Rows of `count` vectors drawn by lot, ascending."""
    drawn = np.random.default_rng(seed).choice(len(index), min(count, len(index)), replace=False)
    return np.sort(drawn)


def recall_at(index: VectorIndex, rows: Ids, *, k: int = NEIGHBOURS, probes: int | None = None) -> float:
    """Share of the true k neighbours of the vectors at `rows`, themselves left out, that a search finds.

    A neighbour as near as the last true one counts, so that equal vectors do not make a right search look wrong.
    """
    k = min(k, len(index) - 1)
    if k < 1:
        return 1.0
    queries = index.vectors_at(rows)
    true = index.exact(queries, k + 1)
    found = index.search(queries, k + 1, probes=probes).rows
    hits = 0
    for query, row, true_rows, found_rows in zip(queries, rows, true.rows, found, strict=True):
        others = found_rows[(found_rows >= 0) & (found_rows != row)][:k]
        floor = index.vectors_at(true_rows[true_rows != row][:k][-1:]) @ query
        hits += min(k, int((index.vectors_at(others) @ query >= floor - 1e-6).sum()))
    return hits / (k * len(rows))


def fewest_probes(index: VectorIndex, target: float, *, queries: int = 200, seed: int = 0) -> int:
    """About the fewest probes with which the recall of sampled vectors reaches `target`: an eighth too many at most.

    0 for an index that compares everything, the most there are where none reaches it.
    """
    if not index.probes:
        return 0
    rows, most = sampled_rows(index, queries, seed), index.most_probes
    enough = 1
    while enough < most and recall_at(index, rows, probes=enough) < target:
        enough = min(2 * enough, most)
    too_few = enough // 2
    while enough - too_few > max(1, enough // 8):
        middle = (enough + too_few) // 2
        if recall_at(index, rows, probes=middle) >= target:
            enough = middle
        else:
            too_few = middle
    return enough


def neighbours_overlap(index: VectorIndex, live: VectorIndex, rows: Ids, *, k: int = NEIGHBOURS) -> float | None:
    """Share of the k neighbours of the ids at `rows` in `live` which are neighbours in `index` too.

    Only ids that both have count, as neighbours too. None where they share too few.
    """
    there = live.rows_of(index.ids.gather(rows).to_list())
    both = rows[there >= 0]
    if not len(both):
        return None
    ours = index.search(index.vectors_at(both), k + 1).rows
    theirs = live.search(live.vectors_at(there[there >= 0]), k + 1).rows
    shares = []
    for row, our_rows, their_rows in zip(both, ours, theirs, strict=True):
        as_ours = index.rows_of(live.ids.gather(their_rows[their_rows >= 0]).to_list())
        known = set(as_ours[as_ours >= 0].tolist()) - {int(row)}
        if known:
            shares.append(len(known & set(our_rows.tolist())) / len(known))
    return float(np.mean(shares)) if shares else None


def _covers(index: VectorIndex, wanted: list[Any], threshold: float) -> Check:
    present = index.rows_of(wanted) >= 0 if wanted else np.ones(0, dtype=np.bool_)
    share = float(present.mean()) if len(present) else 1.0
    missing = pl.Series(wanted).filter(pl.Series(~present)).head(3).to_list() if wanted else []
    named = ", ".join(map(str, missing))
    return _check(
        "coverage",
        share,
        threshold,
        f"{share:.3%} of the {len(wanted):,} ids that should be there are, fewer than {threshold:.3%}; missing are for "
        f"instance {named}; see what the source leaves out",
    )


def _check(name: str, value: float, threshold: float, failure: str, *, at_most: bool = False) -> Check:
    passed = value <= threshold if at_most else value >= threshold
    bound = "at most" if at_most else "at least"
    told = f"{name} {value:.4g}, {bound} {threshold:.4g}" if passed else failure
    return Check(name=name, value=value, threshold=threshold, passed=passed, reason=told)
