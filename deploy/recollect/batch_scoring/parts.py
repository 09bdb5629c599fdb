"""Keep what is scored in parts: a killed job goes on with what is left, and no row is there twice or not at all.

Beside the output, `.NAME.scoring/` holds the job that it is for and its finished parts, each with its hash; a part
that is torn or was changed is made again. When all are there they become the output, whole or not at all.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq  # type: ignore[import-untyped]

from recollect.artifacts.locks import alone
from recollect.batch_scoring.requests import RequestFile, Requests
from recollect.errors import SetupError
from retrieval.files import sync
from retrieval.index import steps

MOST_ROWS = 1_000
"""Rows of a part, at most: what a kill costs a worker."""
MOST_BYTES = 16 << 20
"""About what the requests of a part take of the memory, at most."""


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of one file."""

    number: int
    file: RequestFile
    start: int
    stop: int


def parts_of(requests: Requests) -> list[Part]:
    """All requests, in their order; the same for the same files."""
    rows = rows_of_a_part(requests)
    bounds = [(file, start) for file in requests.files for start in range(0, file.rows, rows)]
    return [Part(at, file, start, min(start + rows, file.rows)) for at, (file, start) in enumerate(bounds)]


def rows_of_a_part(requests: Requests) -> int:
    """Rows of each part; the last of a file may have fewer."""
    return max(1, min(MOST_ROWS, MOST_BYTES // requests.bytes_a_row))


class PartsOnDisk:
    """The finished parts of one job."""

    def __init__(self, output: Path, parts: list[Part]) -> None:
        self._output, self._parts = output, parts
        self._work = work_of(output)

    def begin(self, job: dict[str, Any]) -> None:
        """Keep the parts of this very job; those of another one are removed."""
        steps.begin(self._work, job)

    def missing(self) -> list[Part]:
        """Parts that are not there, or not as they were written."""
        left = [part for part in self._parts if not steps.is_whole(self._path(part))]
        for part in left:
            self._path(part).unlink(missing_ok=True)
        return left

    def write(self, part: Part, data: bytes) -> None:
        """Keep a part, as Parquet."""
        steps.make(self._path(part), lambda path: path.write_bytes(data))

    def finish(self, *, progress: Callable[[int], None] | None = None) -> dict[str, int]:
        """Turn the parts into the output; how many rows have each status. SetupError where rows are not all there."""
        rows = sum(pq.read_metadata(self._path(part)).num_rows for part in self._parts)
        wanted = sum(part.stop - part.start for part in self._parts)
        if rows != wanted:
            raise SetupError(f"{self._work} holds {rows:,} rows of {wanted:,}; remove it and score again")
        counts: dict[str, int] = {}
        whole = self._work / ".whole.parquet"
        writer = None
        for part in self._parts:
            table = pq.read_table(self._path(part))
            for status in table["status"].value_counts().to_pylist():
                counts[status["values"]] = counts.get(status["values"], 0) + status["counts"]
            if is_one_file(self._output):
                writer = writer or pq.ParquetWriter(whole, table.schema, compression="zstd")
                writer.write_table(table)
            if progress is not None:
                progress(len(table))
        if writer is not None:
            writer.close()
            sync(whole)
            whole.replace(self._output)
            shutil.rmtree(self._work)
        else:
            self._become_the_output()
        sync(self._output.parent)
        return counts

    def _become_the_output(self) -> None:
        parts = {self._path(part) for part in self._parts}
        for path in self._work.iterdir():
            if path not in parts:
                path.unlink()
        if self._output.exists():
            shutil.rmtree(self._output)
        self._work.rename(self._output)

    def _path(self, part: Part) -> Path:
        return self._work / f"part-{part.number:06d}.parquet"


def is_one_file(output: Path) -> bool:
    """Whether the output is a file, and not a directory of parts."""
    return output.suffix == ".parquet"


def work_of(output: Path) -> Path:
    """Where the parts lie while there are any left."""
    return output.with_name(f".{output.name}.scoring")


def require_place(output: Path, *, overwrite: bool) -> None:
    """SetupError where `output` cannot be written without losing what is there."""
    if not output.exists():
        return
    if not overwrite:
        raise SetupError(f"{output} exists; replace it with --overwrite, or choose another --output")
    if output.is_dir() != (not is_one_file(output)):
        raise SetupError(f"{output} is something else than what would be written there; choose another --output")
    if output.is_dir() and any(not path.match("part-*.parquet") for path in output.iterdir()):
        raise SetupError(f"{output} holds other files than parts of scores; choose another --output")


@contextmanager
def claimed(output: Path) -> Iterator[None]:
    """Be the only process that scores into `output`; the lock's file stays, so that nobody holds one that is gone."""
    with alone(output.with_name(f".{output.name}.lock"), f"another process scores into {output}"):
        yield
