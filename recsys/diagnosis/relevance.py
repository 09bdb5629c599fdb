"""How much a behaviour tells of a target, by its category and its position: mutual information, counted on training
samples, as the ground truth that a search is held against (section 4.3 of arXiv 2410.02604)."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from recsys.data.event_store import EventStore
from recsys.data.samples import SampleSet
from recsys.errors import ConfigError, DataError

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_MOST_CELLS = 1 << 24
"""Counts held of each half of the users; of more categories, those with the most samples are taken."""
_AT_ONCE = 1 << 20
"""Behaviours that are counted at once, over all targets."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RelevanceConfig:
    """What is counted, and which counts are enough."""

    bins: tuple[int, ...] = (1, 6, 21, 51, 101)
    """First position of each bin, 1 being the most recent behaviour; the last bin holds everything older. The paper
    counts each position by itself, which takes millions of samples."""
    min_samples: int = 700
    """Fewest training samples of a target's category, as published."""
    min_count: int = 50
    """Fewest behaviours of a category in a bin, beside positives and beside negatives, for a count to be relied on, as
    published."""

    def __post_init__(self) -> None:
        if not self.bins or self.bins[0] != 1 or any(np.diff(self.bins) < 1):
            raise ConfigError(f"bins must be ascending positions that begin with 1, got {list(self.bins)}")
        for name in ("min_samples", "min_count"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")

    def bin_of(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Number of the bin that each position, at least 1, lies in."""
        return np.searchsorted(np.array(self.bins), positions, side="right") - 1

    def bin_names(self) -> list[str]:
        """Such as 6–20, and 101– for the last."""
        ends = [f"{begin - 1}" for begin in self.bins[1:]]
        return [
            str(begin) if end == str(begin) else f"{begin}–{end}"
            for begin, end in zip(self.bins, [*ends, ""], strict=True)
        ]


def mutual_information(positive: Counts, negative: Counts, all_positive: Counts, all_negative: Counts) -> Floats:
    """I(X; Y) in bits: Y is whether the target is a positive, X whether the behaviour is of the category asked about.

    `positive` and `negative` count behaviours of that category beside positives and negatives, `all_…` those of any;
    shapes broadcast. Without behaviours it is 0. It is as large where such behaviours speak against a target as where
    they speak for it, and where they say nothing it is about 1/(2·ln 2·n) for n independent counts, not 0.
    """
    parts = np.broadcast_arrays(positive, negative, all_positive - positive, all_negative - negative)
    table = np.stack(parts).astype(np.float64).reshape(2, 2, *parts[0].shape)  # [X, Y, …]
    everything = table.sum(axis=(0, 1))
    expected = table.sum(axis=0, keepdims=True) * table.sum(axis=1, keepdims=True)  # times `everything`
    ratio = np.divide(table * everything, expected, out=np.ones(table.shape), where=table > 0)
    bits = (table * np.log2(ratio)).sum(axis=(0, 1))
    return np.asarray(np.maximum(np.divide(bits, everything, out=np.zeros(bits.shape), where=everything > 0), 0.0))


@dataclass(frozen=True, kw_only=True, slots=True)
class Relevance:
    """What was counted: R target categories, C + 1 behaviour categories (row 0: none), P bins of positions."""

    config: RelevanceConfig
    categories: npt.NDArray[np.int64]
    """[R] category rows of targets with enough samples, most samples first."""
    place: npt.NDArray[np.int64]
    """[C + 1] index into `categories` of each category row; -1 of those with too few samples."""
    samples: Counts
    """[R] training samples of each."""
    halves: tuple[Counts, Counts]
    """[R, C + 1, P, 2] behaviours beside negatives and positives, of every other user each."""

    @property
    def counts(self) -> Counts:
        """[R, C + 1, P, 2] of all users."""
        return self.halves[0] + self.halves[1]


def information_of(counts: Counts) -> npt.NDArray[np.float32]:
    """[R, C + 1, P] mutual information, bits, of `counts` [R, C + 1, P, 2]."""
    found = np.empty(counts.shape[:-1], dtype=np.float32)
    for row, of_target in enumerate(counts):  # one at a time, since the arithmetic takes many times the counts' memory
        everything = of_target.sum(axis=0)  # [P, 2]
        found[row] = mutual_information(
            *(of_target[..., 1], of_target[..., 0]), *(everything[..., 1], everything[..., 0])
        )
    return found


def speaks_for(counts: Counts) -> npt.NDArray[np.bool_]:
    """[R, C + 1, P] where a behaviour makes a positive more probable than an average one does, of `counts` [R, C + 1,
    P, 2]."""
    totals = counts.sum(axis=1, keepdims=True)
    # x_p / x > t_p / t, without dividing by what may be 0.
    return np.asarray(counts[..., 1] * totals.sum(axis=-1) > totals[..., 1] * counts.sum(axis=-1))


def count_relevance(
    store: EventStore,
    samples: SampleSet,
    config: RelevanceConfig,
    *,
    progress: Callable[[int], None] | None = None,
) -> Relevance:
    """Count behaviours by the target's category, their own category, the bin of their position and the label.

    `samples` are those of training. DataError where no category of a target has enough of them. Memory is bounded;
    `progress` is called with the groups that were counted.
    """
    categories_of = store.catalogue.category_rows
    n_categories = store.catalogue.n_categories + 1
    frequency = np.bincount(categories_of[samples.targets].reshape(-1), minlength=n_categories)
    frequency[0] = 0  # a target without a category
    cells = n_categories * len(config.bins) * 2
    categories = np.argsort(-frequency, kind="stable")[: max(1, _MOST_CELLS // cells)]
    categories = categories[frequency[categories] >= config.min_samples]
    if not len(categories):
        raise DataError(
            f"no category of a target has {config.min_samples} training samples in {store.directory}, the most is "
            f"{frequency.max(initial=0)}; lower --min-samples, or use more data"
        )
    place = np.full(n_categories, -1, dtype=np.int64)
    place[categories] = np.arange(len(categories))
    halves = tuple(np.zeros((len(categories), *(n_categories, len(config.bins), 2)), dtype=np.int64) for _ in range(2))
    lengths = samples.ends - samples.begins
    for begin, end in _parts(lengths * samples.targets_per_group):
        part = slice(begin, end)
        group = np.repeat(np.arange(end - begin), lengths[part])  # [E] which group each behaviour is of
        position = np.cumsum(lengths[part])[group] - np.arange(len(group))  # [E] 1 = the most recent
        source = samples.ends[part][group] - position
        own = categories_of[store.items[source]] * len(config.bins) + config.bin_of(position)  # [E]
        target = place[categories_of[samples.targets[part]]]  # [G, T]
        for column in range(samples.targets_per_group):
            of, label = target[group, column], samples.labels[part][group, column]
            cell = (of * (n_categories * len(config.bins)) + own) * 2 + label
            for half, counts in enumerate(halves):
                counted = (of >= 0) & (samples.users[part][group] % 2 == half)
                np.add.at(counts.reshape(-1), cell[counted], 1)
        if progress is not None:
            progress(end - begin)
    return Relevance(
        config=config, categories=categories, place=place, samples=frequency[categories], halves=(halves[0], halves[1])
    )


def _parts(sizes: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Bounds of parts of at most `_AT_ONCE` in all, or of one group that alone is larger."""
    number = np.cumsum(sizes) // _AT_ONCE
    bounds = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(sizes)]
    return [(begin, end) for begin, end in pairwise(bounds) if end > begin]
