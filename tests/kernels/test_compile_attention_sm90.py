"""Every kernel of the pooling, forward and backward, compiled for an H100 or H200 without one: nothing spills, and no
product of fp32 is rounded to tf32."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("triton")

_SHARED = 227 * 1024
"""Bytes of shared memory that one program can have on sm_90."""
SHAPES: dict[str, dict[str, Any]] = {
    "training": {"b": 682, "t": 3, "length": 200, "d": 32, "e": 32, "r": 16, "k": 20, "table": "float32"},
    "long": {"b": 682, "t": 3, "length": 10_000, "d": 32, "e": 32, "r": 16, "k": 20, "table": "float32"},
    "wide": {"b": 64, "t": 3, "length": 200, "d": 256, "e": 256, "r": 128, "k": 100, "table": "float32"},
    "many-targets": {"b": 64, "t": 100, "length": 1_000, "d": 64, "e": 64, "r": 32, "k": 100, "table": "float32"},
    "half": {"b": 3, "t": 1, "length": 63, "d": 24, "e": 8, "r": 0, "k": 1, "table": "float16"},
    "int8": {"b": 64, "t": 20, "length": 1_000, "d": 64, "e": 64, "r": 32, "k": 32, "table": "int8"},
    "float8": {"b": 64, "t": 20, "length": 1_000, "d": 64, "e": 64, "r": 32, "k": 32, "table": "float8_e4m3fn"},
}


@pytest.mark.parametrize(
    "shape", [name if name == "training" else pytest.param(name, marks=pytest.mark.slow) for name in SHAPES]
)
def test_compiles_without_spilling_and_in_full_fp32(shape: str, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    environment["PYTHONPATH"] = str(Path(__file__).parents[2] / "kernels")
    # A process of its own: in this one Triton may be interpreting.
    command = [sys.executable, __file__, json.dumps(SHAPES[shape])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    kernels = json.loads(done.stdout)
    expected = {
        "attend_kept_kernel",
        "attend_kept_gradient_kernel",
        "attend_all_kernel",
        "query_gradient_kernel",
        "recency_gradient_kernel",
        "weighted_sum_kernel",
        "join_chunks_kernel",
    }
    if shape not in ("int8", "float8"):  # such tables receive no gradient
        expected.add("table_gradient_kernel")
    assert {each["kernel"] for each in kernels} == expected
    for each in kernels:
        assert each["spilled"] == 0, each
        assert each["shared"] <= _SHARED, each
        assert not each["tensor_cores"], f"{each}: they would round fp32 to tf32"


def _compile(b: int, t: int, length: int, d: int, e: int, r: int, k: int, table: str) -> list[dict[str, Any]]:
    """What forward and backward of both poolings launch at a shape, compiled."""
    from recollect_kernels import compile_check
    from recollect_kernels.tables import ScaledTable
    from recollect_kernels.target_attention.triton import attend_all, attend_kept

    def some(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="meta", requires_grad=dtype.is_floating_point)

    def stored(width: int) -> torch.Tensor | ScaledTable:
        if dtype.itemsize > 1:
            return some(100_000, width, dtype=dtype)
        return ScaledTable(some(100_000, width).detach().to(dtype), some(100_000).detach())

    dtype = getattr(torch, table)
    given = (some(b, t, d), stored(d), stored(e), some(b * length, dtype=torch.int64), some(b + 1, dtype=torch.int64))
    beside = (some(length), some(length, r) if r else None, length)
    with compile_check.recorded() as launches:
        kept = attend_kept(*given, some(b, t, k, dtype=torch.int64), *beside)
        torch.autograd.backward(kept, [torch.zeros_like(output) for output in kept])
        whole = attend_all(*given, *beside)
        whole.backward(torch.zeros_like(whole))
    return [asdict(compile_check.compile_launch(launch, 90)) for launch in launches]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_compile(**json.loads(sys.argv[1]))))
