"""Check admin requests: every field that is wrong is named at once, and no name or path that was sent reaches the disk
unless it looks like one of ours."""

import base64
import binascii
import math
import re
from dataclasses import dataclass
from typing import Any, TypeVar

from recollect.artifacts import STABLE
from recollect.artifacts.kinds import NAME
from recollect.gateway.validation import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, Violations, shown
from recollect.indexes.merging import MergePolicy
from recollect.indexes.plans import DEFAULT_MEMORY_BYTES, SpecWanted
from recollect_api.v1 import indexes_pb2
from recollect_api.v1.indexes_pb2 import IndexesBuildRequest
from retrieval.index.spec import Kind, Storage

T = TypeVar("T")

DEFAULT_AIM = 0.97
DEFAULT_KEEP, MAX_KEEP = 2, 1_000
MAX_PATHS, MAX_PATH_CHARACTERS = 100, 500
_PART = r"[A-Za-z0-9_=-][A-Za-z0-9._=-]{0,254}"  # no file system has longer names
_PATH = re.compile(rf"{_PART}(/{_PART})*")
_REFERENCE = re.compile(rf"({NAME.pattern})([@/])({NAME.pattern})")
_NAME_RULE = "1 to 100 letters, digits, '.', '_' or '-', the first a letter or digit"

_KINDS: dict[int, Kind | None] = {
    indexes_pb2.INDEX_KIND_UNSPECIFIED: None,
    indexes_pb2.INDEX_KIND_FLAT: Kind.FLAT,
    indexes_pb2.INDEX_KIND_IVF: Kind.IVF,
    indexes_pb2.INDEX_KIND_HNSW: Kind.HNSW,
}
_STORAGES: dict[int, Storage | None] = {
    indexes_pb2.VECTOR_STORAGE_UNSPECIFIED: None,
    indexes_pb2.VECTOR_STORAGE_FP32: Storage.FP32,
    indexes_pb2.VECTOR_STORAGE_FP16: Storage.FP16,
    indexes_pb2.VECTOR_STORAGE_SQ8: Storage.SQ8,
    indexes_pb2.VECTOR_STORAGE_PQ: Storage.PQ,
}
_REFINES = {number: storage for number, storage in _STORAGES.items() if storage is not Storage.PQ}


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildCall:
    """A Build request that is in order; whether its source is there is another question."""

    name: str
    label: str | None
    model: str | None
    """`NAME@LABEL` or `NAME/VERSION`."""
    gallery: str | None
    """The same."""
    paths: tuple[str, ...]
    """Relative, and of harmless parts; empty where a model is the source."""
    wanted: SpecWanted
    merge: MergePolicy
    aim: float


@dataclass(frozen=True, kw_only=True, slots=True)
class MoveCall:
    """A label to move."""

    name: str
    version: str
    """Empty for a rollback."""
    label: str
    expected: str | None
    """What the label must point at; "" for nothing, None for whatever it does."""


def check_build(request: IndexesBuildRequest) -> BuildCall:
    """What `request` asks for; InvalidCall names every field that is wrong."""
    violations = Violations()
    _require_name(violations, "name", request.name)
    if request.label:
        _require_name(violations, "label", request.label)
    violations.require_request_id(request.request_id)
    kind = request.WhichOneof("source")
    if kind is None:
        violations.add("source", "must be given; send model, parquet or gallery")
    elif kind == "model":
        _require_reference(violations, "model.model", request.model.model)
    elif kind == "gallery":
        _require_reference(violations, "gallery.gallery", request.gallery.gallery)
    elif kind == "parquet":
        _require_paths(violations, list(request.parquet.paths))
    wanted = _wanted(violations, request)
    aim = request.recall_aim if request.HasField("recall_aim") else DEFAULT_AIM
    if not (math.isfinite(aim) and 0 <= aim <= 1):
        violations.add("recall_aim", f"must be 0 to 1, got {aim}; 0 chooses no probes")
    violations.raise_any()
    assert wanted is not None, "nothing was noted"
    return BuildCall(
        name=request.name,
        label=request.label or None,
        model=request.model.model if kind == "model" else None,
        gallery=request.gallery.gallery if kind == "gallery" else None,
        paths=tuple(request.parquet.paths),
        wanted=wanted,
        merge=MergePolicy(drop_added=request.drop_added, restore_deleted=request.restore_deleted),
        aim=aim,
    )


def check_version(request: Any, *labels: str) -> None:
    """InvalidCall where `name`, `version` or one of the fields `labels` cannot be one; labels may be left empty."""
    violations = Violations()
    _require_name(violations, "name", request.name)
    _require_name(violations, "version", request.version)
    for field in labels:
        if getattr(request, field):
            _require_name(violations, field, getattr(request, field))
    violations.raise_any()


