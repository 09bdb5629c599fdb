"""Numbers are found where a binary search would find them, however they lie."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.data.lookup import ABSENT, lookup_of

INT64 = np.iinfo(np.int64)


def expected(known, ids):
    places = {int(number): place for place, number in enumerate(known)}
    return [places.get(int(number), ABSENT) for number in ids]


def check(known, ids):
    known, ids = np.array(known, dtype=np.int64), np.array(ids, dtype=np.int64)
    assert lookup_of(known).places_of(ids).tolist() == expected(known, ids)


@pytest.mark.parametrize(
    ("known", "kind"),
    [
        pytest.param(np.arange(0), "_Nothing", id="none"),
        pytest.param([7], "_Table", id="one"),
        pytest.param(np.arange(5, 20_000, 3), "_Table", id="close together"),
        pytest.param(np.arange(-50, 50), "_Table", id="around zero"),
        pytest.param(np.unique(np.random.default_rng(0).integers(0, 2**63 - 1, 20_000)), "_Buckets", id="hashes"),
        pytest.param(
            np.unique(np.random.default_rng(1).integers(INT64.min, INT64.max, 20_000)), "_Buckets", id="of both signs"
        ),
        pytest.param([INT64.min, -1, 0, INT64.max], "_Buckets", id="the ends of the range"),
        pytest.param([*range(10_000), 2**62], "_Search", id="crowded at one end"),
    ],
)
def test_all_are_found_and_nothing_else(known, kind):
    known = np.array(known, dtype=np.int64)
    assert type(lookup_of(known)).__name__ == kind
    near = np.concatenate([known, np.clip(known, None, INT64.max - 1) + 1, np.clip(known, INT64.min + 1, None) - 1])
    check(known, np.concatenate([near, [INT64.min, INT64.max, 0, -1]]))


numbers = st.integers(INT64.min, INT64.max) | st.integers(-100, 100)


@given(st.sets(numbers, max_size=50), st.lists(numbers, max_size=50))
def test_as_a_binary_search_would(known, ids):
    check(sorted(known), [*ids, *known])


def test_shapes_are_kept():
    known = np.array([2**61, 2**62], dtype=np.int64)
    assert lookup_of(known).places_of(np.array([[2**62, 1], [3, 2**61]], dtype=np.int64)).tolist() == [
        [1, ABSENT],
        [ABSENT, 0],
    ]
    assert lookup_of(np.arange(4)).places_of(np.zeros((2, 0), dtype=np.int64)).shape == (2, 0)
