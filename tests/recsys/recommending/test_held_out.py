"""Who is asked, what they had done before and what they took then; nothing of the answer is in a history."""

import numpy as np
import pytest

from recsys.data.protocols import LeaveLastOut, TimeSplit
from recsys.errors import ConfigError, DataError
from recsys.recommending.held_out import held_out

SPLIT = TimeSplit(validation_from_ms=100, test_from_ms=200, min_events=3, min_history=0, train_stride=1)


def told(asked):
    """User id → (rows of the history, rows of the targets, rows of those that are new)."""
    rows = asked.store.catalogue.rows_of
    return {
        asked.store.user_ids[int(user)]: (
            rows(asked.history(at)).tolist(),
            *(
                rows(wanted.item_ids[wanted.offsets[at] : wanted.offsets[at + 1]]).tolist()
                for wanted in (asked.wanted, asked.new)
            ),
        )
        for at, user in enumerate(asked.users)
    }


@pytest.fixture
def store(store_of):
    return store_of(
        {
            "a": [(1, 10), (2, 20), (2, 110), (3, 199), (4, 200), (2, 200), (4, 300)],
            "b": [(5, 210), (6, 220), (7, 230)],  # had done nothing before
            "c": [(8, 10), (8, 20), (9, 150)],  # does nothing in the test period
            "d": [(1, 10), (0, 150), (0, 250), (6, 260)],  # unknown items are no targets
        }
    )


def test_a_history_ends_where_the_split_begins(store):
    test = held_out(store, SPLIT, "test")
    assert told(test) == {"a": ([1, 2, 2, 3], [2, 4], [4]), "d": ([1, 0], [6], [6])}
    assert test.without_history == 1
    validation = held_out(store, SPLIT, "validation")
    assert told(validation) == {"a": ([1, 2], [2, 3], [3]), "c": ([8, 8], [9], [9]), "d": ([1], [], [])}
    assert validation.without_history == 0


def test_leaving_the_last_out_asks_each_at_their_own_time(store_of):
    protocol = LeaveLastOut(min_events=4, train_first=3, train_last=3)
    store = store_of({"a": [(1, 1), (2, 2), (3, 5), (4, 5)], "b": [(5, 7), (6, 8), (5, 9), (6, 10), (5, 11)]})
    # The history of a has no item of the moment that it is asked at.
    assert told(held_out(store, protocol, "test")) == {"a": ([1, 2], [4], [4]), "b": ([5, 6, 5, 6], [5], [])}
    assert told(held_out(store, protocol, "validation")) == {"a": ([1, 2], [3], [3]), "b": ([5, 6, 5], [6], [])}


@pytest.mark.parametrize("split", ["validation", "test"])
def test_no_history_reaches_its_moment(shop_store, split):
    protocol = TimeSplit(validation_from_ms=30_000, test_from_ms=38_000, min_history=0)
    asked = held_out(shop_store, protocol, split)
    begin = 30_000 if split == "validation" else 38_000
    assert len(asked.users) == 60
    assert (shop_store.times[asked.ends - 1] < begin).all()
    assert (shop_store.times[asked.ends] >= begin).all()
    for at, user in enumerate(asked.users):
        own = asked.wanted.item_ids[asked.wanted.offsets[at] : asked.wanted.offsets[at + 1]]
        until = 38_000 if split == "validation" else 10**9
        events = slice(shop_store.offsets[user], shop_store.offsets[user + 1])
        inside = (shop_store.times[events] >= begin) & (shop_store.times[events] < until)
        assert sorted(own.tolist()) == sorted({100 * int(row) for row in shop_store.items[events][inside]})
        seen = asked.seen[asked.wanted.offsets[at] : asked.wanted.offsets[at + 1]]
        assert seen.tolist() == np.isin(own, asked.history(at)).tolist()


def test_a_draw_of_users_keeps_their_answers(shop_store):
    protocol = TimeSplit(validation_from_ms=30_000, test_from_ms=38_000, min_history=0)
    everyone = told(held_out(shop_store, protocol, "test"))
    few = told(held_out(shop_store, protocol, "test", most_users=7, seed=3))
    assert len(few) == 7
    assert few.items() <= everyone.items()
    assert few.keys() != told(held_out(shop_store, protocol, "test", most_users=7, seed=4)).keys()


def test_what_cannot_be_asked_is_told(store):
    with pytest.raises(ConfigError, match="split must be validation or test"):
        held_out(store, SPLIT, "train")
    late = TimeSplit(validation_from_ms=1_000, test_from_ms=2_000, min_history=0)
    with pytest.raises(DataError, match=r"nobody to ask in .* and a test target"):
        held_out(store, late, "test")
