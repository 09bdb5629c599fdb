"""Compile and measure ahead of time what a first call would otherwise wait for, or run without."""

from collections.abc import Callable

import torch

from recollect_kernels import loops
from recollect_kernels.backend import has_triton
from recollect_kernels.benchmarks.inputs import make_inputs
from recollect_kernels.benchmarks.shapes import Shape, gpu_shapes


def prepare(*, tune: bool = False) -> list[str]:
    """Compile, or load, what the ops run on this machine, and say what that is and where it is kept.

    A serving process calls this before it says that it is ready. With `tune`, and a GPU, the Triton kernels are also
    measured at the shapes of the benchmarks, which takes minutes and is done once for a device.
    """
    prepared = [_prepare_loops()]
    if torch.cuda.is_available() and has_triton():
        prepared.append(_prepare_kernels(tune=tune))
    return prepared


def _prepare_loops() -> str:
    compiled = loops.compiled()
    if compiled is None:
        return "CPU: torch alone; install numba (the extra 'cpu') for compiled loops"
    return f"CPU: compiled loops, kept in {compiled.search.stats.cache_path}"


def _prepare_kernels(*, tune: bool) -> str:
    from recollect_kernels.tuning import cache_directory

    if not tune:
        return f"GPU: Triton kernels, configured by what {cache_directory()} holds and by rule"
    shapes = gpu_shapes()
    for shape in shapes:
        tune_for(shape, "cuda")
    return f"GPU: Triton kernels, measured at {len(shapes)} shapes; configurations are kept in {cache_directory()}"


def tune_for(shape: Shape, device: str, time: Callable[[Callable[[], object]], float] | None = None) -> None:
    """Measure the search and the pair at `shape` and keep what is fastest; `time` as for `tuning.tune_shape`."""
    from recollect_kernels.tuning import tune_shape

    inputs = make_inputs(shape, device)
    for values in (None, inputs.values):
        tune_shape(
            *(inputs.query, inputs.keys, inputs.rows[0], inputs.offsets, shape.k),
            longest=shape.length,
            values=values,
            recency_bias=inputs.recency_bias,
            time=time,
        )
