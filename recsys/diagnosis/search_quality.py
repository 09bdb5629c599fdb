"""Hold what searches keep against what is worth keeping: NDCG@K graded by mutual information, and attention by category
and position (section 4.3 of arXiv 2410.02604).

For a target of category c', a behaviour of category c at position l is worth I(behaviour's category is c; label),
counted over the training samples with targets of c' (`relevance.py`). NDCG@K of a search is the discounted worth of the
K behaviours that it keeps, in its order, over that of the K worthiest of the same history. Grades are given to
categories, so a search that tells items of one category apart gets nothing for that; how it would order categories
alone is measured beside it, with the embeddings of items set to zero, which is what the paper draws.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from recsys.data.event_store import EventStore
from recsys.data.samples import SampleSet
from recsys.diagnosis.ndcg import expected_gain, gain_of, ideal_gain, normalised
from recsys.diagnosis.relevance import Counts, Relevance, information_of, speaks_for
from recsys.diagnosis.searches import ByGrades, Histories, Kept, MostRecent, SameCategory, Search, read_histories
from recsys.errors import DataError

Floats = npt.NDArray[np.float64]
AnyCell = TypeVar("AnyCell", np.float32, np.bool_)

INFORMATION, IN_FAVOUR = "information", "in favour"
"""Grades: mutual information, as published; and that alone of what makes the target more probable."""
RANDOM, RECENT, SAME_CATEGORY, OTHER_HALF = "random order", "most recent", "same category", "other half's grades"
"""Orders that need no model. The last orders by what every other user's samples say and is graded by the others': what
the grades themselves can tell."""


@dataclass(frozen=True, slots=True)
class Grades:
    """[G, T, L] what behaviours are worth, by a table [R, C + 1, P]."""

    relevance: Relevance
    table: npt.NDArray[np.float32]

    def __call__(self, histories: Histories) -> npt.NDArray[np.float32]:
        """Looks each up; 0 of padding, and for targets whose category has too few samples."""
        return _looked_up(self.table, self.relevance, histories)


@dataclass(frozen=True, kw_only=True, slots=True)
class Attention:
    """Where the attention of searches goes, for targets of H categories."""

    categories: npt.NDArray[np.int64]
    """[H] category rows of the targets."""
    behaviours: Counts
    """[H, C + 1, P] behaviours that there were."""
    lifts: Mapping[str, Floats]
    """[H, C + 1, P] of each search: mean weight times the history's length, so that 1 is what an average behaviour
    gets; NaN where there was none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """NDCG of every search on every graded sample."""

    users: npt.NDArray[np.int32]
    """[S] whose sample it is."""
    ndcg: Mapping[tuple[str, str], Floats]
    """(grades, search) → [S]; NaN where nothing of the history is worth anything."""
    attention: Attention
    asked: int
    """Samples that were looked at, graded or not."""
    too_short: int
    """Samples left out because their history is short, of those in the split."""


@dataclass(slots=True)
class _Tally:
    """What is added up over batches."""

    searches: tuple[str, ...]
    shape: tuple[int, int, int]
    users: list[npt.NDArray[np.int32]] = field(default_factory=list)
    ndcg: dict[tuple[str, str], list[Floats]] = field(default_factory=dict)
    behaviours: Counts = field(init=False)
    weights: dict[str, Floats] = field(init=False)

    def __post_init__(self) -> None:
        self.behaviours = np.zeros(self.shape, dtype=np.int64)
        self.weights = {name: np.zeros(self.shape) for name in self.searches}


def measure_search(
    store: EventStore,
    samples: SampleSet,
    relevance: Relevance,
    searches: Mapping[str, Search],
    *,
    k: int,
    min_history: int,
    most_unreliable: int | None = None,
    maps: int = 3,
    batch_size: int = 1024,
    progress: Callable[[int], None] | None = None,
) -> Measured:
    """NDCG@K of `searches`, and of orders that need no model, on every target of `samples` that can be graded.

    Graded are targets whose category has enough training samples and whose history holds at least `min_history`
    behaviours, at most `most_unreliable` of them (K for None, as published) with counts too small to rely on. Attention
    is mapped for the `maps` target categories with the most training samples. Memory is bounded by the batch, but for
    one number a sample and search. `progress` is called with the groups that were measured. DataError where nothing
    can be graded.
    """
    long_enough = samples.ends - samples.begins >= min_history
    graded = samples.take(np.flatnonzero(long_enough))
    counts = relevance.counts
    information = information_of(counts)
    tables = {INFORMATION: information, IN_FAVOUR: np.where(speaks_for(counts), information, np.float32(0))}
    halves = [information_of(half) for half in relevance.halves]
    everything: dict[str, Search] = {
        RECENT: MostRecent(k),
        SAME_CATEGORY: SameCategory(k),
        **searches,
    }
    reliable = counts.min(axis=-1) >= relevance.config.min_count  # [R, C + 1, P]
    unreliable_allowed = k if most_unreliable is None else most_unreliable
    mapped = min(maps, len(relevance.categories))
    tally = _Tally(tuple(searches), (mapped, *counts.shape[1:3]))
    other_half = ByGrades(k, Grades(relevance, halves[0]))
    for begin in range(0, len(graded), batch_size):
        part = graded.take(np.arange(begin, min(begin + batch_size, len(graded))))
        histories = read_histories(store, part)
        known = relevance.place[histories.target_categories] >= 0  # [G, T]
        doubtful = _looked_up(~reliable, relevance, histories) & (histories.categories >= 0)[:, None, :]
        chosen = known & (doubtful.sum(axis=-1) <= unreliable_allowed)
        if chosen.any():
            _add(tally, histories, part, chosen, tables, relevance, everything, k)
            kept = other_half.keep(histories).columns
            grades = Grades(relevance, halves[1])(histories)
            ndcg = normalised(gain_of(grades, kept), ideal_gain(grades, k))[chosen]
            tally.ndcg.setdefault((INFORMATION, OTHER_HALF), []).append(ndcg)
        if progress is not None:
            progress(len(part))
    return _measured(tally, samples, graded, relevance, min_history, unreliable_allowed)


