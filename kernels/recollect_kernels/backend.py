"""Name the implementations that an op can run on, and choose one for the tensors at hand."""

import os
from functools import cache
from importlib.util import find_spec
from typing import Literal, get_args

import torch
from torch import Tensor

from recollect_kernels.tables import ScaledTable, Table

Backend = Literal["auto", "triton", "cpu", "reference"]
"""`auto` takes the fastest implementation for the device; `reference` is the plain torch one that the others are held
to."""

LARGEST_K = 128
"""Behaviours that the Triton kernels keep at most."""


def check_backend(backend: str) -> None:
    """Raise ValueError for a name that is not a Backend."""
    if backend not in get_args(Backend):
        raise ValueError(f"backend must be one of {', '.join(map(repr, get_args(Backend)))}, got {backend!r}")


def choose_backend(backend: Backend, query: Tensor, *tables: Table, k: int) -> Literal["triton", "cpu", "reference"]:
    """What to run for these arguments: `backend` itself, or for `auto` the fastest that can.

    Raises ValueError where `backend` cannot run where the tensors are, or with what they hold.
    """
    if backend == "auto" and query.is_cpu:
        return "cpu"
    check_backend(backend)
    device = query.device
    if backend == "cpu" and device.type != "cpu":
        raise ValueError(f"backend 'cpu' needs tensors on the CPU, got a query on {device}; use 'auto'")
    if backend in ("cpu", "reference"):
        return backend
    obstacle = _obstacle_to_triton(query, tables, k)
    if backend == "triton":
        if obstacle is not None:
            raise ValueError(f"backend 'triton' {obstacle}; use 'auto'")
        return "triton"
    return "reference" if obstacle is not None else "triton"


def _obstacle_to_triton(query: Tensor, tables: tuple[Table, ...], k: int) -> str | None:
    if not has_triton():
        return "needs the triton package"
    if query.device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return f"needs tensors on a CUDA device, got a query on {query.device}"
    if query.device.type == "cuda":
        float8 = any(isinstance(table, ScaledTable) and table.rows.dtype == torch.float8_e4m3fn for table in tables)
        least, found = (8, 9) if float8 else (8, 0), _capability(query.device)
        if found < least:
            what = " for float8 tables" if float8 else ""
            return f"needs compute capability {least[0]}.{least[1]} or newer{what}, got {found[0]}.{found[1]}"
    if k > LARGEST_K:
        return f"keeps at most {LARGEST_K} behaviours, got k = {k}"
    if torch.float64 in (query.dtype, *(table.dtype for table in tables if isinstance(table, Tensor))):
        return "computes in float32, got float64"
    return None


@cache
def has_triton() -> bool:
    """Whether the triton package is installed."""
    return find_spec("triton") is not None


@cache
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)
