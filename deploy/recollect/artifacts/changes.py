"""Changes of labels that machines share: an object each, numbered, made once and never changed.

.labels/<name>@<label>/<number>.json    the newest says what the label points at

Who makes the next number moves the label; of two who would, the file system lets one.
"""

import json
import re
from dataclasses import asdict
from uuid import uuid4

from recollect.artifacts.kinds import NAME
from recollect.artifacts.labels import LabelChange

FOLDER = ".labels"
_OBJECT = re.compile(rf"{re.escape(FOLDER)}/({NAME.pattern})@({NAME.pattern})/(\d{{8}})\.json")


def path_of(name: str, label: str, number: int) -> str:
    """Where a change is."""
    return f"{FOLDER}/{name}@{label}/{number:08d}.json"


def numbered(path: str) -> tuple[str, str, int] | None:
    """Name, label and number of the change at `path`; None where that is something else."""
    match = _OBJECT.fullmatch(path)
    return None if match is None else (match[1], match[2], int(match[3]))


def written(change: LabelChange) -> bytes:
    """A change as an object, like no other one."""
    return json.dumps({**asdict(change), "token": uuid4().hex}).encode()


def read(data: bytes | None) -> LabelChange | None:
    """The change; None where whoever wrote it died before it was whole."""
    try:
        fields = json.loads(data or b"")
        del fields["token"]
        change = LabelChange(**fields)
    except (ValueError, TypeError, KeyError):
        return None
    return change if isinstance(change.version, str) and NAME.fullmatch(change.version) else None
