"""Compile the kernels of a call for a GPU that need not be there, and read what they take of it.

    python -m recollect_kernels.compile_check                 every shape that the benchmarks measure, for sm_90
    python -m recollect_kernels.compile_check --capability 80

Registers that do not suffice are spilled to slow memory without a word; here they show. The call is made with tensors
that hold nothing (device "meta"), and what it would have launched is compiled instead. Triton's interpreter must be
off when the kernels are imported.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from recollect_kernels.benchmarks.shapes import Shape, gpu_shapes
from recollect_kernels.tables import ScaledTable, Table

_POINTERS = {
    torch.float32: "*fp32",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.int8: "*i8",
    torch.float8_e4m3fn: "*fp8e4nv",
    torch.int32: "*i32",
    torch.int64: "*i64",
}
_ALIGNED = [["tt.divisibility", 16]]
"""What torch promises of memory that it allocates."""


class Launch(NamedTuple):
    """A kernel and the arguments that it was called with, by name."""

    kernel: Any
    arguments: dict[str, Any]
    options: dict[str, int]
    """num_warps and its like."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Resources:
    """What one program of a compiled kernel takes."""

    kernel: str
    warps: int
    registers: int
    """Of a thread; 255 at most."""
    spilled: int
    """Bytes of registers that a thread stores and loads for want of room."""
    shared: int
    """Bytes of shared memory."""
    tensor_cores: bool
    """Whether it multiplies on tensor cores."""


@contextmanager
def recorded() -> Iterator[list[Launch]]:
    """Collect what is launched inside, instead of launching it."""
    launches: list[Launch] = []
    run = JITFunction.run

    def record(self: Any, *args: Any, grid: Any, warmup: bool, **named: Any) -> None:  # noqa: ARG001 - Triton's own
        arguments = dict(zip(self.arg_names, args, strict=False)) | named
        options = {name: value for name, value in arguments.items() if name not in self.arg_names}
        launches.append(Launch(self, {name: arguments[name] for name in self.arg_names}, options))

    JITFunction.run = record
    try:
        yield launches
    finally:
        JITFunction.run = run


def compile_launch(launch: Launch, capability: int) -> Resources:
    """Compile for compute capability `capability`, 90 for an H100 or H200; RuntimeError where the assembler refuses."""
    constants, signature = {}, {}
    for parameter in launch.kernel.params:
        value = launch.arguments[parameter.name]
        if parameter.is_constexpr or value is None:
            constants[parameter.num,] = value
            signature[parameter.name] = "constexpr"
        else:
            signature[parameter.name] = _type_of(value)
    pointers = [each for each in launch.kernel.params if signature[each.name].startswith("*")]
    aligned = {(each.num,): _ALIGNED for each in pointers}
    source = ASTSource(fn=launch.kernel, signature=signature, constexprs=constants, attrs=aligned)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=launch.options)
    report = _assemble(compiled.asm["ptx"], capability)
    return Resources(
        kernel=launch.kernel.__name__,
        warps=compiled.metadata.num_warps,
        registers=_number(r"Used (\d+) registers", report),
        spilled=_number(r"(\d+) bytes spill stores", report) + _number(r"(\d+) bytes spill loads", report),
        shared=compiled.metadata.shared,
        tensor_cores="mma" in compiled.asm["ptx"],
    )


def _type_of(value: object) -> str:
    if isinstance(value, Tensor):
        return _POINTERS[value.dtype]
    if isinstance(value, bool):
        return "i1"
    if isinstance(value, int):
        return "i32" if -(2**31) <= value < 2**31 else "i64"
    return "fp32"


