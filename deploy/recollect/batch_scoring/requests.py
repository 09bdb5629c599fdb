"""Score requests in Parquet, a row a call: what `recollect score --input` answers and `recollect bench serve` asks.

    user_id     text, or a whole number
    item_ids    list of whole numbers: the candidates
    as_of       timestamp, UTC where it has no zone: only behaviours strictly before it count; may be missing or null
    history     list of whole numbers, oldest first: the user's behaviours, for who keeps them elsewhere; may be missing

Other columns are carried along.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from recollect.errors import SetupError

USER, ITEMS, AS_OF, HISTORY = "user_id", "item_ids", "as_of", "history"
_NEEDED = "a row a call: user_id (text), item_ids (list of whole numbers) and, where wanted, as_of (timestamp)"
_UNITS_A_MS = {"ms": 1, "us": 1_000, "ns": 1_000_000}
_BYTES_A_VALUE = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestFile:
    """One Parquet file of requests."""

    path: Path
    rows: int
    values: int
    """Numbers and texts that its columns hold, those within lists too: tells how much memory a row takes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Requests:
    """Requests that were found, in the order of their files' names and, in each, of their rows."""

    source: Path
    files: tuple[RequestFile, ...]
    schema: dict[str, pl.DataType]
    """Column → type, the same in all files."""

    @property
    def rows(self) -> int:
        """Calls in all."""
        return sum(file.rows for file in self.files)

    @property
    def has_histories(self) -> bool:
        """Whether the requests bring histories with them."""
        return HISTORY in self.schema

    @property
    def bytes_a_row(self) -> int:
        """Memory that a request takes on average, at least 1."""
        return max(1, _BYTES_A_VALUE * sum(file.values for file in self.files) // max(1, self.rows))


def find_requests(source: Path) -> Requests:
    """The requests of a Parquet file, or of all in a directory (`*.parquet`); SetupError where they are none."""
    paths = sorted(source.glob("*.parquet")) if source.is_dir() else [source]
    if not paths:
        raise SetupError(f"{source} has no file *.parquet; it should hold requests, {_NEEDED}")
    files, schema = [], None
    for path in paths:
        try:
            footer = pq.read_metadata(path)
            own = dict(pl.scan_parquet(path, glob=False).collect_schema())
        except (OSError, pa.ArrowException, pl.exceptions.PolarsError) as error:
            raise SetupError(
                f"cannot read requests from {path} ({str(error).splitlines()[0]}); it should hold {_NEEDED}"
            ) from error
        if schema is not None and own != schema:
            raise SetupError(
                f"{path} has other columns than {paths[0].name} ({_told(own)}, and {_told(schema)}); "
                "give files of one kind"
            )
        schema = own
        groups = [footer.row_group(at) for at in range(footer.num_row_groups)]
        values = sum(group.column(at).num_values for group in groups for at in range(group.num_columns))
        files.append(RequestFile(path=path, rows=footer.num_rows, values=values))
    assert schema is not None
    _require_types(source, schema)
    found = Requests(source=source, files=tuple(files), schema=schema)
    if found.rows == 0:
        raise SetupError(f"{source} has no rows; write one for each call")
    return found


def read_rows(file: RequestFile, start: int, stop: int, *, at_once: int) -> Iterator[pl.DataFrame]:
    """Rows `start` to `stop` of a file as they are, `at_once` at a time and what is left at the end."""
    waiting: list[pa.RecordBatch] = []
    begin = 0
    with pq.ParquetFile(file.path, memory_map=True) as opened:
        for batch in opened.iter_batches(batch_size=at_once):
            wanted = slice(max(0, start - begin), min(len(batch), stop - begin))
            begin += len(batch)
            if wanted.stop > wanted.start:
                waiting.append(batch.slice(wanted.start, wanted.stop - wanted.start))
            # Batches need not be of the size that was asked for.
            while sum(map(len, waiting)) >= at_once:
                together = pa.Table.from_batches(waiting)
                yield _frame(together.slice(0, at_once))
                waiting = together.slice(at_once).to_batches()
            if begin >= stop:
                break
    if waiting:
        yield _frame(pa.Table.from_batches(waiting))


def plain(rows: pl.DataFrame) -> pl.DataFrame:
    """`rows` as columns of few types: user_id String, item_ids and history List(Int64), as_of Int64 milliseconds.

    A number that is none in 64 bits is null. Moments between two milliseconds count as the later: the same behaviours
    are strictly before either.
    """
    columns = [pl.col(USER).cast(pl.String)]
    columns += [pl.col(name).cast(pl.List(pl.Int64), strict=False) for name in (ITEMS, HISTORY) if name in rows.columns]
    as_of: Any = rows.schema.get(AS_OF)
    if isinstance(as_of, pl.Datetime):
        units = _UNITS_A_MS[as_of.time_unit]
        columns.append((-((-pl.col(AS_OF).cast(pl.Int64)) // units)).alias(AS_OF))
    else:
        columns.append(pl.lit(None, pl.Int64).alias(AS_OF))
    return rows.select(columns)


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _require_types(source: Path, schema: dict[str, pl.DataType]) -> None:
    wrong = [
        name
        for name, fits in (
            (USER, USER in schema and (schema[USER] == pl.String or schema[USER].is_integer())),
            (ITEMS, ITEMS in schema and _is_list_of_numbers(schema[ITEMS])),
            (AS_OF, schema.get(AS_OF, pl.Null()).base_type() in (pl.Null, pl.Datetime)),
            (HISTORY, HISTORY not in schema or _is_list_of_numbers(schema[HISTORY])),
        )
        if not fits
    ]
    if wrong:
        raise SetupError(
            f"{source} is no file of requests: {', '.join(wrong)} missing or of another type, in {_told(schema)}; it "
            f"should hold {_NEEDED}, and history (list of whole numbers) where it brings histories"
        )


def _is_list_of_numbers(dtype: pl.DataType) -> bool:
    inner = getattr(dtype, "inner", None)
    return inner is not None and (inner == pl.Null or inner.is_integer())


def _told(schema: dict[str, pl.DataType]) -> str:
    return ", ".join(f"{name} {dtype}" for name, dtype in schema.items())
