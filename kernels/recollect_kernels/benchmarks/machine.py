"""Say what a figure was measured on, and hold the libraries to a number of threads."""

import importlib.metadata
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch

_FAISS_WHEELS = ("faiss-cpu", "faiss-gpu-cu12", "faiss-gpu")


def describe(device: str) -> dict[str, str | int | float | None]:
    """Name of the CPU or GPU, cores, threads, load average of the last minute, and versions; None for what is missing.

    Under load, threads wait for a core that another process has, and times on a CPU say little.
    """
    return {
        "machine": torch.cuda.get_device_name() if device == "cuda" else _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": _version("triton"),
        "numba": _version("numba"),
        "numpy": _version("numpy"),
        "faiss": next(filter(None, map(_version, _FAISS_WHEELS)), None),
    }


@contextmanager
def threads(number: int | None) -> Iterator[None]:
    """Let torch and FAISS use `number` threads meanwhile; None leaves them as they are.

    The ops use as many as torch. numpy's matrix product goes by OPENBLAS_NUM_THREADS, which is read at its import.
    """
    faiss = import_module("faiss") if find_spec("faiss") else None
    # They may share one OpenMP, so both are read before either is set, and torch has the last word.
    before, faiss_before = torch.get_num_threads(), faiss.omp_get_max_threads() if faiss else 0
    if faiss:
        faiss.omp_set_num_threads(number or before)
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        if faiss:
            faiss.omp_set_num_threads(faiss_before)
        torch.set_num_threads(before)


def _cpu_name() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
