"""The compiled loops: shared among threads, over every kind of table, and kept on disk."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from recollect_kernels import ScaledTable, behavior_search, loops, quantize_rows, search_and_attend, target_attention
from recollect_kernels import threads as sharing

KINDS = {
    "float32": lambda table: table,
    "strided": lambda table: torch.cat([table, table], dim=1)[:, : table.shape[1]],
    "float16": lambda table: table.half(),
    "bfloat16": lambda table: table.bfloat16(),
    "int8": quantize_rows,
    "float8": lambda table: quantize_rows(table, torch.float8_e4m3fn),
}


@pytest.fixture
def threads() -> object:
    """Restore torch's threads after a test that changes them."""
    before = torch.get_num_threads()
    yield None
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("lengths", "targets"),
    [
        pytest.param([3_000], 1_030, id="targets-of-one-history"),
        pytest.param([900, 0, 4_000, 1, 2_000, 3_000, 700, 90], 9, id="histories"),
        pytest.param([60_000, 10], 1, id="one-target"),
        pytest.param([60_000], 1, id="behaviours-for-one-target"),
        pytest.param([20_001], 9, id="behaviours-for-some-targets"),
        pytest.param([3], 1, id="fewer-than-threads"),
        pytest.param([0], 2, id="none"),
    ],
)
@pytest.mark.parametrize("count", [2, 3, 8])
def test_threads_change_nothing(
    lengths: list[int], targets: int, count: int, threads: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "SHARED_FROM", 0)
    generator = torch.Generator().manual_seed(21)
    table = torch.randn(500, 24, generator=generator)
    query = torch.randn(len(lengths), targets, 24, generator=generator)
    rows = torch.randint(0, 500, (sum(lengths),), generator=generator)
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    results = []
    for given in (1, count):
        torch.set_num_threads(given)
        results.append(search_and_attend(query, table, table, rows, offsets, k=20, backend="cpu"))
    for alone, shared in zip(*results, strict=True):
        assert torch.equal(alone, shared)


@pytest.mark.parametrize("d", [1, 16, 20, 64])
@pytest.mark.parametrize("targets", [1, 3, 4, 9])
@pytest.mark.parametrize("k", [1, 32, 128])
def test_long_histories_of_ties_and_special_values_are_searched_exactly(d: int, targets: int, k: int) -> None:
    generator = torch.Generator().manual_seed(23)
    # Whole numbers have the same products in whatever order they are added up; few of them make many ties.
    table = torch.randint(-3, 4, (400, d), generator=generator).float()
    table[:4, 0] = torch.tensor([torch.nan, torch.inf, -torch.inf, -0.0])
    lengths = [0, 1, 31, 257, 1_025, 2_047, 2_100, 5_000, 3_000, 300]
    query = torch.randint(-3, 4, (len(lengths), targets, d), generator=generator).float()
    query[2, 0], query[-3, -1] = torch.nan, 0.0
    rows = torch.randint(0, 400, (sum(lengths),), generator=generator, dtype=torch.int32)
    rows[-3_300:-1_000] = 0  # nothing but NaN where bounds are found
    rows[-300:] = 7  # nothing but ties
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    bias = torch.randint(-2, 3, (150,), generator=generator).float()
    found, expected = (
        behavior_search(query, table, rows, offsets, k=k, recency_bias=bias, backend=backend)
        for backend in ("cpu", "reference")
    )
    assert torch.equal(found.positions, expected.positions)
    torch.testing.assert_close(found.scores, expected.scores, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_table(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "_GATHERED", 1_000)  # so that rows are gathered in several turns
    generator = torch.Generator().manual_seed(22)
    keys, values = (KINDS[kind](torch.randn(300, width, generator=generator)) for width in (16, 24))
    rows = torch.randint(0, 300, (3_100,), generator=generator, dtype=torch.int32)
    offsets = torch.tensor([0, 1_300, 1_300, 1_340, 3_100], dtype=torch.int32)
    query, bias = torch.randn(4, 5, 16, generator=generator), torch.randn(90, generator=generator)
    recency_values = torch.randn(30, 7, generator=generator)
    found, expected = (
        search_and_attend(
            *(query, keys, values, rows, offsets),
            k=32,
            recency_bias=bias,
            recency_values=recency_values,
            backend=backend,
        )
        for backend in ("cpu", "reference")
    )
    assert (found.positions == expected.positions).float().mean() > 0.999
    for ours, reference in zip(found, expected, strict=True):
        if ours.is_floating_point():
            torch.testing.assert_close(ours, reference, rtol=1e-4, atol=1e-4)


def test_every_half_precision_number_is_read_as_it_is() -> None:
    numbers = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(torch.float16)
    numbers = numbers[~numbers.isnan()]
    for part in numbers.split(4_096):
        rows, offsets = torch.arange(len(part)), torch.tensor([0, len(part)])
        scores, positions = behavior_search(torch.ones(1, 1, 1), part.unsqueeze(1), rows, offsets, k=len(part))
        assert torch.equal(scores[0, 0], part.float()[positions[0, 0]])
        assert len(positions.unique()) == len(part)


def everything() -> dict[str, Any]:
    """Arguments of the pair, and of the pooling of what it finds."""
    generator = torch.Generator().manual_seed(29)
    query, table = torch.randn(2, 3, 16, generator=generator), torch.randn(40, 16, generator=generator)
    rows, offsets = torch.randint(0, 40, (300,), generator=generator), torch.tensor([0, 100, 300])
    beside = {"recency_bias": torch.randn(9, generator=generator), "recency_values": torch.ones(9, 2)}
    return {"query": query, "keys": table, "values": quantize_rows(table), "rows": rows, "offsets": offsets, **beside}


def test_what_is_told_by_address_does_not_depend_on_defaults() -> None:
    given = everything()
    expected = search_and_attend(**given, k=8)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):  # where a tensor has no memory
            found = search_and_attend(**given, k=8)
            pooled = target_attention(**given, positions=found.positions)
            whole = target_attention(**given)
    finally:
        torch.set_default_dtype(before)
    for ours, other in zip(found, expected, strict=True):
        assert torch.equal(ours, other)
    assert torch.equal(pooled.output, target_attention(**given, positions=found.positions).output)
    assert torch.equal(whole.output, target_attention(**given).output)


