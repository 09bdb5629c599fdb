"""Write the service's log: a JSON object a line for programs, or plain lines for people, each with the call it is of.

A line holds no token, no user's id, no picture and nothing else that a caller sent but its request id.
"""

import json
import logging
import re
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from recollect.gateway.request_ids import request_id
from recollect.telemetry.current import current
from recollect.telemetry.log_relay import RelayHandler
from recsys.history.config import HistoryConfig

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

# An id has no brace there: keys hold it escaped.
_HISTORY_KEY = re.compile(rf"({re.escape(HistoryConfig().prefix)}\{{)[^}}]*\}}")
_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_OURS = ("recollect", "recsys", "retrieval")
"""Loggers whose level is the setting's; other libraries say only what is wrong."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LogConfig:
    """What is written, and where to."""

    format: LogFormat = "text"
    """JSON for programs, text for people."""
    level: LogLevel = "warning"
    """The least that is written; `info` has a line for every call."""
    relay: Path | None = None
    """Socket of the process that writes the log of all; None: each writes to its own standard error."""


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        told = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": without_users(record.getMessage()),
            **_of_the_call(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            told["trace"] = without_users(self.formatException(record.exc_info))
        told["process"] = record.process
        return json.dumps(told, default=str)


class TextFormatter(logging.Formatter):
    """A record as a line for people, with the request id of its call behind it."""

    def __init__(self) -> None:
        super().__init__(_TEXT)

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        return without_users(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """See `logging.Formatter`."""
        line = super().formatMessage(record)
        of_call = request_id.get()
        # As JSON, so that what a caller sent cannot begin a line of its own.
        return f"{line} [request {json.dumps(of_call)}]" if of_call else line


def write_logs(config: LogConfig) -> None:
    """Write the log of this process as `config` says, from now on."""
    formatter = JsonFormatter() if config.format == "json" else TextFormatter()
    own = logging.StreamHandler()
    own.setFormatter(formatter)
    handler: logging.Handler = own
    if config.relay is not None:
        handler = RelayHandler(config.relay, otherwise=own)
        handler.setFormatter(formatter)
    root = logging.getLogger()
    for before in [each for each in root.handlers if getattr(each, "of_recollect", False)]:
        root.removeHandler(before)
        before.close()
    handler.of_recollect = True  # type: ignore[attr-defined]
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    for name in _OURS:
        logging.getLogger(name).setLevel(config.level.upper())


def without_users(text: str) -> str:
    """`text` without the users in keys of Redis, which errors of the history store name."""
    return _HISTORY_KEY.sub(r"\1user}", text)


def default_format() -> LogFormat:
    """Text where a person reads standard error, JSON where a program does."""
    return "text" if sys.stderr.isatty() else "json"


def _of_the_call() -> dict[str, str]:
    call = current.get()
    told = {"request_id": request_id.get()}
    if call is not None:
        told |= {"method": call.method, "trace_id": call.trace_id}
    return {name: value for name, value in told.items() if value}
