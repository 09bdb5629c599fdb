"""Finished parts are kept and checked, others made; the output has every row once, or is not there."""

import io
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from recollect.batch_scoring import parts as on_disk
from recollect.batch_scoring.parts import PartsOnDisk, claimed, parts_of, require_place, work_of
from recollect.batch_scoring.ray_scoring import _runs
from recollect.batch_scoring.requests import Requests, find_requests
from recollect.errors import AlreadyRunning, SetupError


@pytest.fixture
def requests(tmp_path: Path, write_requests: Any, monkeypatch: pytest.MonkeyPatch) -> Requests:
    """Files of 7 and 5 requests, in parts of 3."""
    monkeypatch.setattr(on_disk, "MOST_ROWS", 3)
    write_requests(tmp_path / "in" / "a.parquet", [(f"a{n}", [n]) for n in range(7)])
    write_requests(tmp_path / "in" / "b.parquet", [(f"b{n}", [n]) for n in range(5)])
    return find_requests(tmp_path / "in")


def scored(part: on_disk.Part) -> bytes:
    data = io.BytesIO()
    users = [f"{part.file.path.stem}{n}" for n in range(part.start, part.stop)]
    pl.DataFrame({"user_id": users, "status": ["scored"] * len(users)}).write_parquet(data)
    return data.getvalue()


EVERYONE = [f"a{n}" for n in range(7)] + [f"b{n}" for n in range(5)]


def test_parts_are_rows_of_one_file_each_once(requests: Requests) -> None:
    assert [(part.number, part.file.path.stem, part.start, part.stop) for part in parts_of(requests)] == [
        *((0, "a", 0, 3), (1, "a", 3, 6), (2, "a", 6, 7)),
        *((3, "b", 0, 3), (4, "b", 3, 5)),
    ]


def test_long_rows_make_small_parts(requests: Requests, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_disk, "MOST_BYTES", 2 * requests.bytes_a_row)
    assert on_disk.rows_of_a_part(requests) == 2
    monkeypatch.setattr(on_disk, "MOST_BYTES", 1)
    assert on_disk.rows_of_a_part(requests) == 1


def test_a_worker_reads_parts_that_follow_one_another(requests: Requests) -> None:
    parts = parts_of(requests)
    numbers = [[part.number for part in run] for run in _runs([parts[0], parts[1], parts[3], parts[4]], longest=16)]
    assert numbers == [[0, 1], [3, 4]]
    assert [len(run) for run in _runs(parts, longest=2)] == [2, 1, 2]
    assert [[part.number for part in run] for run in _runs([parts[0], parts[2]], longest=16)] == [[0], [2]]


@pytest.mark.parametrize("name", ["scores.parquet", "scores"])
def test_what_is_torn_is_made_again_and_all_rows_are_there_once(tmp_path: Path, requests: Requests, name: str) -> None:
    output, parts = tmp_path / name, parts_of(requests)
    first = PartsOnDisk(output, parts)
    first.begin({"job": 1})
    for part in (parts[4], parts[0], parts[2]):
        first.write(part, scored(part))
    torn = work_of(output) / "part-000002.parquet"
    torn.write_bytes(torn.read_bytes()[:-5])
    (work_of(output) / ".part-000001.parquet.partial").write_bytes(b"half of a part")

    again = PartsOnDisk(output, parts)
    again.begin({"job": 1})
    left = again.missing()
    assert [part.number for part in left] == [1, 2, 3]
    assert not output.exists()
    for part in left:
        again.write(part, scored(part))
    heard: list[int] = []
    assert again.finish(progress=heard.append) == {"scored": 12}
    assert sum(heard) == 12
    files = [output] if name.endswith(".parquet") else sorted(output.iterdir())
    assert [user for file in files for user in pl.read_parquet(file)["user_id"]] == EVERYONE
    assert not work_of(output).exists()
    if output.is_dir():
        assert [path.name for path in files] == [f"part-{n:06d}.parquet" for n in range(5)]


def test_parts_of_another_job_do_not_count(tmp_path: Path, requests: Requests) -> None:
    parts = parts_of(requests)
    first = PartsOnDisk(tmp_path / "s.parquet", parts)
    first.begin({"model": "dare/1"})
    first.write(parts[0], scored(parts[0]))
    other = PartsOnDisk(tmp_path / "s.parquet", parts)
    other.begin({"model": "dare/2"})
    assert other.missing() == parts


def test_a_part_with_fewer_rows_ends_it(tmp_path: Path, requests: Requests) -> None:
    parts = parts_of(requests)
    disk = PartsOnDisk(tmp_path / "s.parquet", parts)
    disk.begin({})
    for part in parts:
        disk.write(part, scored(parts[2] if part.number == 0 else part))
    with pytest.raises(SetupError, match="holds 10 rows of 12"):
        disk.finish()
    assert not (tmp_path / "s.parquet").exists()


def test_what_is_there_is_not_lost(tmp_path: Path) -> None:
    require_place(tmp_path / "new", overwrite=False)
    (tmp_path / "scores.parquet").touch()
    with pytest.raises(SetupError, match="exists; replace it with --overwrite"):
        require_place(tmp_path / "scores.parquet", overwrite=False)
    require_place(tmp_path / "scores.parquet", overwrite=True)
    (tmp_path / "home").mkdir()
    require_place(tmp_path / "home", overwrite=True)
    (tmp_path / "home" / "letters.txt").touch()
    with pytest.raises(SetupError, match="holds other files than parts"):
        require_place(tmp_path / "home", overwrite=True)
    (tmp_path / "dir.parquet").mkdir()
    with pytest.raises(SetupError, match="something else than what would be written"):
        require_place(tmp_path / "dir.parquet", overwrite=True)


def test_two_do_not_score_into_one_place(tmp_path: Path) -> None:
    output = tmp_path / "new" / "s.parquet"
    with claimed(output), pytest.raises(AlreadyRunning, match="another process scores into"), claimed(output):
        pass
    with claimed(output):
        pass
