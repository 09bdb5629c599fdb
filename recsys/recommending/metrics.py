"""How good ranked lists are, user by user, and how much of a catalogue they show: what an evaluation reports."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys.errors import DataError

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """The items that each of Q users took, in flat arrays; a user's are distinct."""

    item_ids: Ids
    """[P] of all users, one behind the other."""
    offsets: Ids
    """[Q + 1] those of user q are item_ids[offsets[q] : offsets[q + 1]]."""

    @property
    def counts(self) -> Ids:
        """[Q] how many each took."""
        return np.diff(self.offsets)

    @property
    def users(self) -> Ids:
        """[P] whose each is."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def only(self, mask: Bools) -> "Wanted":
        """Those items alone that `mask` [P] says; all users stay, with nothing perhaps."""
        kept = np.cumsum(np.r_[0, mask])
        return Wanted(item_ids=self.item_ids[mask], offsets=kept[self.offsets])

    def take(self, users: Ids) -> "Wanted":
        """Some users [Q'], ascending."""
        mask = np.zeros(len(self.counts), dtype=bool)
        mask[users] = True
        return Wanted(item_ids=self.item_ids[mask[self.users]], offsets=np.r_[0, np.cumsum(self.counts[users])])


def hits(ranked: Ids, wanted: Wanted) -> Bools:
    """[Q, N] which places of the lists `ranked` [Q, N], best first and −1 where they end, hold what the user wanted.

    DataError where there are not as many lists as users.
    """
    if ranked.ndim != 2 or len(ranked) != len(wanted.counts):
        raise DataError(f"ranked must be [{len(wanted.counts)}, N], a list a user, got {ranked.shape}")
    known, numbers = np.unique(wanted.item_ids, return_inverse=True)
    if not len(known):
        return np.zeros(ranked.shape, dtype=bool)
    at = np.minimum(np.searchsorted(known, ranked), len(known) - 1)
    pairs = np.arange(len(ranked))[:, None] * len(known) + at
    return np.asarray((known[at] == ranked) & np.isin(pairs, wanted.users * len(known) + numbers))


def recall_at(n: int, found: Bools, counts: Ids) -> Floats:
    """[Q] share of what a user wanted, `counts` [Q] items, that is among the first n of `found` [Q, N]; NaN of nothing.

    A user who took more than n items cannot reach 1.
    """
    return _over(found[:, :n].sum(axis=1), counts)


def hit_rate_at(n: int, found: Bools, counts: Ids) -> Floats:
    """[Q] 1 where any of the first n is wanted, else 0; NaN for a user who wanted nothing."""
    return np.where(counts > 0, found[:, :n].any(axis=1).astype(np.float64), np.nan)


def ndcg_at(n: int, found: Bools, counts: Ids) -> Floats:
    """[Q] DCG over that of the best order of n places, a gain of 1 / log2(1 + place) each; NaN of nothing wanted."""
    gains = 1 / np.log2(np.arange(n) + 2)
    best = np.r_[0.0, np.cumsum(gains)][np.minimum(counts, n)]
    width = min(n, found.shape[1])
    return _over(found[:, :width] @ gains[:width], best)


def coverage_at(n: int, ranked: Ids, n_items: int) -> float:
    """Share of a catalogue of `n_items` that stands among the first n of any list of `ranked` [Q, N]."""
    shown = ranked[:, :n]
    return len(np.unique(shown[shown >= 0])) / n_items if n_items else float("nan")


@dataclass(frozen=True, kw_only=True, slots=True)
class Mean:
    """A mean over users and how far it may be off because other users could have come."""

    value: float
    error: float
    """Standard error; NaN of a single user."""


def mean_over_users(values: Floats) -> Mean:
    """The mean of `values` [Q], and its standard error: the users' standard deviation over √Q. NaN without a user."""
    count = len(values)
    if count == 0:
        return Mean(value=float("nan"), error=float("nan"))
    deviation = float(values.std(ddof=1)) if count > 1 else float("nan")
    return Mean(value=float(values.mean()), error=deviation / count**0.5)


def _over(part: npt.NDArray[np.generic], whole: npt.NDArray[np.generic]) -> Floats:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=np.asarray(whole > 0))  # type: ignore[operator]
