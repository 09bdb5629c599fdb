"""Say which events of a store are training, validation and test targets."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from recsys.data.event_store import EventStore
from recsys.errors import ConfigError

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaveLastOut:
    """The published protocol of Taobao and Tmall: the last event tests, the one before validates, earlier ones
    train."""

    kind: Literal["leave-last-out"] = "leave-last-out"
    """Tells the protocols apart in a saved configuration."""
    min_events: int = 210
    """Users with fewer events are left out."""
    train_first: int = 3
    """Distance of the latest training target from the end, in events."""
    train_last: int = 93
    """Distance of the earliest training target from the end, in events."""
    train_stride: int = 5
    """Events from one training target to the next."""

    def __post_init__(self) -> None:
        if not 3 <= self.train_first <= self.train_last < self.min_events:
            raise ConfigError(
                "leave-last-out needs 3 <= train_first <= train_last < min_events, "
                f"got {self.train_first}, {self.train_last}, {self.min_events}"
            )
        if self.train_stride < 1:
            raise ConfigError(f"train_stride must be at least 1 event, got {self.train_stride}")

    def targets(self, store: EventStore, split: Split) -> npt.NDArray[np.int64]:
        """Ascending positions of the split's targets in the store's arrays."""
        ends = store.offsets[1:][np.diff(store.offsets) >= self.min_events]
        if split == "test":
            return ends - 1
        if split == "validation":
            return ends - 2
        back = np.arange(self.train_first, self.train_last + 1, self.train_stride)[::-1]
        return (ends[:, None] - back).reshape(-1)

    def asked_at(self, store: EventStore, split: Split, targets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:  # noqa: ARG002 - one signature for both
        """[P] when a service would be asked for each of `targets` [P]: its own time, milliseconds since the epoch."""
        return np.asarray(store.times[targets])

    def training_events(self, store: EventStore) -> npt.NDArray[np.bool_]:
        """[E] the events that training may count: all but each user's last two."""
        seen = np.ones(len(store), dtype=bool)
        for back in (1, 2):
            long_enough = np.diff(store.offsets) >= back
            seen[store.offsets[1:][long_enough] - back] = False
        return seen


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeSplit:
    """Train on what came before a date, validate up to a second one, test on the rest: what a service will meet."""

    kind: Literal["time-split"] = "time-split"
    """Tells the protocols apart in a saved configuration."""
    validation_from_ms: int
    """First time of the validation period, milliseconds since the Unix epoch."""
    test_from_ms: int
    """First time of the test period, milliseconds since the Unix epoch."""
    min_events: int = 30
    """Users with fewer events are left out."""
    min_history: int = 20
    """Events with fewer earlier ones of the same user are no targets."""
    train_stride: int = 3
    """Every how many of a user's training targets is used."""

    def __post_init__(self) -> None:
        if self.validation_from_ms >= self.test_from_ms:
            raise ConfigError(
                f"validation_from_ms must be before test_from_ms, got {self.validation_from_ms} and {self.test_from_ms}"
            )
        if self.min_history < 0 or self.train_stride < 1:
            raise ConfigError(
                "min_history must be at least 0 and train_stride at least 1, "
                f"got {self.min_history} and {self.train_stride}"
            )

    def targets(self, store: EventStore, split: Split) -> npt.NDArray[np.int64]:
        """Ascending positions of the split's targets in the store's arrays."""
        lengths = np.diff(store.offsets)
        position = np.arange(len(store)) - np.repeat(store.offsets[:-1], lengths)  # index within the user
        eligible = (position >= self.min_history) & (np.repeat(lengths, lengths) >= self.min_events)
        times = store.times[:]
        if split == "train":
            eligible &= times < self.validation_from_ms
            return np.flatnonzero(eligible & ((position - self.min_history) % self.train_stride == 0))
        if split == "validation":
            eligible &= (times >= self.validation_from_ms) & (times < self.test_from_ms)
        else:
            eligible &= times >= self.test_from_ms
        return np.flatnonzero(eligible)

    def asked_at(self, store: EventStore, split: Split, targets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """[P] when a service would be asked for each of `targets` [P]: as the split begins, milliseconds since the
        epoch; training's each at its own time."""
        if split == "train":
            return np.asarray(store.times[targets])
        begin = self.validation_from_ms if split == "validation" else self.test_from_ms
        return np.full(len(targets), begin, dtype=np.int64)

    def training_events(self, store: EventStore) -> npt.NDArray[np.bool_]:
        """[E] the events that training may count: those before the validation period."""
        return np.asarray(store.times[:] < self.validation_from_ms)
