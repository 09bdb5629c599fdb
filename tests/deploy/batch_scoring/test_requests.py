"""Requests in Parquet: which files are, what their rows mean, and that any part of them can be read."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from recollect.batch_scoring.requests import find_requests, plain, read_rows
from recollect.errors import SetupError


def numbered(path: Path, rows: int, *, row_group_size: int = 7, first: int = 0) -> Path:
    numbers = list(range(first, first + rows))
    frame = pl.DataFrame({"user_id": [str(n) for n in numbers], "item_ids": [[n] * (1 + n % 3) for n in numbers]})
    frame.write_parquet(path, row_group_size=row_group_size)
    return path


@pytest.mark.parametrize(
    ("start", "stop", "at_once"), [(0, 50, 8), (3, 29, 4), (48, 50, 100), (14, 21, 7), (0, 50, 1), (20, 20, 5)]
)
def test_any_rows_are_read_whatever_the_row_groups(tmp_path: Path, start: int, stop: int, at_once: int) -> None:
    (file,) = find_requests(numbered(tmp_path / "r.parquet", 50)).files
    frames = list(read_rows(file, start, stop, at_once=at_once))
    assert [int(user) for frame in frames for user in frame["user_id"]] == list(range(start, stop))
    assert all(len(frame) == at_once for frame in frames[:-1])


def test_a_directory_is_read_by_name(tmp_path: Path) -> None:
    numbered(tmp_path / "b.parquet", 3)
    numbered(tmp_path / "a.parquet", 5, first=100)
    (tmp_path / "notes.txt").write_text("not a part")
    found = find_requests(tmp_path)
    assert [(file.path.name, file.rows) for file in found.files] == [("a.parquet", 5), ("b.parquet", 3)]
    assert found.rows == 8
    # Users 100 to 104 and 0 to 2 with 2, 3, 1, 2, 3 and 1, 2, 3 items: 8 texts and 17 numbers.
    assert found.bytes_a_row == 8 * (8 + 17) // 8


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_moments_are_utc_and_between_milliseconds_the_later(unit: str) -> None:
    moments = [datetime(2024, 1, 1, microsecond=1_500), None, datetime(2024, 1, 1)]
    column = pl.Series("as_of", moments, dtype=pl.Datetime("us")).cast(pl.Datetime(unit))  # type: ignore[arg-type]
    rows = pl.DataFrame({"user_id": ["a"] * 3, "item_ids": [[1]] * 3, "as_of": column})
    midnight = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp() * 1_000)
    assert plain(rows)["as_of"].to_list() == [midnight + (1 if unit == "ms" else 2), None, midnight]
    zoned = rows.with_columns(pl.col("as_of").dt.replace_time_zone("Europe/Berlin"))
    assert plain(zoned)["as_of"][2] == midnight - 3_600_000


def test_what_is_no_number_of_64_bits_is_null() -> None:
    rows = pl.DataFrame({"user_id": [7], "item_ids": pl.Series([[1, 2**63]], dtype=pl.List(pl.UInt64))})
    assert plain(rows).rows() == [("7", [1, None], None)]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"user": ["a"]}, "user_id, item_ids missing or of another type, in user String"),
        ({"user_id": ["a"], "item_ids": ["1,2"]}, "item_ids missing or of another type"),
        ({"user_id": ["a"], "item_ids": [[1.5]]}, "item_ids missing or of another type"),
        ({"user_id": [1.5], "item_ids": [[1]]}, "user_id missing or of another type"),
        ({"user_id": ["a"], "item_ids": [[1]], "as_of": ["today"]}, "as_of missing or of another type"),
        ({"user_id": ["a"], "item_ids": [[1]], "history": [1]}, "history missing or of another type"),
        ({"user_id": pl.Series([], dtype=pl.String), "item_ids": pl.Series([], dtype=pl.List(pl.Int64))}, "no rows"),
        (None, "cannot read requests from"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_files_that_are_no_requests(tmp_path: Path, columns: dict[str, object] | None, message: str) -> None:
    file = tmp_path / "requests.parquet"
    if columns is None:
        file.write_text("no Parquet")
    else:
        pl.DataFrame(columns).write_parquet(file)
    with pytest.raises(SetupError, match=message):
        find_requests(file)


def test_directories_that_are_no_requests(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"has no file \*\.parquet"):
        find_requests(tmp_path)
    numbered(tmp_path / "a.parquet", 1)
    pl.DataFrame({"user_id": ["a"], "item_ids": [[1]], "more": [1]}).write_parquet(tmp_path / "b.parquet")
    with pytest.raises(SetupError, match=r"b\.parquet has other columns than a\.parquet"):
        find_requests(tmp_path)
