"""`recollect index … --target`: have a running service build, and see what it builds."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recollect.cli.connecting import connects
from recollect.cli.console import cell, err, explains_errors, out, show_json, show_table, step_progress
from recollect.cli.index_building import show_built, show_refused
from recollect.cli.remote import ServiceOption, admin_at
from recollect.cli.versions import JsonOption

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from recollect.indexes.merging import MergePolicy
    from recollect.indexes.plans import SpecWanted
    from recollect_api.admin import AdminClient, BuildOperation, IndexVersion

OperationArgument = Annotated[str, typer.Argument(metavar="OPERATION", help="Which one, as `operations` shows it.")]


@dataclass(frozen=True, slots=True)
class BuildThere:
    """What a service is asked to build."""

    name: str
    model: str | None
    vectors: "Sequence[Path] | None"
    """Paths below its directory of build sources."""
    gallery: str | None
    wanted: "SpecWanted"
    aim: float
    label: str
    merge: "MergePolicy"


def build_there(target: str, request: BuildThere, *, as_json: bool) -> None:
    """Have the service build, show how far it is and what came of it; Ctrl-C leaves it to the service."""
    from recollect_api.admin import IndexKind, VectorStorage

    wanted, vectors = request.wanted, request.vectors
    with admin_at(target) as client:
        operation = client.build_index(
            request.name,
            model=request.model,
            files=None if vectors is None else [path.as_posix() for path in vectors],
            gallery=request.gallery,
            kind=IndexKind.UNSPECIFIED if wanted.kind is None else IndexKind[wanted.kind.name],
            storage=VectorStorage.UNSPECIFIED if wanted.storage is None else VectorStorage[wanted.storage.name],
            refine=VectorStorage.UNSPECIFIED if wanted.refine is None else VectorStorage[wanted.refine.name],
            memory_bytes=wanted.memory_bytes,
            inner_product=not wanted.normalized,
            recall_aim=request.aim,
            label=request.label,
            seed=wanted.seed,
            drop_added=request.merge.drop_added,
            restore_deleted=request.merge.restore_deleted,
        )
        ended = _followed(client, operation.name)
        made = ended.result()
    row = {
        "index": request.name,
        "version": made.version,
        "label": request.label or None,
        "vectors": made.vectors,
        "dim": made.dimension,
        "spec": spec_of(made),
        "merged": {"kept": ended.merged.kept, "left_out": ended.merged.left_out, "dropped": ended.merged.dropped},
        "refused_count": ended.refused_count,
        "refused": [{"id": each.id, "reason": each.reason} for each in ended.refused],
    }
    show_built(row, made.quality.checks, as_json=as_json)


def version_row(version: "IndexVersion") -> dict[str, Any]:
    """What a row tells of a version, as of one in this directory."""
    source = asdict(version.source)
    return {
        "name": version.name,
        "version": version.version,
        "labels": list(version.labels),
        "kind": "index",
        "vectors": version.vectors,
        "dim": version.dimension,
        "spec": spec_of(version),
        "source": {key: value for key, value in source.items() if value},
        "base": {"version": version.base} if version.base else None,
        "may_answer": version.quality.passed,
        **{check.name: check.value for check in version.quality.checks},
        "mb": round(version.size_bytes / 1e6, 1),
        **({"problem": version.problem} if version.problem else {}),
    }


def spec_of(version: "IndexVersion") -> str:
    """The index as FAISS names it, and what a search looks through."""
    return version.factory + (f" · {version.probes}" if version.probes else "")


@explains_errors
@connects
def operations(target: ServiceOption = None, as_json: JsonOption = False) -> None:
    """List what a running service builds and has built, newest first.

    Example: `recollect index operations --target localhost:50052`
    """
    with admin_at(target) as client:
        rows = [_operation_row(each) for each in client.operations()]
    if as_json:
        show_json(rows)
        return
    columns = ["operation", "index", "state", "step", "begun", "version"]
    show_table("", columns, [[cell(row[column]) for column in columns] for row in rows])


@explains_errors
@connects
def watch(operation: OperationArgument, target: ServiceOption = None) -> None:
    """Show how far a running service's build is until it has ended; Ctrl-C leaves it to the service.

    Example: `recollect index watch operations/20261128T094952-541de118 --target localhost:50052`
    """
    with admin_at(target) as client:
        version = _followed(client, operation).result()
    out.print(f"{version.name}/{version.version}: {version.vectors:,} vectors, {spec_of(version)}", highlight=False)


@explains_errors
@connects
def cancel(operation: OperationArgument, target: ServiceOption = None) -> None:
    """End a build of a running service, and remove what it has made.

    Example: `recollect index cancel operations/20261128T094952-541de118 --target localhost:50052`
    """
    with admin_at(target) as client:
        client.cancel_operation(operation)
        ended = client.wait_operation(operation)
    if ended.error is None:
        out.print(f"{operation} had ended: {ended.index}/{ended.version} is built", highlight=False, soft_wrap=True)
    else:
        out.print(f"{operation}: {ended.error.message}", highlight=False, soft_wrap=True)


def _followed(client: "AdminClient", name: str) -> "BuildOperation":
    try:
        with step_progress() as told:

            def show(operation: "BuildOperation") -> None:
                for step in operation.steps:
                    told(step.name, step.done, step.total)

            ended = client.wait_operation(name, on_progress=show)
    except KeyboardInterrupt:
        err.print(
            f"the service builds on: {name}; `recollect index watch {name} --target {client.target}` comes back to it, "
            "`cancel` ends it",
            highlight=False,
            soft_wrap=True,
        )
        raise typer.Exit(130) from None
    show_refused([each.reason for each in ended.refused], ended.refused_count)
    return ended


def _operation_row(operation: "BuildOperation") -> dict[str, Any]:
    state = "builds" if not operation.done else "built"
    if operation.error is not None:
        state = operation.error.reason.lower().replace("_", " ")
    elif operation.cancel_requested and not operation.done:
        state = "is cancelled"
    step = operation.steps[-1] if operation.steps else None
    return {
        "operation": operation.name,
        "index": operation.index,
        "state": state,
        "step": "" if step is None else f"{step.name} {step.done:,} of {step.total:,}",
        "begun": "" if operation.create_time is None else operation.create_time.isoformat(timespec="seconds"),
        "version": operation.version,
        "why": "" if operation.error is None else operation.error.message,
    }
