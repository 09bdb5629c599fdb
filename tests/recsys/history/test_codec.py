"""The 18 bytes of a record, worked out by hand, and what cannot be put into them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.history.codec import (
    MAX_TIME_MS,
    RECORD_BYTES,
    EventBatch,
    decode,
    digest_of,
    digests_in,
    encode,
    faults,
)


def test_bytes_of_one_record_by_hand() -> None:
    # time 0x0102_0304_0506, item 0x1122_3344_5566_7788, PURCHASE = 4, no event id
    batch = EventBatch.of([0x1122334455667788], [0x010203040506], [4])
    expected = "06 05 04 03 02 01" + "88 77 66 55 44 33 22 11" + "04" + "00 00 00"
    assert encode(batch) == bytes.fromhex(expected)
    assert RECORD_BYTES == 18


def test_digest_is_the_first_three_bytes_of_blake2b() -> None:
    from hashlib import blake2b

    tail = encode(EventBatch.of([1, 2], [1, 2], [1, 1], ["order-17", ""]))
    assert tail[15:18] == blake2b(b"order-17", digest_size=3).digest()
    assert tail[33:36] == b"\0\0\0"
    assert digest_of("") == 0
    assert digest_of("order-17") == int.from_bytes(tail[15:18], "little")


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2**63 - 1), st.integers(0, MAX_TIME_MS), st.integers(0, 4), st.sampled_from(["", "a", "é"])
        ),
        max_size=20,
    )
)
def test_decoding_gives_back_what_was_encoded(events: list[tuple[int, int, int, str]]) -> None:
    items, times, types, ids = ([event[at] for event in events] for at in range(4))
    data = encode(EventBatch.of(items, times, types, ids))
    records = decode(data)
    assert records.item_ids.tolist() == items
    assert records.times_ms.tolist() == times
    assert records.types.tolist() == types
    assert digests_in(data).tolist() == [digest_of(event_id) for event_id in ids]
    assert (records.item_ids.dtype, records.times_ms.dtype, records.types.dtype) == (np.int64, np.int64, np.uint8)


@pytest.mark.parametrize(
    ("item", "time", "kind", "message"),
    [
        pytest.param(-1, 5, 1, r"event 1: item_id must be 0 or more, got -1; map", id="negative-item"),
        pytest.param(1, -5, 1, r"event 1: time_ms must be in \[0, 2\^48\), got -5; send", id="before-1970"),
        pytest.param(1, 2**48, 1, r"event 1: time_ms must be in .*, got 281474976710656; send", id="time-too-large"),
        pytest.param(1, 5, 9, r"event 1: type must be one of 0 UNSPECIFIED, 1 CLICK, .*; got 9", id="unknown-type"),
        pytest.param(1, 5, 257, r"type must be one of .*; got 257", id="type-that-would-wrap"),
    ],
)
def test_what_a_record_cannot_hold_is_named(item: int, time: int, kind: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode(EventBatch.of([1, item], [5, time], [1, kind]))


def test_faults_lists_every_bad_event_and_believes_no_future() -> None:
    batch = EventBatch.of([1, -1, 1, 1], [10, 10, 21, 20])
    found = faults(batch, latest_ms=20)
    assert [index for index, _ in found] == [1, 2]
    assert "at most 20, got 21" in found[1][1]


def test_arrays_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one length, got .*'times_ms': 1"):
        EventBatch.of([1, 2], [1])
    with pytest.raises(ValueError, match=r"'event_ids': 1"):
        EventBatch.of([1, 2], [1, 2], [1, 1], ["a"])


def test_arrays_of_fractions_or_tables_are_refused() -> None:
    ones = np.ones(1, dtype=np.int64)
    with pytest.raises(ValueError, match=r"times_ms must be integers \[L\], got float64"):
        EventBatch(item_ids=ones, times_ms=np.ones(1), types=ones)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"item_ids must be integers \[L\], got int64 \(1, 1\)"):
        EventBatch(item_ids=ones[None], times_ms=ones, types=ones)


def test_bytes_that_are_no_whole_records_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 18 bytes, got 19"):
        decode(b"x" * 19)
