"""Draw negative items by popularity, never one that the user ever touched."""

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
) -> npt.NDArray[np.int32]:
    """[G, count] item rows for the G ascending `users`, each drawn with probability proportional to `frequency` [V +
    1].

    A drawn item that the user touched, at any time, is drawn again. Draws of one group may repeat an item. Raises
    DataError for a user who touched practically everything that can be drawn.
    """
    weights = frequency.astype(np.float64)
    weights[0] = 0.0
    if weights.sum() == 0:
        raise DataError("no item can be drawn as a negative: the training period has no events")
    cumulative = np.cumsum(weights)
    cumulative /= cumulative[-1]  # ends at exactly 1, so that no draw falls behind the last row
    drawn = np.searchsorted(cumulative, generator.random((len(users), count)), side="right").astype(np.int32)
    n_rows = len(frequency)
    for first in range(0, store.n_users, _USERS_AT_ONCE):
        last = min(first + _USERS_AT_ONCE, store.n_users)
        part = slice(*np.searchsorted(users, [first, last]))
        if part.start == part.stop:
            continue
        touched = _touched_pairs(store, first, last, n_rows)
        keys = users[part, None] * n_rows  # [g, 1]
        block = drawn[part]
        for _ in range(_MOST_ROUNDS):
            again = np.isin(keys + block, touched)
            if not again.any():
                break
            block[again] = np.searchsorted(cumulative, generator.random(int(again.sum())), side="right")
        else:
            user = int(users[part][np.flatnonzero(again.any(axis=1))[0]])
            raise DataError(
                f"user {store.user_ids[user]!r} touched so many items that {_MOST_ROUNDS} draws "
                "found no negative; leave the user out or enlarge the catalogue"
            )
    return drawn


def _touched_pairs(store: EventStore, first: int, last: int, n_rows: int) -> npt.NDArray[np.int64]:
    """Unique `user * n_rows + item row` of the users first … last - 1."""
    begin, end = store.offsets[first], store.offsets[last]
    owners = np.repeat(np.arange(first, last), np.diff(store.offsets[first : last + 1]))
    return np.unique(owners * n_rows + store.items[begin:end])
