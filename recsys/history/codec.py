"""Pack behaviours into 18 bytes each, so that fifty thousand of them are one Redis string and decode without a loop.

A record, little-endian:

    bytes  0-5   uint48   time, milliseconds since the Unix epoch
    bytes  6-13  int64    item id
    byte  14     uint8    EventType
    bytes 15-17  uint24   digest of the event id, 0 where none was given

An item's category is not in the record. It comes from the catalogue of the model that reads the history, so that there
is one truth about it: a recategorised item is right in every stored history as soon as a new model is.

Two records that are equal in all 18 bytes are the same event. Without event ids, two identical behaviours of one user
in one millisecond are therefore one; with ids, they are told apart, but for one pair in 16.8 million. A bulk load
numbers such repeats instead, so that a loaded history has as many events as the log.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from recsys.data.event_store import EventType
from recsys.errors import HistoryError

FORMAT = 2
"""First byte of a history: the layout of what follows it."""
HEADER = struct.Struct("<B7s3sB")
"""A history's header, little-endian: the format (uint8), its version (uint56), how many records follow (uint24), and
flags (uint8): 1 where the history holds what the event store has of the user."""
HEADER_BYTES = HEADER.size
SPARE_RECORDS = 256
"""Most records of zeros behind the last one, which later ones take the place of."""
RECORD = np.dtype(
    [
        ("time_low", "<u4"),
        ("time_high", "<u2"),
        ("item_id", "<i8"),
        ("type", "u1"),
        ("digest_low", "<u2"),
        ("digest_high", "u1"),
    ]
)
RECORD_BYTES = RECORD.itemsize
_ONE = struct.Struct("<IHqBHB")
"""RECORD once more, for one behaviour: numpy takes ten times as long to begin."""
MAX_TIME_MS = 2**48 - 1
"""Latest time that a record holds, in the year 10889."""
MAX_ITEM_ID = 2**63 - 1
DIGEST_BYTES = 3
FEW = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class EventBatch:
    """L behaviours of one user in the order in which they arrived."""

    item_ids: npt.NDArray[np.int64]
    """[L] item ids, from 0."""
    times_ms: npt.NDArray[np.int64]
    """[L] milliseconds since the Unix epoch, UTC."""
    types: npt.NDArray[np.integer[Any]]
    """[L] EventType numbers. Any integer type, so that a number from the wire that is no EventType can be reported."""
    event_ids: Sequence[str] | None = None
    """[L] the producer's own id of each event, "" where it has none; None where it has none at all."""

    def __post_init__(self) -> None:
        for name in ("item_ids", "times_ms", "types"):
            array = getattr(self, name)
            if array.ndim != 1 or array.dtype.kind not in "iu":
                raise ValueError(
                    f"{name} must be integers [L], got {array.dtype} {array.shape}; pass one number an event"
                )
        lengths = {"item_ids": len(self.item_ids), "times_ms": len(self.times_ms), "types": len(self.types)}
        if self.event_ids is not None:
            lengths["event_ids"] = len(self.event_ids)
        if len(set(lengths.values())) != 1:
            raise ValueError(
                f"the arrays of a batch must have one length, got {lengths}; pass one value an event in each"
            )

    def __len__(self) -> int:
        return len(self.item_ids)

    @classmethod
    def of(
        cls,
        item_ids: npt.ArrayLike,
        times_ms: npt.ArrayLike,
        types: npt.ArrayLike | None = None,
        event_ids: Sequence[str] | None = None,
    ) -> "EventBatch":
        """A batch from lists or arrays of one length L; `types` left out are clicks."""
        items = np.asarray(item_ids, dtype=np.int64)
        kinds = np.full(items.shape, EventType.CLICK) if types is None else np.asarray(types, dtype=np.int64)
        return cls(item_ids=items, times_ms=np.asarray(times_ms, dtype=np.int64), types=kinds, event_ids=event_ids)


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """How a history begins."""

    version: int
    count: int
    """Records that it holds."""
    joined: bool
    """Whether what the event store has of the user is among them."""

    @classmethod
    def of(cls, data: bytes, *, size: int, where: str) -> "Header":
        """The header that `data`, the beginning of `size` bytes `where`, holds; HistoryError where that is none."""
        capacity, torn = divmod(size - HEADER_BYTES, RECORD_BYTES)
        if len(data) >= HEADER_BYTES and data[0] == FORMAT and not torn:
            _, version, count, flags = HEADER.unpack_from(data)
            header = cls(
                version=int.from_bytes(version, "little"), count=int.from_bytes(count, "little"), joined=bool(flags & 1)
            )
            if header.count <= capacity:
                return header
        raise HistoryError(
            f"{where}: HISTORYFORMAT {size} bytes that open with {data[:1]!r}; the key holds something else than a "
            "history of this release; delete it and load it again"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Records:
    """L decoded records, in the order in which they are stored."""

    item_ids: npt.NDArray[np.int64]
    """[L] item ids."""
    times_ms: npt.NDArray[np.int64]
    """[L] milliseconds since the Unix epoch, UTC."""
    types: npt.NDArray[np.uint8]
    """[L] EventType numbers."""

    def __len__(self) -> int:
        return len(self.item_ids)


def digest_of(event_id: str) -> int:
    """24-bit BLAKE2b digest of `event_id`; 0 for "", and never 0 for anything else."""
    if not event_id:
        return 0
    return int.from_bytes(blake2b(event_id.encode(), digest_size=DIGEST_BYTES).digest(), "little") or 1


def faults(batch: EventBatch, *, latest_ms: int = MAX_TIME_MS) -> list[tuple[int, str]]:
    """Index and reason of every event that cannot be stored, ascending; `latest_ms` is the latest time believed."""
    if (
        _within(batch.item_ids, 0, MAX_ITEM_ID)
        and _within(batch.times_ms, 0, min(latest_ms, MAX_TIME_MS))
        and _within(batch.types, 0, max(EventType))
    ):
        return []
    negative = batch.item_ids < 0
    untimed = (batch.times_ms < 0) | (batch.times_ms > MAX_TIME_MS)
    future = batch.times_ms > latest_ms
    unknown = (batch.types < 0) | (batch.types > max(EventType))
    found: list[tuple[int, str]] = []
    for index in np.flatnonzero(negative | untimed | future | unknown).tolist():
        if negative[index]:
            reason = f"item_id must be 0 or more, got {batch.item_ids[index]}; map string keys to ids first"
        elif untimed[index]:
            reason = f"time_ms must be in [0, 2^48), got {batch.times_ms[index]}; send milliseconds since 1970, UTC"
        elif future[index]:
            reason = (
                f"time_ms must be at most {latest_ms}, got {batch.times_ms[index]}; correct the clock or the unit (ms)"
            )
        else:
            known = ", ".join(f"{kind.value} {kind.name}" for kind in EventType)
            reason = f"type must be one of {known}; got {batch.types[index]}"
        found.append((index, reason))
    return found


def _within(values: npt.NDArray[np.integer[Any]], lowest: int, highest: int) -> bool:
    """Whether all are; a few are looked at one by one, which takes a tenth of the time that numpy needs to begin."""
    if len(values) > FEW:
        return bool(values.min() >= lowest and values.max() <= highest)
    return all(lowest <= value <= highest for value in values.tolist())


def pack(batch: EventBatch) -> npt.NDArray[np.void]:
    """RECORD [L] of `batch`, in its order. Ranges are not checked: `faults` does that."""
    records = np.empty(len(batch), dtype=RECORD)
    records["time_low"] = batch.times_ms & 0xFFFF_FFFF
    records["time_high"] = batch.times_ms >> 32
    records["item_id"] = batch.item_ids
    records["type"] = batch.types
    if batch.event_ids is None:
        records["digest_low"], records["digest_high"] = 0, 0
    else:
        digests = np.fromiter(map(digest_of, batch.event_ids), dtype=np.uint32, count=len(batch))
        records["digest_low"] = digests & 0xFFFF
        records["digest_high"] = digests >> 16
    return records


def pack_one(batch: EventBatch) -> bytes:
    """The 18 bytes of a batch of one behaviour, whose ranges are not checked either."""
    time_ms, item_id, kind = batch.times_ms.item(), batch.item_ids.item(), batch.types.item()
    digest = digest_of(batch.event_ids[0]) if batch.event_ids is not None else 0
    return _ONE.pack(time_ms & 0xFFFF_FFFF, time_ms >> 32, item_id, kind, digest & 0xFFFF, digest >> 16)


def encode(batch: EventBatch) -> bytes:
    """18·L bytes of `batch`, in its order.

    Raises ValueError for the first event that a record cannot hold, with its index, field, value and remedy.
    """
    found = faults(batch)
    if found:
        index, reason = found[0]
        raise ValueError(f"event {index}: {reason}")
    return pack(batch).tobytes()


def decode(data: bytes | memoryview) -> Records:
    """What `encode` packed, without the digests: arrays [L] for 18·L bytes. ValueError where the length is no multiple
    of 18."""
    records = _records(data)
    # The time is six bytes; with the two behind them, which belong to the item, it is read at once.
    times = np.ndarray(len(records), dtype="<i8", buffer=records, strides=(RECORD_BYTES,))
    return Records(
        item_ids=records["item_id"].astype(np.int64),
        times_ms=(times & MAX_TIME_MS).astype(np.int64, copy=False),
        types=records["type"].copy(),
    )


def digests_in(data: bytes | memoryview) -> npt.NDArray[np.uint32]:
    """[L] 24-bit digests of the event ids that `encode` packed, 0 where none was given."""
    records = _records(data)
    digests: npt.NDArray[np.uint32] = records["digest_high"].astype(np.uint32)
    digests <<= np.uint32(16)
    digests |= records["digest_low"]
    return digests


def _records(data: bytes | memoryview) -> npt.NDArray[np.void]:
    if len(data) % RECORD_BYTES:
        raise ValueError(
            f"records must be a multiple of {RECORD_BYTES} bytes, got {len(data)}; pass them without the header"
        )
    return np.frombuffer(data, dtype=RECORD)
