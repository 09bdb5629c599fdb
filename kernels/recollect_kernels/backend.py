"""Name the implementations that an op can run on."""

from typing import Literal

Backend = Literal["auto", "reference"]
"""`auto` takes the fastest implementation for the device; `reference` is the plain torch one that the others are held
to."""


def check_backend(backend: str) -> None:
    """Raise ValueError for a name that is not a Backend."""
    if backend not in ("auto", "reference"):
        raise ValueError(f"backend must be 'auto' or 'reference', got {backend!r}")
