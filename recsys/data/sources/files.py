"""Look at a file before trusting it, and scan it as rows: delimited text as strings, Parquet as it is."""

import csv
import difflib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from recsys.data.sources.canonical import ROW_COLUMN
from recsys.errors import SourceError

EXTRA_COLUMN = "\x00extra"
"""Holds what a row has beyond the columns it should have; null in a good row."""
_HEAD_BYTES = 256 * 1024
_MAGIC = {
    b"PK\x03\x04": "a zip archive or a spreadsheet; unpack it, or save the sheet as CSV",
    b"\x1f\x8b": "gzip-compressed; unpack it with `gunzip` first",
    b"BZh": "bzip2-compressed; unpack it with `bunzip2` first",
    b"\x28\xb5\x2f\xfd": "zstd-compressed; unpack it with `unzstd` first",
    b"\xd0\xcf\x11\xe0": "an old Excel file; save the sheet as CSV",
    b"\xff\xfe": "UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "UTF-16 text; save it as UTF-8",
}


def file_kind(path: Path, expected: str) -> str:
    """ "parquet" or "text"; SourceError, naming what was `expected`, for a file that is neither."""
    if path.is_dir():
        raise SourceError(f"{path}: expected {expected}, found a directory; name one file")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except FileNotFoundError:
        raise SourceError(f"{path}: expected {expected}, found no such file; check the path") from None
    except OSError as error:
        raise SourceError(f"{path}: expected {expected}, cannot read it: {error.strerror}") from error
    if not head:
        raise SourceError(f"{path}: expected {expected}, found an empty file; was the download cut short?")
    if head.startswith(b"PAR1"):
        return "parquet"
    for magic, what in _MAGIC.items():
        if head.startswith(magic):
            raise SourceError(f"{path}: expected {expected}, found a file that is {what}")
    control = sum(byte < 32 and byte not in b"\t\n\r\f" for byte in head[:8192])
    if b"\0" in head or control * 20 > min(len(head), 8192):
        raise SourceError(f"{path}: expected {expected}, found binary data; check that this is the event log")
    return "text"


def require_text(path: Path, expected: str) -> None:
    """SourceError unless `path` is a text file."""
    if file_kind(path, expected) != "text":
        raise SourceError(f"{path}: expected {expected}, found a Parquet file; import it with `--format columns`")


def head_lines(path: Path, count: int = 20) -> list[str]:
    """The first `count` lines that are not empty, for a look at what the file holds."""
    return [line for line in _head(path).splitlines() if line.strip()][:count]


def _head(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES).decode("utf-8-sig", errors="replace")


def shown(line: str, width: int = 80) -> str:
    """A line as it is quoted in an error, cut to `width`."""
    return repr(line if len(line) <= width else line[: width - 1] + "…")


def header_of(path: Path, expected: str, *, delimiter: str, quote: str | None) -> list[str]:
    """Column names in the first line, with repeated or empty names made distinct."""
    lines = head_lines(path, 1)
    if not lines:
        raise SourceError(f"{path}: expected {expected}, found only empty lines")
    reader = (
        csv.reader(lines, delimiter=delimiter, quotechar=quote)
        if quote
        else csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    )
    names = next(reader)
    distinct: list[str] = []
    for position, name in enumerate(names, start=1):
        name = name.strip() or f"column {position}"
        distinct.append(name if name not in distinct else f"{name} ({position})")
    return distinct


def require_columns(path: Path, expected: str, found: Sequence[str], wanted: Sequence[str], remedy: str) -> None:
    """SourceError that names the `wanted` columns that are not in `found`, and what they might be called."""
    missing = [name for name in wanted if name not in found]
    if not missing:
        return
    hints = []
    for name in missing:
        close = difflib.get_close_matches(name.lower(), [column.lower() for column in found], n=1)
        hints += [f"did you mean {column!r}?" for column in found if [column.lower()] == close][:1]
    raise SourceError(
        f"{path}: expected {expected}, found no column {', '.join(map(repr, missing))} "
        f"among {', '.join(map(repr, found[:12]))}{', …' if len(found) > 12 else ''}; {' '.join([*hints, remedy])}"
    )


def scan_rows(path: Path, names: Sequence[str], *, delimiter: str, quote: str | None, header: bool) -> pl.LazyFrame:
    """Rows of strings under `names`, with ROW_COLUMN counted from 1 and EXTRA_COLUMN; short rows are filled with nulls.

    A `header` is the first line that is not empty; neither it nor what is above it is counted.
    Bytes that are not UTF-8 become U+FFFD: an old log with one stray accent is still a log.
    """
    lines = enumerate(_head(path).split("\n"), start=1) if header else ()
    return pl.scan_csv(
        path,
        has_header=False,
        skip_lines=next((number for number, line in lines if line.strip()), 0),
        schema=dict.fromkeys([*names, EXTRA_COLUMN], pl.String()),
        separator=delimiter,
        quote_char=quote,
        encoding="utf8-lossy",
        row_index_name=ROW_COLUMN,
        row_index_offset=1,
        extra_columns="ignore",
        missing_columns="insert",
        glob=False,
    )


def scan_parquet_rows(path: Path, expected: str) -> pl.LazyFrame:
    """The rows of a Parquet file with ROW_COLUMN counted from 1; SourceError where its footer cannot be read."""
    try:
        frame = pl.scan_parquet(path, row_index_name=ROW_COLUMN, row_index_offset=1, glob=False)
        frame.collect_schema()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise SourceError(
            f"{path}: expected {expected}, found a broken Parquet file ({error}); was the download cut short?"
        ) from error
    return frame


@contextmanager
def reading(path: Path, what: str, *, quoted: bool = False) -> Iterator[None]:
    """What polars cannot parse in the block becomes a SourceError: that `path` cannot be read as `what`.

    `quoted` says that fields may stand between double quotes, unless the caller's user says otherwise.
    """
    try:
        with warnings.catch_warnings():
            # polars warns of broken quoting before it raises, and of nothing else here.
            warnings.simplefilter("error", UserWarning)
            yield
    except (pl.exceptions.PolarsError, UserWarning, OSError) as error:
        cause = str(error).strip().splitlines()[0]
        remedy = "a double quote in it may be open; try `--no-quote`" if quoted else "is it whole?"
        raise SourceError(f"{path}: cannot be read as {what}: {cause}; {remedy}") from error


def estimated_rows(path: Path) -> int | None:
    """About how many rows a log has, for a progress display: exact for Parquet, by the first lines for text."""
    if file_kind(path, "an event log") == "parquet":
        return int(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item())
    lines = head_lines(path, 1000)
    mean_bytes = sum(len(line.encode()) + 1 for line in lines) / max(len(lines), 1)
    return int(path.stat().st_size / mean_bytes) if mean_bytes else None
