"""What is made ready ahead of time: compiled loops on every machine, measured kernels where there is a GPU."""

from pathlib import Path

import pytest

from recollect_kernels import loops, preparation, prepare
from recollect_kernels.benchmarks.shapes import Shape

TINY = Shape(use="a test", b=2, t=3, length=40, d=8, k=4, e=8, table="float16", vocabulary=50)


def test_without_numba_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "compiled", lambda: None)
    assert prepare()[0] == "CPU: torch alone; install numba (the extra 'cpu') for compiled loops"


def test_says_where_the_loops_are_kept() -> None:
    pytest.importorskip("numba")
    (line, *_) = prepare()
    kept = Path(line.removeprefix("CPU: compiled loops, kept in "))
    assert list(kept.glob("search.search*.nbi"))


def test_measures_the_search_and_the_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    monkeypatch.setenv("RECOLLECT_KERNELS_CACHE", str(tmp_path))
    preparation.tune_for(TINY, "cpu", time=lambda _: 1.0)
    assert sorted(path.name for path in tmp_path.rglob("*.json")) == [
        "behavior_search-l64-t4-b2-k4-d8-fp16.json",
        "search_and_attend-l64-t4-b2-k4-d8-fp16.json",
    ]


@pytest.mark.parametrize("tune", [True, False], ids=["tune", "no-tune"])
def test_a_gpu_is_measured_only_when_asked(tune: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECOLLECT_KERNELS_CACHE", str(tmp_path))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(preparation, "has_triton", lambda: True)
    measured: list[str] = []
    monkeypatch.setattr(preparation, "tune_for", lambda shape, device: measured.append(f"{device}: {shape.use}"))
    line = prepare(tune=tune)[1]
    assert str(tmp_path) in line
    assert bool(measured) == tune
    assert all(each.startswith("cuda: ") for each in measured)
