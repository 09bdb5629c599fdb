"""Configurations on disk: read, written whole, passed over where they are no good; nothing is measured unasked."""

import json
import multiprocessing
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

from recollect_kernels import tuning
from recollect_kernels.tables import quantize_rows
from recollect_kernels.tuning import Bucket, SearchConfiguration, configuration, default_configuration, tune

CPU = torch.device("cpu")
BUCKET = Bucket(longest=16_384, targets=512, histories=1, k=32, d=16, dtype="fp16")


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RECOLLECT_KERNELS_CACHE", str(tmp_path))
    monkeypatch.setattr(tuning, "_known", {})


def another() -> SearchConfiguration:
    default = default_configuration(BUCKET)
    return replace(default, tiles=2 * default.tiles)


def with_change(**change: object) -> str:
    return json.dumps({**asdict(default_configuration(BUCKET)), **change})


def test_the_default_stands_where_nothing_was_measured(tmp_path: Path) -> None:
    assert configuration("behavior_search", BUCKET, CPU) == default_configuration(BUCKET)
    assert not list(tmp_path.rglob("*")), "looking up writes nothing"


def test_a_tuned_bucket_is_found_again_by_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = another()
    assert tune("behavior_search", BUCKET, CPU, lambda each: 1.0 if each == fast else 2.0) == fast
    assert configuration("behavior_search", BUCKET, CPU) == fast
    monkeypatch.setattr(tuning, "_known", {})  # as a process that starts now
    assert configuration("behavior_search", BUCKET, CPU) == fast
    assert configuration("search_and_attend", BUCKET, CPU) == default_configuration(BUCKET)
    assert configuration("behavior_search", BUCKET._replace(k=64), CPU).most >= 64


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("", "Expecting value", id="empty"),
        pytest.param('{"group": 16', "Expecting", id="cut-off"),
        pytest.param("[1, 2]", "argument", id="not-an-object"),
        pytest.param('{"group": 16}', "missing", id="another-version"),
        pytest.param(with_change(chunk=100), "power of two", id="odd-number"),
        pytest.param(with_change(chunk="4"), "power of two", id="text"),
        pytest.param(with_change(most=16), "at least", id="too-little-for-k"),
    ],
)
def test_a_file_that_is_no_configuration_is_named_and_passed_over(text: str, why: str) -> None:
    tune("behavior_search", BUCKET, CPU, lambda _: 1.0)
    path = tuning._path("behavior_search", BUCKET, CPU)
    path.write_text(text)
    tuning._known.clear()
    with pytest.warns(UserWarning, match=f"{re.escape(str(path))} holds no configuration .*{why}"):
        assert configuration("behavior_search", BUCKET, CPU) == default_configuration(BUCKET)
    # It says so once, not with every request.
    assert configuration("behavior_search", BUCKET, CPU) == default_configuration(BUCKET)


def test_a_measurement_holds_for_the_source_it_was_made_with(monkeypatch: pytest.MonkeyPatch) -> None:
    tune("behavior_search", BUCKET, CPU, lambda each: 1.0 if each == another() else 2.0)
    tuning._fingerprint.cache_clear()
    monkeypatch.setattr(tuning, "_SOURCES", ("tiles/*.py",))  # as if a kernel had changed
    try:
        assert configuration("behavior_search", BUCKET, CPU) == default_configuration(BUCKET)
    finally:
        tuning._fingerprint.cache_clear()


def test_a_configuration_that_cannot_run_is_never_kept() -> None:
    assert tune("behavior_search", BUCKET, CPU, lambda each: 5.0 if each == another() else float("inf")) == another()
    with pytest.raises(RuntimeError, match=r"none of \d+ configurations of behavior_search runs at l16384-t512-b1"):
        tune("behavior_search", BUCKET, CPU, lambda _: float("inf"))


def _write_many(path: Path, choices: list[SearchConfiguration]) -> None:
    for _ in range(60):
        for each in choices:
            tuning._write(path, each)


