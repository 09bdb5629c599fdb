"""Keep a sample of what serving scored and which behaviours it retrieved for that, so that training sees the same.

Parquet files in one directory, one row a candidate:

    time            when it was scored (ms, UTC)
    call            score or recommend
    request_id      the caller's
    user_id, as_of  whose history, and before when it was read (null: all of it)
    model, index    name/version; index is null for score
    history_version, history_length     what was read
    item_id, score  the candidate
    retrieved_item_ids, retrieved_times_ms, retrieved_types, retrieved_weights
                    the behaviours that the model's search found for it, highest weight first

Files that would exceed the limit of the disk are removed, the oldest first. Several processes may share a directory.
"""

import fcntl
import os
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

PART_ROWS = 20_000
"""Rows of a file."""
PART_SECONDS = 60.0
"""How long a row waits for others before its file is written anyhow."""
TIME = pl.Datetime("ms", "UTC")
SCHEMA: dict[str, Any] = {
    "time": TIME,
    "call": pl.String,
    "request_id": pl.String,
    "user_id": pl.String,
    "as_of": TIME,
    "model": pl.String,
    "index": pl.String,
    "history_version": pl.Int64,
    "history_length": pl.Int64,
    "item_id": pl.Int64,
    "score": pl.Float32,
    "retrieved_item_ids": pl.List(pl.Int64),
    "retrieved_times_ms": pl.List(pl.Int64),
    "retrieved_types": pl.List(pl.UInt8),
    "retrieved_weights": pl.List(pl.Float32),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingLogConfig:
    """What of serving is kept."""

    directory: Path
    """Where the files are."""
    rate: float
    """Share of calls that are kept, 0 to 1."""
    max_bytes: int = 1 << 30
    """Most that all files together take of the disk."""

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            raise ValueError(f"rate must be in [0, 1], got {self.rate}; it is the share of calls that are kept")
        if self.max_bytes <= 0:
            raise ValueError(f"max_bytes must be positive, got {self.max_bytes}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedCall:
    """One call, as it was answered, with T candidates and up to K retrieved behaviours for each."""

    time_ms: int
    call: str
    request_id: str
    user_id: str
    as_of_ms: int | None
    model: str
    index: str | None
    history_version: int
    history_item_ids: npt.NDArray[np.int64]
    """[L] the history that was read, oldest first."""
    history_times_ms: npt.NDArray[np.int64]
    """[L]"""
    history_types: npt.NDArray[np.uint8]
    """[L]"""
    item_ids: npt.NDArray[np.int64]
    """[T] candidates."""
    scores: npt.NDArray[np.float32]
    """[T]"""
    found_positions: npt.NDArray[np.int64]
    """[T, K] what was retrieved, as indexes into the history; -1 for none."""
    found_weights: npt.NDArray[np.float32]
    """[T, K]"""


class ServingLog:
    """Takes sampled calls from any thread and writes them in files of some size."""

    def __init__(self, config: ServingLogConfig, *, random: Random) -> None:
        self.config = config
        self._random = random
        self._lock = threading.Lock()
        self._rows: list[pl.DataFrame] = []
        self._waiting = 0
        self._since_ms = 0

    def samples(self) -> bool:
        """Whether the call that asks is to be kept."""
        return self.config.rate > 0 and self._random.random() < self.config.rate

    def add(self, call: ServedCall) -> None:
        """Keep `call`; on the disk once a file is full, a minute has passed, or the log is closed."""
        rows = _rows(call)
        with self._lock:
            if not self._rows:
                self._since_ms = call.time_ms
            self._rows.append(rows)
            self._waiting += len(rows)
        self.write_old(call.time_ms)

    def write_old(self, now_ms: int) -> None:
        """Write what waits where it fills a file, or has waited for a minute."""
        full: list[pl.DataFrame] = []
        with self._lock:
            if self._waiting >= PART_ROWS or now_ms - self._since_ms >= PART_SECONDS * 1_000:
                full, self._rows, self._waiting = self._rows, [], 0
        if full:
            self._write(full)

    def close(self) -> None:
        """Write what is left."""
        with self._lock:
            left, self._rows, self._waiting = self._rows, [], 0
        if left:
            self._write(left)

    def _write(self, rows: Sequence[pl.DataFrame]) -> None:
        frame = pl.concat(rows)
        directory = self.config.directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        first = frame["time"].dt.epoch("ms")[0]
        # The name sorts by time.
        _replace(directory / f"part-{first:015d}-{uuid.uuid4().hex[:8]}.parquet", frame)
        self._prune()

    def _prune(self) -> None:
        sizes: list[tuple[Path, int]] = []
        for path in parts(self.config.directory):
            try:
                sizes.append((path, path.stat().st_size))
            except FileNotFoundError:  # another process has pruned it
                continue
        excess = sum(size for _, size in sizes) - self.config.max_bytes
        if excess <= 0:
            return
        with _no_other_removes(self.config.directory):
            for path, size in sizes:
                if excess <= 0:
                    break
                path.unlink(missing_ok=True)
                excess -= size


def parts(directory: Path) -> list[Path]:
    """The files of a serving log, the oldest first."""
    return sorted(directory.glob("part-*.parquet"))


def erase_served(directory: Path, until_ms: Mapping[str, int]) -> int:
    """Take the rows of each user in `until_ms` out that are not later than the time given there, or tell of behaviours
    that are not: a call that was answered meanwhile had read them before. Returns how many.

    Safe beside a service that writes and prunes: what it has pruned does not come back.
    """
    users = pl.DataFrame(
        {"user_id": list(until_ms), "until": list(until_ms.values())}, schema={"user_id": pl.String, "until": pl.Int64}
    )
    deleted = (pl.col("time").dt.epoch("ms") <= pl.col("until")) | (
        pl.col("retrieved_times_ms").list.min() <= pl.col("until")
    )
    erased = 0
    for path in parts(directory):
        with suppress(FileNotFoundError):
            rows = pl.read_parquet(path, glob=False)
            kept = (
                rows.join(users, on="user_id", how="left", maintain_order="left")
                .filter(~deleted.fill_null(value=False))
                .drop("until")
            )
            if len(kept) < len(rows) and _replace(path, kept, only_there=True):
                erased += len(rows) - len(kept)
    return erased


def export_served(directory: Path, path: Path) -> int:
    """Write all files of a serving log into the Parquet file `path`, in order of time; returns the rows.

    Without one, nothing is written. A file that is pruned meanwhile is left out.
    """
    frames = []
    for part in parts(directory):
        with suppress(FileNotFoundError):
            frames.append(pl.read_parquet(part, glob=False))
    if not frames:
        return 0
    frame = pl.concat(frames).sort("time", maintain_order=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, frame)
    return len(frame)


def _replace(path: Path, frame: pl.DataFrame, *, only_there: bool = False) -> bool:
    """Write `path` anew; whether it was, since with `only_there` one that has gone stays away."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        frame.write_parquet(partial)
        with _no_other_removes(path.parent):
            if only_there and not path.exists():
                return False
            partial.replace(path)
            return True
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _no_other_removes(directory: Path) -> Iterator[None]:
    """Hold up whoever would remove files of `directory` meanwhile, and wait for them."""
    handle = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _rows(call: ServedCall) -> pl.DataFrame:
    order = np.argsort(-call.found_weights, axis=1, kind="stable")
    positions = np.take_along_axis(call.found_positions, order, axis=1)  # [T, K]
    weights = np.take_along_axis(call.found_weights, order, axis=1)
    there = positions >= 0
    counts = there.sum(axis=1)
    at, bounds = positions[there], np.cumsum(counts)[:-1]
    count = len(call.item_ids)
    same: dict[str, Any] = {
        "time": call.time_ms,
        "call": call.call,
        "request_id": call.request_id,
        "user_id": call.user_id,
        "as_of": call.as_of_ms,
        "model": call.model,
        "index": call.index,
        "history_version": call.history_version,
        "history_length": len(call.history_item_ids),
    }
    retrieved: dict[str, npt.NDArray[Any]] = {
        "retrieved_item_ids": call.history_item_ids[at],
        "retrieved_times_ms": call.history_times_ms[at],
        "retrieved_types": call.history_types[at],
        "retrieved_weights": weights[there],
    }
    return pl.DataFrame(
        {
            **{
                name: pl.Series([value] * count, dtype=pl.Int64 if SCHEMA[name] == TIME else SCHEMA[name])
                for name, value in same.items()
            },
            "item_id": call.item_ids,
            "score": call.scores,
            **{name: [part.tolist() for part in np.split(values, bounds)] for name, values in retrieved.items()},
        }
    ).cast(pl.Schema(SCHEMA))


def _plain(name: str) -> Any:
    """What a column is made of before it is cast: milliseconds for times."""
    return pl.Int64 if SCHEMA[name] == TIME else SCHEMA[name]
