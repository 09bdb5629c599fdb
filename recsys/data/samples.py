"""Turn an event store into training and evaluation samples: a target, its negatives, and the history before it as a
view.

A sample group is one positive event and the negatives drawn for it; they share user, time and history. Histories are
(begin, end) into the store's flat arrays and never hold an event at or after their target.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from recsys.data.event_store import EventStore
from recsys.data.negatives import draw_negatives
from recsys.data.protocols import SPLITS, LeaveLastOut, Split, TimeSplit
from recsys.errors import ConfigError, DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleConfig:
    """Which events become targets, what they see and what they are compared with."""

    protocol: LeaveLastOut | TimeSplit
    """Which events are targets of which split."""
    max_history: int = 200
    """Longest history of a sample, in events; the most recent ones are kept."""
    negatives: int = 2
    """Negative items a positive, drawn by training-period frequency."""
    negatives_of: Literal["untouched", "all"] = "untouched"
    """Which items negatives are drawn from. Those that the user never touched, at any time, as the published protocols
    have it: scores then tell what a user touches from what not. `all` items: odds then tell p(item | user) / p(item),
    which is what ranking a whole catalogue needs, and nothing says what the user will touch after the split."""
    same_time: Literal["order", "exclude"] = "exclude"
    """What of the events that carry the target's own timestamp: `exclude` them, as a service that is asked at that
    moment would; or keep those before the target in the log's `order`, as the published protocols do."""
    seed: int = 0
    """Seed of the negatives."""

    def __post_init__(self) -> None:
        if self.max_history < 1:
            raise ConfigError(f"max_history must be at least 1 event, got {self.max_history}")
        if self.negatives < 1:
            raise ConfigError(f"negatives must be at least 1 an event, got {self.negatives}")
        if self.negatives_of not in ("untouched", "all"):
            raise ConfigError(f"negatives_of must be 'untouched' or 'all', got {self.negatives_of!r}")
        if self.same_time not in ("order", "exclude"):
            raise ConfigError(f"same_time must be 'order' or 'exclude', got {self.same_time!r}")
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed must be at least 0 and below 2**63, got {self.seed}")


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleSet:
    """G sample groups of T targets each, in flat arrays."""

    users: npt.NDArray[np.int32]
    """[G] user index."""
    begins: npt.NDArray[np.int64]
    """[G] first event of the history in the store's arrays."""
    ends: npt.NDArray[np.int64]
    """[G] one past the history's last event."""
    times: npt.NDArray[np.int64]
    """[G] time of the positive event, milliseconds since the Unix epoch."""
    targets: npt.NDArray[np.int32]
    """[G, T] item rows: the positive in column 0, then its negatives."""
    labels: npt.NDArray[np.uint8]
    """[G, T] 1 for the positive, 0 for a negative."""

    def __len__(self) -> int:
        return len(self.users)

    @property
    def targets_per_group(self) -> int:
        """T."""
        return int(self.targets.shape[1])

    def take(self, index: npt.NDArray[np.int64]) -> "SampleSet":
        """The groups at `index`, in that order."""
        return SampleSet(
            users=self.users[index],
            begins=self.begins[index],
            ends=self.ends[index],
            times=self.times[index],
            targets=self.targets[index],
            labels=self.labels[index],
        )


def make_samples(store: EventStore, config: SampleConfig, split: Split) -> SampleSet:
    """The sample groups of `split`, by user and then by time; the same for the same store, config and split.

    Raises DataError where the protocol leaves no target, with what it asked for.
    """
    positives = config.protocol.targets(store, split)
    if len(positives) == 0:
        raise DataError(
            f"no {split} targets in {store.directory}: {config.protocol} matches none of {len(store)} events of "
            f"{store.n_users} users; use a protocol with lower thresholds or more data"
        )
    users = np.searchsorted(store.offsets, positives, side="right") - 1
    ends = positives if config.same_time == "order" else _first_of_same_time(store, users, positives)
    begins = np.maximum(store.offsets[users], ends - config.max_history)
    frequency = negative_frequency(store, config.protocol)
    generator = np.random.default_rng([config.seed, SPLITS.index(split)])
    untouched = config.negatives_of == "untouched"
    negatives = draw_negatives(store, users, frequency, config.negatives, generator, untouched=untouched)
    labels = np.zeros((len(positives), 1 + config.negatives), dtype=np.uint8)
    labels[:, 0] = 1
    return SampleSet(
        users=users.astype(np.int32),
        begins=begins,
        ends=ends,
        times=store.times[positives],
        targets=np.concatenate([store.items[positives][:, None], negatives], axis=1),
        labels=labels,
    )


def negative_frequency(store: EventStore, protocol: LeaveLastOut | TimeSplit) -> npt.NDArray[np.int64]:
    """[V + 1] events of each item row that training may count: what negatives are drawn in proportion to."""
    return np.bincount(store.items[protocol.training_events(store)], minlength=store.catalogue.n_items + 1)


def _first_of_same_time(
    store: EventStore, users: npt.NDArray[np.int64], positives: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """For each event, the first event of its user that carries the same timestamp.

    A user's times ascend, so that it is found by halving, whatever a log puts into one day; only of events whose
    predecessor has their time is more of the store read.
    """
    begins, times = store.offsets[users], store.times[positives]
    shared = (positives > begins) & (store.times[np.maximum(positives - 1, 0)] == times)
    low, high, wanted = begins[shared], positives[shared] - 1, times[shared]
    while (low < high).any():
        middle = (low + high) // 2
        earlier = store.times[middle] < wanted
        low, high = np.where(earlier, middle + 1, low), np.where(earlier, high, middle)
    first = positives.copy()
    first[shared] = low
    return first
