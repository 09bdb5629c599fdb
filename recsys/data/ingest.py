"""Turn an event log into an event store, in memory that does not grow with the log."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from recsys.data.event_store import MANIFEST_FILE, EventStore, EventType, StoreManifest
from recsys.data.sources import SOURCES, ColumnsOptions, SourceFormat
from recsys.data.sources.columns import has_quotes
from recsys.data.sources.files import estimated_rows, reading
from recsys.data.staging import staged_directory
from recsys.data.store_writer import BATCH_ROWS, PARTITION_EVENTS, Progress, write_store_files
from recsys.errors import ConfigError, SourceError, StoreError

_EXAMPLES = 3
_SPOOLED = ("row", "user", "item", "category", "time_ms", "type")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejection:
    """Rows that could not be used, all for one reason."""

    reason: str
    rows: int
    """How many there are."""
    examples: tuple[int, ...]
    """Numbers of up to three of them, from 1, a header not counted."""

    def __str__(self) -> str:
        which = ", ".join(map(str, self.examples))
        return f"{self.reason}: {self.rows:,} (row {which}{', …' if self.rows > len(self.examples) else ''})"


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportReport:
    """What became of every row of a log."""

    rows_read: int
    rows_kept: int
    """Rows that became events."""
    rows_filtered: int
    """Good rows of an event type that was not asked for."""
    rejections: tuple[Rejection, ...] = ()
    """Rows that could not be used, by reason, the most frequent first."""
    event_types: Mapping[str, int] = field(default_factory=dict)
    """Events in the store by type."""
    n_users: int
    n_items: int
    n_categories: int
    first_time_ms: int
    """Time of the earliest event, milliseconds since the Unix epoch; 0 without events."""
    last_time_ms: int
    """Time of the latest event, milliseconds since the Unix epoch; 0 without events."""
    items_with_several_categories: int
    """Items that the log puts into more than one category; each went to the one it has most often."""
    items_without_category: int
    """Items that the log gives no category at all."""

    @property
    def rows_rejected(self) -> int:
        """Rows that could not be used."""
        return sum(rejection.rows for rejection in self.rejections)


@dataclass(slots=True)
class _Tally:
    """Counts that grow while the log is read."""

    read: int = 0
    filtered: int = 0
    types: Counter[int] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[int]] = field(default_factory=dict)

    def reject(self, bad: pl.DataFrame) -> None:
        groups = bad.group_by("reason").agg(pl.len().alias("rows"), pl.col("row").bottom_k(_EXAMPLES).alias("examples"))
        for reason, rows, examples in groups.iter_rows():
            self.rejected[reason] += rows
            self.examples[reason] = sorted([*self.examples.get(reason, []), *examples])[:_EXAMPLES]

    def rejections(self) -> tuple[Rejection, ...]:
        ranked = sorted(self.rejected.items(), key=lambda pair: (-pair[1], pair[0]))
        return tuple(Rejection(reason=reason, rows=n, examples=tuple(self.examples[reason])) for reason, n in ranked)


def ingest(
    format: str,
    path: Path | str,
    destination: Path | str,
    *,
    event_types: Iterable[EventType] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    partition_events: int = PARTITION_EVENTS,
    **options: Any,
) -> ImportReport:
    """Import the log at `path`, in one of the formats of `SOURCES`, into an event store at `destination`.

    `event_types` keeps only those; `options` are the fields of the format's options. SourceError: the file is not of
    that format, or holds no row that can be used. StoreError: the store exists and `overwrite` is not set, or cannot
    be written.
    """
    path, destination = Path(path), Path(destination)
    source_format, chosen = _format(format), _options(format, options)
    frame = source_format.open(path, chosen)
    kept_types = None if event_types is None else sorted(set(event_types))
    source = describe_source(format, path, event_types=kept_types, **options)
    total = estimated_rows(path)
    return write_store(
        _batches_of(frame, path, format, chosen),
        destination,
        source=source,
        event_types=kept_types,
        overwrite=overwrite,
        progress=progress,
        expected_rows=total,
        partition_events=partition_events,
        name=str(path),
    )


def store_for(
    format: str,
    path: Path | str,
    destination: Path | str,
    *,
    event_types: Iterable[EventType] | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Path:
    """The store at `destination` if it was made from this very file in this very way, else a new import in its
    place."""
    destination = Path(destination)
    kept_types = None if event_types is None else sorted(set(event_types))
    if Path(path).is_file():
        requested = describe_source(format, path, event_types=kept_types, **options)
        with suppress(StoreError):
            if EventStore(destination).manifest.source == requested:
                return destination
    ingest(format, path, destination, event_types=kept_types, overwrite=True, progress=progress, **options)
    return destination


def describe_source(
    format: str, path: Path | str, *, event_types: Iterable[EventType] | None = None, **options: Any
) -> dict[str, Any]:
    """What the manifest says about where events came from: equal for equal files, formats and options."""
    path = Path(path)
    status = path.stat()
    described = {
        "format": format,
        "path": str(path.resolve()),
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "options": asdict(_options(format, options)),
        "event_types": None
        if event_types is None
        else [EventType(kind).name.lower() for kind in sorted(set(event_types))],
    }
    loaded: dict[str, Any] = json.loads(json.dumps(described))
    return loaded


def write_store(
    batches: Iterable[pl.DataFrame],
    destination: Path | str,
    *,
    source: Mapping[str, Any],
    event_types: Iterable[EventType] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    expected_rows: int | None = None,
    partition_events: int = PARTITION_EVENTS,
    name: str | None = None,
) -> ImportReport:
    """Write `batches` in CANONICAL_COLUMNS into an event store at `destination`.

    With a `name`, a log without one usable row is a SourceError under that name; without, it makes an empty store.
    """
    report_progress = progress or _silent
    wanted = None if event_types is None else sorted({int(kind) for kind in event_types})
    with staged_directory(Path(destination), overwrite=overwrite) as directory:
        spool = directory / "spool"
        spool.mkdir()
        tally = _spool(batches, spool, wanted, report_progress, expected_rows)
        if name is not None:
            _require_events(name, tally, wanted)
        counts = write_store_files(spool, directory, partition_events=partition_events, progress=report_progress)
        shutil.rmtree(spool)
        report = ImportReport(
            rows_read=tally.read,
            rows_kept=counts.n_events,
            rows_filtered=tally.filtered,
            rejections=tally.rejections(),
            event_types={EventType(kind).name.lower(): n for kind, n in sorted(tally.types.items())},
            n_users=counts.n_users,
            n_items=counts.n_items,
            n_categories=counts.n_categories,
            first_time_ms=counts.first_time_ms,
            last_time_ms=counts.last_time_ms,
            items_with_several_categories=counts.items_with_several_categories,
            items_without_category=counts.items_without_category,
        )
        manifest = StoreManifest(
            n_users=counts.n_users,
            n_items=counts.n_items,
            n_categories=counts.n_categories,
            n_events=counts.n_events,
            first_time_ms=counts.first_time_ms,
            last_time_ms=counts.last_time_ms,
            source=dict(source),
            report=asdict(report),
        )
        (directory / MANIFEST_FILE).write_text(json.dumps(asdict(manifest), indent=2) + os.linesep)
    return report


def _silent(stage: str, done: int, total: int | None) -> None:
    """Progress that nobody asked for."""
    del stage, done, total


def _format(name: str) -> SourceFormat:
    try:
        return SOURCES[name]
    except KeyError:
        raise ConfigError(f"unknown format {name!r}; use one of {', '.join(SOURCES)}") from None


def _options(format: str, options: Mapping[str, Any]) -> Any:
    kind = _format(format).options
    known = kind.__dataclass_fields__
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ConfigError(f"format {format} has no option {', '.join(unknown)}; it has {', '.join(known) or 'none'}")
    return kind(**options)


def _batches_of(frame: pl.LazyFrame, path: Path, format: str, options: Any) -> Iterator[pl.DataFrame]:
    """The log in batches; what polars cannot parse is told as a SourceError."""
    with reading(path, format, quoted=isinstance(options, ColumnsOptions) and has_quotes(path, options)):
        yield from frame.collect_batches(chunk_size=BATCH_ROWS, engine="streaming")


def _spool(
    batches: Iterable[pl.DataFrame],
    spool: Path,
    wanted: list[int] | None,
    progress: Progress,
    expected_rows: int | None,
) -> _Tally:
    """Write the good rows of `batches` into `spool`, one Parquet file a batch, and count the others."""
    tally = _Tally()
    part = 0
    for part, batch in enumerate(batches, start=1):
        tally.read += batch.height
        tally.reject(batch.filter(pl.col("reason").is_not_null()))
        good = batch.filter(pl.col("reason").is_null()).select(_SPOOLED)
        if wanted is not None:
            kept = good.filter(pl.col("type").is_in(wanted))
            tally.filtered += good.height - kept.height
            good = kept
        tally.types.update(dict(good["type"].value_counts().iter_rows()))
        good.write_parquet(spool / f"{part:06d}.parquet", compression="lz4", statistics=False)
        progress("reading the log", tally.read, max(tally.read, expected_rows) if expected_rows else None)
    if part == 0:
        types = (pl.Int64, pl.String, pl.Int64, pl.Int64, pl.Int64, pl.UInt8)
        pl.DataFrame(schema=dict(zip(_SPOOLED, types, strict=True))).write_parquet(spool / "000000.parquet")
    return tally


def _require_events(name: str, tally: _Tally, wanted: list[int] | None) -> None:
    if tally.types:
        return
    if tally.read == 0:
        raise SourceError(f"{name}: expected events, found no rows")
    if tally.filtered:
        kinds = ", ".join(EventType(kind).name.lower() for kind in wanted or [])
        raise SourceError(
            f"{name}: none of its {tally.filtered:,} good rows is of type {kinds}; ask for other event types"
        )
    reasons = "; ".join(map(str, tally.rejections()[:4]))
    raise SourceError(
        f"{name}: none of its {tally.read:,} rows can be used: {reasons}; check the format and its options"
    )
