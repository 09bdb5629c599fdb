"""Keep operations on the disk: what a service knew of them, the next one knows too.

var/operations/<id>.json    a google.longrunning.Operation as JSON
"""

import logging
import re
import secrets
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from google.longrunning.operations_pb2 import Operation  # type: ignore[import-untyped]
from google.protobuf.json_format import MessageToJson, Parse, ParseError
from google.rpc import error_details_pb2  # type: ignore[import-untyped]  # noqa: F401 - what errors are told with

from recollect.admin.errors import OperationNotFound
from recollect.timed_names import second_after
from recollect_api.v1 import indexes_pb2  # noqa: F401 - what operations are told with
from retrieval.files import write_whole

log = logging.getLogger(__name__)

COLLECTION = "operations"
_NAME = re.compile(rf"{COLLECTION}/(\d{{8}}T\d{{6}}-[0-9a-f]{{8}})")
KEPT = 200
"""Finished operations that are remembered."""


class OperationLog:
    """Operations of this and earlier services, below `directory`; one process at a time uses it."""

    def __init__(self, directory: Path, clock: Callable[[], datetime]) -> None:
        self._directory = directory
        self._clock = clock
        self._found: dict[str, Operation] = {}
        for path in sorted(directory.glob("*.json")):
            try:
                operation = Parse(path.read_text(), Operation(), ignore_unknown_fields=True)
            except (OSError, ValueError, ParseError, TypeError) as error:
                log.warning("%s is no operation and is left alone: %s", path, error)
                continue
            self._found[operation.name] = operation

    def new_name(self) -> str:
        """A name that no operation has; it sorts behind all that are remembered."""
        names = (name.removeprefix(f"{COLLECTION}/") for name in self._found)
        return f"{COLLECTION}/{second_after(names, self._clock())}-{secrets.token_hex(4)}"

    def all(self) -> list[Operation]:
        """Newest first."""
        return [self._found[name] for name in sorted(self._found, reverse=True)]

    def get(self, name: str) -> Operation:
        """The operation of that name; OperationNotFound where there is none."""
        operation = self._found.get(name)
        if operation is None:
            raise OperationNotFound(f"there is no {name}; ListOperations names those that are remembered")
        return operation

    def save(self, operation: Operation) -> None:
        """Remember how far it is."""
        write_whole(self._path(operation.name), MessageToJson(operation) + "\n")
        self._found[operation.name] = operation
        for each in [each for each in self.all() if each.done][KEPT:]:
            self.forget(each.name)

    def forget(self, name: str) -> None:
        """Remember it no longer."""
        self._path(name).unlink(missing_ok=True)
        self._found.pop(name, None)

    def _path(self, name: str) -> Path:
        match = _NAME.fullmatch(name)
        assert match is not None, "operations are named here"
        return self._directory / f"{match[1]}.json"