def _assemble(ptx: str, capability: int) -> str:
    """What the assembler that comes with Triton says of `ptx`."""
    assembler = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
    architecture = f"sm_{capability}a" if capability >= 90 else f"sm_{capability}"
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory) / "kernel.ptx"
        source.write_text(ptx, encoding="utf-8")
        command = [str(assembler), "-v", f"-arch={architecture}", str(source), "-o", str(source.with_suffix(".cubin"))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ptxas ended with {done.returncode}: {done.stderr.strip()}")
    return done.stderr


def _number(pattern: str, report: str) -> int:
    found = re.search(pattern, report)
    if found is None:
        raise RuntimeError(f"ptxas says nothing that matches {pattern!r}: {report.strip()}")
    return int(found[1])


def search_launches(shape: Shape) -> list[Launch]:
    """What the search and the fused pair launch at `shape`, in their default configuration."""
    from recollect_kernels.behavior_search.triton import search
    from recollect_kernels.search_and_attend.triton import search_and_attend
    from recollect_kernels.tuning import bucket_of, default_configuration

    query = torch.empty(shape.b, shape.t, shape.d, device="meta")
    keys, values = _table(shape, shape.d), _table(shape, shape.e)
    rows = torch.empty(shape.b * shape.length, dtype=torch.int32, device="meta")
    offsets = torch.empty(shape.b + 1, dtype=torch.int64, device="meta")
    bias, recency_values = torch.empty(200, device="meta"), torch.empty(200, 8, device="meta")
    chosen = default_configuration(bucket_of(query, keys, shape.k, shape.length))
    with recorded() as launches:
        search(query, keys, rows, offsets, shape.k, bias, shape.length, chosen)
        search_and_attend(query, keys, values, rows, offsets, shape.k, bias, recency_values, shape.length, chosen)
    return launches


def _table(shape: Shape, width: int) -> Table:
    vocabulary = 1_000_000
    if shape.table in ("int8", "float8"):
        dtype = torch.int8 if shape.table == "int8" else torch.float8_e4m3fn
        rows = torch.empty(vocabulary, width, dtype=dtype, device="meta")
        return ScaledTable(rows, torch.empty(vocabulary, device="meta"))
    return torch.empty(vocabulary, width, dtype=getattr(torch, shape.table), device="meta")


def checked_shapes() -> list[Shape]:
    """The shapes of the benchmarks, every other table type, and the most that the kernels are for."""
    page = Shape(use="ranking a page", b=8, t=100, length=10_000, d=16, k=32, e=64, table="float16")
    return [
        *gpu_shapes(),
        *(replace(page, table=table) for table in ("float32", "bfloat16", "int8", "float8")),
        replace(page, use="as much as possible", length=100_000, d=64, k=128, e=256),
        replace(page, use="as much as possible, one target", t=1, length=100_000, d=64, k=128, e=256, table="float32"),
        replace(page, use="odd widths", d=13, k=7, e=5),
        replace(page, use="the longest single pass", length=4_096, d=64, k=128, e=256),
    ]


def check_shapes(shapes: list[Shape], capability: int, launches_at: Callable[[Shape], list[Launch]]) -> Iterator[Any]:
    """For each shape, the resources of each kernel that `launches_at` it, those that are launched twice once."""
    for shape in shapes:
        done = {}
        for launch in launches_at(shape):
            resources = compile_launch(launch, capability)
            done[resources.kernel] = resources
        yield shape, list(done.values())


def main(arguments: list[str] | None = None) -> int:
    """Print a line a kernel and shape; 1 where one spills."""
    parser = argparse.ArgumentParser(prog="recollect_kernels.compile_check", description="Compile without a GPU.")
    parser.add_argument("--capability", type=int, default=90, help="compute capability; 90 for an H100 or H200")
    parser.add_argument("--json", action="store_true", help="print JSON lines")
    given = parser.parse_args(arguments)
    spilled = 0
    # float8 arithmetic begins with compute capability 8.9.
    shapes = [shape for shape in checked_shapes() if shape.table != "float8" or given.capability >= 89]
    for shape, kernels in check_shapes(shapes, given.capability, search_launches):
        for each in kernels:
            spilled += each.spilled
            if given.json:
                line = json.dumps({"shape": asdict(shape), **asdict(each)})
            else:
                line = (
                    f"{shape.b}x{shape.t}x{shape.length} d{shape.d} k{shape.k} e{shape.e} {shape.table:9}"
                    f"{each.kernel:24}{each.warps:3} warps {each.registers:4} registers {each.spilled:4} B spilled "
                    f"{each.shared:7,} B shared"
                )
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
    return int(spilled > 0)


if __name__ == "__main__":
    sys.exit(main())
