"""Draw negative items by popularity: of all, or never one that the user ever touched."""

import numpy as np
import numpy.typing as npt

from recsys.data.event_store import EventStore
from recsys.errors import DataError

_USERS_AT_ONCE = 4_096
_MOST_ROUNDS = 200


def draw_negatives(
    store: EventStore,
    users: npt.NDArray[np.int64],
    frequency: npt.NDArray[np.int64],
    count: int,
    generator: np.random.Generator,
    *,
    untouched: bool = True,
) -> npt.NDArray[np.int32]:
    """[G, count] item rows for the G ascending `users`, each drawn with probability proportional to `frequency` [V +
    1].

    With `untouched`, a drawn item that the user touched, at any time, is drawn again. Draws of one group may repeat an
    item. Raises DataError for a user who touched practically everything that can be drawn.
    """
    weights = frequency.astype(np.float64)
    weights[0] = 0.0
    if weights.sum() == 0:
        raise DataError("no item can be drawn as a negative: the training period has no events")
    cumulative = np.cumsum(weights)
    cumulative /= cumulative[-1]  # ends at exactly 1, so that no draw falls behind the last row
    drawn = np.searchsorted(cumulative, generator.random((len(users), count)), side="right").astype(np.int32)
    if not untouched:
        return drawn
    n_rows = len(frequency)
    distinct, first_group = np.unique(users, return_index=True)
    bounds = np.append(first_group, len(users))
    for first in range(0, len(distinct), _USERS_AT_ONCE):
        some = distinct[first : first + _USERS_AT_ONCE]
        part = slice(bounds[first], bounds[first + len(some)])
        touched = _touched_pairs(store, some, n_rows)
        keys = users[part, None] * n_rows  # [g, 1]
        block = drawn[part]
        again = _among(keys + block, touched)
        for _ in range(_MOST_ROUNDS):
            if not again.any():
                break
            redrawn = np.searchsorted(cumulative, generator.random(int(again.sum())), side="right")
            block[again] = redrawn
            again[again] = _among(np.broadcast_to(keys, again.shape)[again] + redrawn, touched)
        else:
            user = int(users[part][np.flatnonzero(again.any(axis=1))[0]])
            raise DataError(
                f"user {store.user_ids[user]!r} touched so many items that {_MOST_ROUNDS} draws "
                "found no negative; leave the user out or enlarge the catalogue"
            )
    return drawn


def _touched_pairs(store: EventStore, users: npt.NDArray[np.int64], n_rows: int) -> npt.NDArray[np.int64]:
    """Ascending `user * n_rows + item row` of all events of `users`."""
    begins, ends = store.offsets[users], store.offsets[users + 1]
    lengths = ends - begins
    at = np.arange(lengths.sum()) + np.repeat(begins - (np.cumsum(lengths) - lengths), lengths)
    pairs: npt.NDArray[np.int64] = np.repeat(users, lengths) * n_rows + store.items[at]
    pairs.sort()
    return pairs


def _among(values: npt.NDArray[np.int64], ascending: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which of `values` (any shape) are in `ascending`."""
    if len(ascending) == 0:
        return np.zeros(values.shape, dtype=bool)
    at = np.searchsorted(ascending, values)
    return np.asarray(ascending[np.minimum(at, len(ascending) - 1)] == values)
