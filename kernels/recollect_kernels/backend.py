"""Name the implementations that an op can run on."""

from typing import Literal, get_args

Backend = Literal["auto", "cpu", "reference"]
"""`auto` takes the fastest implementation for the device; `reference` is the plain torch one that the others are held
to."""


def check_backend(backend: str) -> None:
    """Raise ValueError for a name that is not a Backend."""
    if backend not in get_args(Backend):
        raise ValueError(f"backend must be one of {', '.join(map(repr, get_args(Backend)))}, got {backend!r}")