@pytest.mark.parametrize("name", ["keys", "values", "rows", "offsets", "recency_bias", "recency_values", "positions"])
def test_what_is_elsewhere_is_refused(name: str) -> None:
    given = everything() | {"positions": torch.zeros(2, 3, 4, dtype=torch.int64)}
    table = given[name]
    given[name] = ScaledTable(table.rows, table.scales.to("meta")) if name == "values" else table.to("meta")
    with pytest.raises(ValueError, match=f"{name} must be on cpu as query is, got meta; move it there"):
        target_attention(**given)
    if name != "positions":
        del given["positions"]
        with pytest.raises(ValueError, match=f"{name} must be on cpu as query is, got meta; move it there"):
            search_and_attend(**given, k=2)


@pytest.mark.parametrize(("lengths", "targets"), [([9_000], 1), ([900] * 9, 2), ([900], 70)])
def test_rows_outside_the_table_are_refused_whoever_meets_them(
    lengths: list[int], targets: int, threads: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "SHARED_FROM", 0)
    torch.set_num_threads(2)
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    query, table = torch.ones(len(lengths), targets, 16), torch.ones(5, 16)
    for place in (0, -1):
        rows = torch.zeros(sum(lengths), dtype=torch.int64)
        rows[place] = 1 << 40
        with pytest.raises(ValueError, match=rf"rows must lie in \[0, 5\), the table's rows, got {1 << 40} at"):
            behavior_search(query, table, rows, offsets, k=3)
        rows[place] = 4
        assert behavior_search(query, table, rows, offsets, k=3).positions[0, 0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("way", ["loops", "torch"])
def test_rows_outside_the_table_are_refused(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if way == "torch":
        monkeypatch.setattr(loops, "compiled", lambda: None)
    for wrong in (-1, 5):
        with pytest.raises(ValueError, match=rf"rows must lie in \[0, 5\), the table's rows, got {wrong} at 2"):
            behavior_search(
                torch.ones(1, 1, 4), torch.ones(5, 4), torch.tensor([0, 1, wrong]), torch.tensor([0, 3]), k=1, longest=3
            )


@pytest.mark.slow
def test_machine_code_is_read_from_disk_by_the_next_process(tmp_path: Path) -> None:
    program = (
        "from recollect_kernels import compiled as loops, prepare;"
        "print(prepare()[0]);"
        "print(sum(s.cache_hits[key] for s in (loops.search.stats, loops.attend_found.stats) for key in s.cache_hits))"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    outputs = [
        subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        ).stdout.splitlines()
        for _ in range(2)
    ]
    assert str(tmp_path) in outputs[0][0]
    assert [output[1] for output in outputs] == ["0", "8"], "search and pooling of four kinds of table and row"


@pytest.mark.slow
def test_a_process_without_a_place_on_disk_compiles_for_itself(tmp_path: Path) -> None:
    program = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "from numba.core import caching\n"
        "caching.CacheImpl._locator_classes = []\n"
        "import torch\n"
        "from recollect_kernels import behavior_search\n"
        "warnings.simplefilter('default')\n"
        "print(behavior_search(torch.ones(1, 1, 2), torch.ones(3, 2), torch.tensor([2]), torch.tensor([0, 1]), k=1))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "positions=tensor([[[0]]])" in done.stdout
    assert "set NUMBA_CACHE_DIR to a directory that can be written" in done.stderr
