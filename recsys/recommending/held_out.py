"""Ask what users did next: each user's history up to a moment, and what they took after it, as a split holds it out."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys.data.event_store import EventStore
from recsys.data.protocols import LeaveLastOut, Split, TimeSplit
from recsys.errors import ConfigError, DataError
from recsys.recommending.metrics import Wanted

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOut:
    """Q users, what they had done when they were asked, and what they took then."""

    store: EventStore
    users: Ids
    """[Q] user index, ascending."""
    ends: Ids
    """[Q] one past the last event of each history in the store's arrays."""
    wanted: Wanted
    """What each took then; a user's items are distinct, whether known from the history or not."""
    seen: npt.NDArray[np.bool_]
    """[P] which of these are in the user's history."""
    without_history: int
    """Users with targets who had done nothing before; they are left out."""

    def history(self, at: int) -> Ids:
        """Item ids [L] of what user number `at` had done, oldest first."""
        begin = self.store.offsets[self.users[at]]
        return self.store.catalogue.item_ids[self.store.items[begin : self.ends[at]]]

    @property
    def new(self) -> Wanted:
        """What each took for the first time."""
        return self.wanted.only(~self.seen)


def held_out(
    store: EventStore,
    protocol: LeaveLastOut | TimeSplit,
    split: Split,
    *,
    most_users: int | None = None,
    seed: int = 0,
) -> HeldOut:
    """The users of `split`: a history holds the events strictly before the user is asked, targets are the split's own.

    Of more than `most_users`, so many are drawn. Raises ConfigError for the training split, whose users are asked many
    times; DataError where nobody is left.
    """
    if split == "train":
        raise ConfigError("split must be validation or test: of the training part a model knows the answers")
    targets = protocol.targets(store, split)
    owners = np.searchsorted(store.offsets, targets, side="right") - 1
    asked_at = protocol.asked_at(store, split, targets)
    # Targets ascend by user, and all of a user's have one moment.
    users, first = np.unique(owners, return_index=True)
    ends = np.array(
        [store.history(user, before_ms=moment).stop for user, moment in zip(users, asked_at[first], strict=True)],
        dtype=np.int64,
    )
    asked = ends > store.offsets[users]
    without_history = int(len(users) - asked.sum())
    if most_users is not None and asked.sum() > most_users:
        drawn = np.random.default_rng(seed).choice(np.flatnonzero(asked), most_users, replace=False)
        asked = np.isin(np.arange(len(users)), drawn)
    users, ends = users[asked], ends[asked]
    if not len(users):
        raise DataError(
            f"nobody to ask in {store.directory}: {protocol} leaves no user with a history and a {split} target"
        )
    pairs = np.unique(_pairs(store, targets, owners)[np.isin(owners, users)])
    owner, rows = np.divmod(pairs, store.catalogue.n_items + 1)
    pairs, owner, rows = pairs[rows > 0], owner[rows > 0], rows[rows > 0]  # nobody can be shown an unknown item
    counts = np.bincount(np.searchsorted(users, owner), minlength=len(users))
    lengths = ends - store.offsets[users]
    before = np.arange(lengths.sum()) + np.repeat(ends - np.cumsum(lengths), lengths)
    return HeldOut(
        store=store,
        users=users,
        ends=ends,
        wanted=Wanted(item_ids=store.catalogue.item_ids[rows], offsets=np.r_[0, np.cumsum(counts)]),
        seen=np.isin(pairs, _pairs(store, before, np.repeat(users, lengths))),
        without_history=without_history,
    )


def _pairs(store: EventStore, events: Ids, owners: Ids) -> Ids:
    """One number for each (user, item row) of some events."""
    return owners.astype(np.int64) * (store.catalogue.n_items + 1) + store.items[events]
