"""Find numbers among many that are known, thousands at a time: where each stands in an ascending array.

A binary search reads the memory at seventeen places for one of 100,000 ids, and waits at most of them. Where ids lie
close together a table has the answer at one place; where they are spread evenly, as hashes are, their first bits say
nearly where.
"""

from typing import Protocol

import numpy as np
import numpy.typing as npt

ABSENT = -1
"""Stands for the place of a number that is not there."""
SPREAD = 8
"""A table may be so many times as long as the array."""
MOST_IN_BUCKET = 24
"""A bucket that holds more makes the others wait: then there is a binary search after all."""

Ids = npt.NDArray[np.int64]
Places = npt.NDArray[np.int64]


class Lookup(Protocol):
    """Finds numbers in one array."""

    def places_of(self, ids: Ids) -> Places:
        """[N] where each of `ids` [N] stands in the array, `ABSENT` for one that is not there."""
        ...


def lookup_of(known: Ids) -> Lookup:
    """What finds numbers in `known` [V], which ascends and holds none twice."""
    if len(known) == 0:
        return _Nothing()
    span = int(known[-1]) - int(known[0]) + 1
    if span <= SPREAD * len(known) + 1_024:
        return _Table(known)
    buckets = _Buckets(known)
    return buckets if buckets.most <= MOST_IN_BUCKET else _Search(known)


class _Nothing:
    def places_of(self, ids: Ids) -> Places:
        return np.full(ids.shape, ABSENT, dtype=np.int64)


class _Table:
    """The place of every number from the least to the greatest."""

    def __init__(self, known: Ids) -> None:
        self._least = known[0]
        self._places = np.full(int(known[-1]) - int(known[0]) + 1, ABSENT, dtype=np.int32)
        self._places[known - known[0]] = np.arange(len(known), dtype=np.int32)

    def places_of(self, ids: Ids) -> Places:
        # As unsigned, what is below the least is beyond the greatest, too.
        at = (ids - self._least).view(np.uint64)
        inside = at < np.uint64(len(self._places))
        return np.where(inside, self._places[np.where(inside, at, np.uint64(0))], ABSENT).astype(np.int64)


class _Buckets:
    """Where numbers begin that have the same first bits; one or two of them, if they are spread evenly."""

    def __init__(self, known: Ids) -> None:
        self._known = known
        span = int(known[-1]) - int(known[0])
        self._shift = max(0, span.bit_length() - (2 * len(known)).bit_length())
        first = self._bucket(known).astype(np.int64)
        counts = np.bincount(first, minlength=(span >> self._shift) + 1)
        self.most = int(counts.max())
        """Numbers in the fullest bucket."""
        self._begins = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)

    def places_of(self, ids: Ids) -> Places:
        flat = ids.ravel()
        inside = (flat >= self._known[0]) & (flat <= self._known[-1])
        bucket = np.where(inside, self._bucket(flat), np.uint64(0)).astype(np.int64)
        at, end = self._begins[bucket].astype(np.int64), self._begins[bucket + 1]
        # Numbers of a bucket are few, and most are the first: step on only where the one is less that stands there.
        left = np.flatnonzero(inside & (at < end))
        places = np.full(flat.shape, ABSENT, dtype=np.int64)
        while len(left):
            there = self._known[at[left]]
            found = left[there == flat[left]]
            places[found] = at[found]
            left = left[there < flat[left]]
            at[left] += 1
            left = left[at[left] < end[left]]
        return places.reshape(ids.shape)

    def _bucket(self, ids: Ids) -> npt.NDArray[np.uint64]:
        return (ids.view(np.uint64) - self._known[:1].view(np.uint64)) >> np.uint64(self._shift)


class _Search:
    def __init__(self, known: Ids) -> None:
        self._known = known

    def places_of(self, ids: Ids) -> Places:
        at = np.minimum(np.searchsorted(self._known, ids), len(self._known) - 1)
        return np.where(self._known[at] == ids, at, ABSENT)
