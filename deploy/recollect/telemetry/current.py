"""Know which call a task answers: what metrics, traces and lines of log say of it."""

from contextvars import ContextVar
from dataclasses import dataclass

from recollect.security.scopes import SCOPES

OTHER = "other"
"""Stands for every method that is not of the contract, so that callers cannot make labels."""
_NAMES = {path: path.rpartition(".")[2] for path in SCOPES}


@dataclass(slots=True)
class Call:
    """One call."""

    method: str
    """`Recommender/Score`, or `other`."""
    trace_id: str = ""
    """32 digits in hex where the caller sent one or the call is traced."""
    reason: str = ""
    """What it was refused with, a constant of the contract."""


current: ContextVar[Call | None] = ContextVar("current", default=None)
"""The call that this task answers."""


def method_of(path: str) -> str:
    """`/recollect_api.v1.Recommender/Score` as metrics and logs have it."""
    return _NAMES.get(path, OTHER)


def method_now() -> str:
    """The method of the call that this task answers; `other` outside of calls."""
    call = current.get()
    return OTHER if call is None else call.method