def check_move(request: Any, *, version: bool) -> MoveCall:
    """The label to move, with `version` to one that is named; InvalidCall names every field that is wrong."""
    violations = Violations()
    violations.require_request_id(request.request_id)
    _require_name(violations, "name", request.name)
    if version:
        _require_name(violations, "version", request.version)
    if request.label:
        _require_name(violations, "label", request.label)
    expected = request.expected_version if request.HasField("expected_version") else None
    if expected or (expected is not None and not version):
        _require_name(violations, "expected_version", expected)
    violations.raise_any()
    return MoveCall(
        name=request.name,
        version=request.version if version else "",
        label=request.label or STABLE,
        expected=expected,
    )


def check_removal(request: Any) -> int:
    """How many versions to keep; InvalidCall names every field that is wrong."""
    violations = Violations()
    violations.require_request_id(request.request_id)
    _require_name(violations, "name", request.name)
    keep: int = request.keep if request.HasField("keep") else DEFAULT_KEEP
    if not 0 <= keep <= MAX_KEEP:
        violations.add("keep", f"must be 0 to {MAX_KEEP}, got {keep}; left out it is {DEFAULT_KEEP}")
    violations.raise_any()
    return keep


def check_page(request: Any) -> tuple[str, int]:
    """Behind which entry to list, "" for all, and how many; InvalidCall names every field that is wrong."""
    violations = Violations()
    if not 0 <= request.page_size <= MAX_PAGE_SIZE:
        violations.add(
            "page_size", f"must be 0 to {MAX_PAGE_SIZE}, got {request.page_size}; 0 means {DEFAULT_PAGE_SIZE}"
        )
    behind = _entry_of(request.page_token)
    if behind is None:
        violations.add(
            "page_token",
            f"must be the next_page_token of a List, got {shown(request.page_token)}; leave it out to begin anew",
        )
    violations.raise_any()
    return behind or "", request.page_size or DEFAULT_PAGE_SIZE


def check_optional_name(name: str) -> None:
    """InvalidCall where a name is given and can be none."""
    violations = Violations()
    if name:
        _require_name(violations, "name", name)
    violations.raise_any()


def page_token(entry: str) -> str:
    """The token of the page that begins behind `entry`."""
    return base64.urlsafe_b64encode(entry.encode()).decode().rstrip("=")


def _entry_of(token: str) -> str | None:
    """What `token` was made of; None where it was not made here."""
    try:
        return base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        return None


def _require_name(violations: Violations, field: str, value: str) -> None:
    if not NAME.fullmatch(value):
        violations.add(field, f"must be {_NAME_RULE}, got {shown(value)}; send the name as List shows it")


def _require_reference(violations: Violations, field: str, value: str) -> None:
    if not _REFERENCE.fullmatch(value):
        violations.add(
            field, f"must be NAME@LABEL or NAME/VERSION such as name@stable, got {shown(value)}; names are {_NAME_RULE}"
        )


def _require_paths(violations: Violations, paths: list[str]) -> None:
    if not 1 <= len(paths) <= MAX_PATHS:
        violations.add("parquet.paths", f"must be 1 to {MAX_PATHS} paths, got {len(paths)}; name a folder of them")
    for index, path in enumerate(paths[:MAX_PATHS]):
        if len(path) > MAX_PATH_CHARACTERS or not _PATH.fullmatch(path):
            violations.add(
                f"parquet.paths[{index}]",
                f"must be a path below the service's directory of build sources, its parts up to 255 letters, digits, "
                f"'.', '_', '-' or '=' that do not begin with '.', got {shown(path)}; put it there and send that",
            )


def _wanted(violations: Violations, request: IndexesBuildRequest) -> SpecWanted | None:
    given = request.specification
    for field, number, known in (
        ("kind", given.kind, _KINDS),
        ("storage", given.storage, _STORAGES),
        ("refine", given.refine, _REFINES),
    ):
        if number not in known:
            numbers = ", ".join(map(str, known))
            violations.add(
                f"specification.{field}", f"must be one of {numbers}, got {number}; 0 leaves it to the service"
            )
            return None
    if given.memory_bytes < 0:
        violations.add(
            "specification.memory_bytes", f"must be 0 or more, got {given.memory_bytes}; 0 is {DEFAULT_MEMORY_BYTES}"
        )
        return None
    return SpecWanted(
        kind=_KINDS[given.kind],
        storage=_STORAGES[given.storage],
        refine=_STORAGES[given.refine],
        memory_bytes=given.memory_bytes or DEFAULT_MEMORY_BYTES,
        normalized=not given.inner_product,
        seed=request.seed,
    )