def _add(
    tally: _Tally,
    histories: Histories,
    samples: SampleSet,
    chosen: npt.NDArray[np.bool_],
    tables: Mapping[str, npt.NDArray[np.float32]],
    relevance: Relevance,
    searches: Mapping[str, Search],
    k: int,
) -> None:
    tally.users.append(np.broadcast_to(samples.users[:, None], chosen.shape)[chosen])
    lengths = (samples.ends - samples.begins)[:, None]
    kept = {name: search.keep(histories) for name, search in searches.items()}
    for name, table in tables.items():
        grades = Grades(relevance, table)(histories)
        ideal = ideal_gain(grades, k)
        gains = {search: gain_of(grades, found.columns) for search, found in kept.items()}
        gains[RANDOM] = expected_gain(grades, np.broadcast_to(lengths, chosen.shape), k)
        for search, gain in gains.items():
            tally.ndcg.setdefault((name, search), []).append(normalised(gain, ideal)[chosen])
    _map_attention(tally, histories, chosen, lengths, relevance, kept)


def _map_attention(
    tally: _Tally,
    histories: Histories,
    chosen: npt.NDArray[np.bool_],
    lengths: npt.NDArray[np.int64],
    relevance: Relevance,
    kept: Mapping[str, Kept],
) -> None:
    place = relevance.place[histories.target_categories]  # [G, T]
    mapped = chosen & (place >= 0) & (place < len(tally.behaviours))
    group, target = np.nonzero(mapped)
    shape = tally.behaviours.shape
    bins = relevance.config.bin_of(histories.positions)  # [L]
    own = np.maximum(histories.categories, 0) * shape[2] + bins  # [G, L]
    cells = place[group, target][:, None] * (shape[1] * shape[2]) + own[group]  # [M, L]
    real = histories.categories[group] >= 0
    np.add.at(tally.behaviours.reshape(-1), cells[real], 1)
    for name, weights in tally.weights.items():
        found = kept[name]
        assert found.weights is not None, "models weigh what they keep"
        columns = found.columns[group, target]  # [M, K]
        lift = found.weights[group, target] * lengths[group]
        at = np.take_along_axis(cells, np.maximum(columns, 0), axis=1)
        np.add.at(weights.reshape(-1), at[columns >= 0], lift[columns >= 0])


def _looked_up(table: npt.NDArray[AnyCell], relevance: Relevance, histories: Histories) -> npt.NDArray[AnyCell]:
    """[G, T, L] of a table [R, C + 1, P]; 0 of padding and for targets that are in none of its rows."""
    place = relevance.place[histories.target_categories]  # [G, T]
    bins = relevance.config.bin_of(histories.positions)  # [L]
    found = table[
        np.maximum(place, 0)[:, :, None], np.maximum(histories.categories, 0)[:, None, :], bins[None, None, :]
    ]
    found[~((place >= 0)[:, :, None] & (histories.categories >= 0)[:, None, :])] = 0
    return found


def _measured(
    tally: _Tally,
    samples: SampleSet,
    graded: SampleSet,
    relevance: Relevance,
    min_history: int,
    unreliable: int,
) -> Measured:
    asked = samples.targets.size
    if not tally.users:
        longest = int((samples.ends - samples.begins).max(initial=0))
        raise DataError(
            f"none of {asked:,} targets can be graded: their category needs {relevance.config.min_samples} training "
            f"samples, their history {min_history} behaviours (the longest has {longest}), all but {unreliable} of "
            f"them with counts of at least {relevance.config.min_count}; lower --min-samples, --min-history or "
            "--min-count"
        )
    behaviours = tally.behaviours
    return Measured(
        users=np.concatenate(tally.users),
        ndcg={name: np.concatenate(parts) for name, parts in tally.ndcg.items()},
        attention=Attention(
            categories=relevance.categories[: len(behaviours)],
            behaviours=behaviours,
            lifts={
                name: np.divide(total, behaviours, out=np.full(behaviours.shape, np.nan), where=behaviours > 0)
                for name, total in tally.weights.items()
            },
        ),
        asked=asked,
        too_short=asked - graded.targets.size,
    )
