"""The search kernels compiled for an H100 or H200, without one: nothing spills, and every program fits the chip."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("triton")

from recollect_kernels.benchmarks.shapes import Shape
from recollect_kernels.compile_check import checked_shapes, recorded, search_launches

_SHARED = 227 * 1024
"""Bytes of shared memory that one program can have on sm_90."""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """Kernels by shape, compiled from nothing in a process of its own: in this one Triton may be interpreting."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("triton"))
    environment["PYTHONPATH"] = str(Path(__file__).parents[2] / "kernels")
    command = [sys.executable, "-m", "recollect_kernels.compile_check", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    by_shape: dict[str, list[dict[str, Any]]] = {}
    for line in map(json.loads, done.stdout.splitlines()):
        by_shape.setdefault(str(Shape(**line.pop("shape"))), []).append(line)
    return by_shape


def name_of(shape: Shape) -> str:
    return f"{shape.b}x{shape.t}x{shape.length}-d{shape.d}-k{shape.k}-{shape.table}"


@pytest.mark.slow
@pytest.mark.parametrize("shape", [pytest.param(shape, id=name_of(shape)) for shape in checked_shapes()])
def test_compiles_without_spilling(shape: Shape, compiled: dict[str, list[dict[str, Any]]]) -> None:
    kernels = compiled[str(shape)]
    names = {each["kernel"] for each in kernels}
    assert {"select_kernel", "select_and_pool_kernel"} <= names
    assert (len(names) == 3) == (shape.length > 4_096), "a long history has a pass of its own"
    for each in kernels:
        assert each["spilled"] == 0, each
        assert each["shared"] <= _SHARED, each


@pytest.mark.skipif(torch.cuda.is_available(), reason="kernels are interpreted only where there is no GPU")
def test_an_interpreted_kernel_is_not_taken_for_a_compiled_one() -> None:
    with recorded() as launches, pytest.raises(Exception, match="meta"):
        search_launches(checked_shapes()[0])
    assert not launches
