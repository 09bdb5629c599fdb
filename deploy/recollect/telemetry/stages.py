"""Measure the stages of a call: one line around each, in whichever thread or process it runs."""

import time
from contextlib import ContextDecorator
from types import TracebackType
from typing import Self

from recollect.telemetry import tracing
from recollect.telemetry.metrics import STAGE_SECONDS

STAGES = {
    name: STAGE_SECONDS.labels(name)
    for name in (
        "turn",  # wait until few enough others are under way
        "history",  # read from Redis, and completed from the event store
        "queue",  # wait for a thread that ranks
        "batch_queue",  # the same of rows of streams, which stand back behind single calls
        "ranking",  # by the model, of one call or of several together
        "recommending",  # find candidates and rank them
        "explaining",  # rank with and without the history
        "answer",  # put what was ranked together
        "classification",  # what the gateway waits for the encoder's process
        "composed_retrieval",  # and for that of composed retrieval
        "decoding",  # pictures, in those processes
        "embedding",
        "scoring",
        "searching",
    )
}
"""Each stage and what it is told to; a stage that waits for another process has that one's within."""


class stage(ContextDecorator):  # noqa: N801 - reads as what it is: with stage("history")
    """Measures the block, or the function, as that stage, and shows it in the trace of the call."""

    __slots__ = ("_began", "_name", "_span")

    def __init__(self, name: str) -> None:
        """`name` is one of `STAGES`."""
        self._name = name

    def _recreate_cm(self) -> Self:
        # A function may run in several threads at once.
        return type(self)(self._name)

    def __enter__(self) -> None:
        self._span = tracing.span(self._name) if tracing.active() else None
        if self._span is not None:
            self._span.__enter__()
        self._began = time.perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        STAGES[self._name].observe(time.perf_counter() - self._began)
        if self._span is not None:
            self._span.__exit__(kind, error, trace)


def took(name: str, seconds: float) -> None:
    """Note that stage `name` ends now and took `seconds`."""
    STAGES[name].observe(seconds)
    tracing.passed(name, seconds)
