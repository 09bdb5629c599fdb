"""Tables on a disk that is full end with an error that can be mended."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from retrieval.errors import IndexingError
from retrieval.index.changes import Changes
from retrieval.index.tables import VectorTable, write_table

TABLE = VectorTable(pl.Series("id", [1, 2]), np.eye(2, dtype=np.float32))


def write_changes(path: Path) -> None:
    Changes.none(pl.Int64(), 2).with_removed(TABLE.ids).write(path.parent)


@pytest.mark.parametrize(
    "write",
    [TABLE.write, lambda path: write_table(TABLE.ids.to_frame(), path), write_changes],
    ids=["vectors", "ids", "changes"],
)
def test_a_full_disk_is_told(write: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "removed.parquet"
    path.symlink_to("/dev/full")
    with pytest.raises(IndexingError, match=r"removed\.parquet cannot be written: .*No space left.*; make room and"):
        write(path)