def test_writers_at_once_leave_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "one" / "bucket.json"
    default = default_configuration(BUCKET)
    choices = [replace(default, tiles=2**i) for i in range(8)]
    tuning._write(path, default)
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_many, args=(path, choices)) for _ in range(3)]
    for writer in writers:
        writer.start()
    read = 0
    while any(writer.is_alive() for writer in writers):
        assert tuning._read(path, BUCKET) in choices
        read += 1
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert read > 0
    assert [each.name for each in path.parent.iterdir()] == ["bucket.json"], "no temporary file is left behind"


def test_the_directory_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert tuning.cache_directory() == tmp_path
    monkeypatch.delenv("RECOLLECT_KERNELS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert tuning.cache_directory() == Path("/somewhere/recollect-kernels")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert tuning.cache_directory() == Path.home() / ".cache" / "recollect-kernels"


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16", "int8", "fp8"])
@pytest.mark.parametrize("k", [1, 2, 32, 128])
@pytest.mark.parametrize("longest", [1, 256, 1_024, 4_096, 131_072, 4_194_304])
def test_every_default_serves_its_bucket(longest: int, k: int, dtype: str) -> None:
    for targets in (1, 8, 512):
        for d in (1, 16, 64):
            default_configuration(Bucket(longest, targets, 1, k, d, dtype)).check(k, longest)


def test_sizes_share_a_bucket_up_to_a_power_of_two() -> None:
    table = torch.zeros(9, 13)
    bucket = tuning.bucket_of(torch.zeros(3, 500, 13), quantize_rows(table), 20, 10_000)
    assert bucket == Bucket(longest=16_384, targets=512, histories=4, k=32, d=16, dtype="int8")
    assert tuning.bucket_of(torch.zeros(3, 0, 13), table, 20, 0) == Bucket(1, 1, 4, 32, 16, "fp32")
    with pytest.raises(TypeError, match=r"keys must be one of torch.float32, .* for Triton, got torch.float64"):
        tuning.bucket_of(torch.zeros(3, 1, 13), table.double(), 20, 0)


@pytest.mark.parametrize("targets", [1, 512], ids=["few-targets", "tensor-cores"])
@pytest.mark.parametrize("longest", [256, 16_384, 4_194_304])
def test_neighbours_are_distinct_and_all_serve(longest: int, targets: int) -> None:
    bucket = BUCKET._replace(longest=longest, targets=targets)
    around = default_configuration(bucket)
    candidates = tuning.neighbours(around, bucket)
    assert candidates[0] == around
    assert len(set(candidates)) == len(candidates) > 10
    for each in candidates:
        each.check(bucket.k, bucket.longest)


def test_tuning_goes_on_until_no_neighbour_is_faster() -> None:
    # Fastest where three respects differ from the default, which no neighbour of the default does.
    wanted = replace(another(), select_warps=2, most=32)
    measured = []

    def measure(each: SearchConfiguration) -> float:
        measured.append(each)
        return sum(getattr(each, name) != getattr(wanted, name) for name in ("tiles", "select_warps", "most"))

    found = tune("behavior_search", BUCKET, CPU, measure)
    assert (found.tiles, found.select_warps, found.most) == (wanted.tiles, 2, 32)
    assert len(measured) == len(set(measured)), "nothing is measured twice"


@pytest.mark.parametrize("fused", [False, True], ids=["behavior_search", "search_and_attend"])
def test_tuning_a_shape_runs_each_candidate(fused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    keys, rows, offsets = torch.ones(4, 8), torch.tensor([0, 1, 2, 3, 0]), torch.tensor([0, 3, 5])
    query = torch.ones(2, 1, 8)
    bucket = tuning.bucket_of(query, keys, 2, 3)
    default = default_configuration(bucket)
    candidates = [default, replace(default, select_warps=4)]
    monkeypatch.setattr(tuning, "neighbours", lambda *_: candidates)
    results = []

    def time(call):  # type: ignore[no-untyped-def]
        results.append(call())
        return -len(results)

    kept = tuning.tune_shape(query, keys, rows, offsets, 2, longest=3, values=keys if fused else None, time=time)
    assert kept == candidates[1]
    assert [len(result) for result in results] == [4 if fused else 2] * 2
    positions = results[0][2 if fused else 1]
    assert positions.tolist() == [[[0, 1]], [[0, 1]]]
    assert configuration("search_and_attend" if fused else "behavior_search", bucket, CPU) == kept
