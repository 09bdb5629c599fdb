"""`recollect score`: ask a running gateway for the scores of some items, or score a file of requests."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recollect.cli.connecting import asking, connects
from recollect.cli.console import explains_errors, out, show_json, show_table
from recollect.cli.score_batch import Batch, score_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from recollect_api import (
        DegradedReason,
        ExplainedItem,
        Explanations,
        FoundBehaviour,
        ItemMetadata,
        Recommendations,
        RecommendedItem,
        ScoredItem,
        Scores,
    )

SHOWN_BEHAVIOURS = 3
"""Behaviours that are shown of one explanation; --json has them all."""
_FILES = "Scoring files"
DISPLAYED = ("name", "category", "price", "image", "availability")
"""What is asked of the catalogue, where the gateway has one."""


@explains_errors
@connects
def score(
    user: Annotated[str | None, typer.Argument(help="The user whose history counts.", metavar="USER")] = None,
    items: Annotated[
        str | None, typer.Option(help="The candidates: ids with commas between them.", metavar="ID,ID,…")
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of", metavar="TIME", help="Only behaviours before this count: ISO 8601, UTC if it has no zone."
        ),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Also show the behaviours that each score rests on.")
    ] = False,
    target: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where the gateway listens; as configured if left out.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="How long to wait for the answer, seconds.")] = 5.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines instead of a table.")] = False,
    input: Annotated[
        Path | None,
        typer.Option(
            "--input",
            metavar="PARQUET",
            help="Requests, a file or a directory of them: a row a call, with user_id, item_ids and, where wanted, "
            "as_of and history (item ids, oldest first).",
            rich_help_panel=_FILES,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="PATH",
            help="Where their scores go: a file `….parquet`, or a directory of parts.",
            rich_help_panel=_FILES,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="name@label, name/version or a model directory; dare@stable unless told.", rich_help_panel=_FILES
        ),
    ] = None,
    redis: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Redis that has the histories; the configured or private one unless told.",
            rich_help_panel=_FILES,
        ),
    ] = None,
    events: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Event store that has the histories; with --redis, what completes those that Redis does not have.",
            rich_help_panel=_FILES,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that score; one a processor unless told.", rich_help_panel=_FILES),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace scores that are there.", rich_help_panel=_FILES)
    ] = False,
    ray_address: Annotated[
        str | None,
        typer.Option(
            help="Ray cluster to score on, which sees model, requests and events; a private node by default.",
            rich_help_panel=_FILES,
        ),
    ] = None,
) -> None:
    """Score items for a user, best first, through a gateway that runs (see `recollect serve`); or, with --input, all
    requests of Parquet files on Ray Data, without one.

    Of files, the output has the columns and rows of the input in their order, without histories, and beside them
    `status` (scored, degraded or refused), `reason`, `scores` in the order of item_ids, `unknown_positions`,
    `history_length` and `model`. The scores are those that the service would give. Killed? Run it again, it goes on.

    Examples:

    `recollect score user-7 --items 101,102,103`

    `recollect score user-7 --items 101,102 --as-of 2024-01-31T12:00 --explain --json`

    `recollect score --input requests.parquet --output scores.parquet --events var/data/shop`
    """
    of_files = (model, redis, events, workers, ray_address, overwrite or None)
    if input is not None or output is not None:
        of_one_call = (user, items, as_of, target, explain or None)
        if input is None or output is None or any(option is not None for option in of_one_call):
            raise typer.BadParameter(
                "--input and --output belong together, without USER and the options of one call", param_hint="--input"
            )
        score_batch(
            Batch(
                input=input,
                output=output,
                model=model or "dare@stable",
                redis=redis,
                events=events,
                workers=workers,
                overwrite=overwrite,
                ray_address=ray_address,
            ),
            as_json=as_json,
        )
        return
    if user is None or items is None or any(option is not None for option in of_files):
        raise typer.BadParameter(
            "give USER and --items for one call, or --input and --output for files of them", param_hint="USER"
        )
    ids, before = ids_of(items), time_of(as_of)
    with asking(target, timeout_s=timeout) as client:
        scores = client.score(user, ids, as_of=before, display=DISPLAYED, explain=explain)
    if as_json:
        show_json([_row(item, scores) for item in scores.ranked()])
    else:
        _show(user, scores, explain=explain)


def ids_of(items: str) -> list[int]:
    """Whole numbers with commas between them."""
    try:
        return [int(part) for part in items.split(",") if part.strip()]
    except ValueError:
        raise typer.BadParameter(f"expected whole numbers with commas between them, got {items!r}") from None


def time_of(as_of: str | None) -> datetime | None:
    """A time in ISO 8601, UTC if it has no zone."""
    if as_of is None:
        return None
    try:
        time = datetime.fromisoformat(as_of)
    except ValueError:
        raise typer.BadParameter(f"expected a time such as 2024-01-31T12:00, got {as_of!r}") from None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def _row(item: "ScoredItem", scores: "Scores") -> dict[str, Any]:
    row: dict[str, Any] = {
        "item_id": item.item_id,
        "score": item.score,
        "known": item.known,
        "model": f"{scores.model_name}/{scores.model_version}",
        "history_length": scores.history_length,
        "degraded": [name_of(reason) for reason in scores.degraded],
        **metadata_row(item.metadata, scores),
    }
    if item.found:
        row["found"] = found_rows(item.found)
    return row


def found_rows(behaviours: "Sequence[FoundBehaviour]") -> list[dict[str, Any]]:
    """What --json says of behaviours that a score rests on."""
    return [
        {
            "item_id": found.item_id,
            **({"name": found.item_name} if found.item_name else {}),
            "time": found.time.isoformat(),
            "type": name_of(found.type).lower(),
            "weight": found.weight,
        }
        for found in behaviours
    ]


def _show(user: str, scores: "Scores", *, explain: bool) -> None:
    ranked = scores.ranked()
    told, cells = shown_metadata([item.metadata for item in ranked])
    rows = [
        [item.item_id, *cells[at], f"{item.score:.4f}", "yes" if item.known else "no"] for at, item in enumerate(ranked)
    ]
    title = f"{user}: {scores.history_length} behaviours, model {scores.model_name}/{scores.model_version}"
    if scores.catalogue_name:
        title += f", catalogue {scores.catalogue_name}/{scores.catalogue_version}"
    show_table(title, ["item", *told, "score", "known"], rows, right=["item", "price", "score"])
    if explain:
        show_reasons(ranked)
    show_degraded(scores.degraded)


def show_degraded(degraded: "Sequence[DegradedReason | int]") -> None:
    """Below a table: why the answer is worse than it could be, where it is."""
    if degraded:
        reasons = ", ".join(name_of(reason).lower().replace("_", " ") for reason in degraded)
        out.print(f"degraded: {reasons}", style="yellow", highlight=False)


def show_reasons(items: "Sequence[ScoredItem | RecommendedItem | ExplainedItem]") -> None:
    """Below a table, since they are longer than its cells: the first behaviours that each score rests on."""
    for item in items:
        name = "" if item.metadata is None or not item.metadata.name else f" {item.metadata.name}"
        hidden = len(item.found) - SHOWN_BEHAVIOURS
        lines = [
            f"{item.item_id}{name} rests on{'' if item.found else ' nothing'}",
            *(f"    {_behaviour(found)}" for found in item.found[:SHOWN_BEHAVIOURS]),
            *([f"    and {hidden} more"] if hidden > 0 else []),
        ]
        out.print("\n".join(lines), highlight=False)


def _behaviour(found: "FoundBehaviour") -> str:
    item = found.item_name or found.item_id
    return f"{found.weight:.3f}  {name_of(found.type).lower()} of {item}, {found.time:%Y-%m-%d %H:%M}"


def shown_metadata(items: "Sequence[ItemMetadata | None]") -> tuple[list[str], list[list[object]]]:
    """Columns and cells of what the catalogue tells of items; no columns where it tells nothing."""
    columns: dict[str, Callable[[ItemMetadata], object]] = {
        "name": lambda item: item.name,
        "category": lambda item: ", ".join(item.categories),
        "price": lambda item: item.price or "",
        "availability": lambda item: name_of(item.availability).lower().replace("_", " ") if item.availability else "",
    }
    told = [name for name, of in columns.items() if any(of(item) for item in items if item is not None)]
    return told, [["" if item is None else columns[name](item) for name in told] for item in items]


def metadata_row(item: "ItemMetadata | None", answer: "Scores | Recommendations | Explanations") -> dict[str, Any]:
    """What --json says of the catalogue: nothing where the gateway has none, null for an item that it does not have."""
    if not answer.catalogue_name:
        return {}
    metadata = None
    if item is not None:
        metadata = {
            "name": item.name,
            "categories": list(item.categories),
            "price": None if item.price is None else item.price.amount,
            "currency": None if item.price is None else item.price.currency,
            "image": item.image,
            "availability": name_of(item.availability).lower() if item.availability else None,
        }
    return {"catalogue": f"{answer.catalogue_name}/{answer.catalogue_version}", "metadata": metadata}


def name_of(member: Any) -> str:
    """A member's name, or its number."""
    # A newer gateway may send a number that this client has no name for.
    return str(getattr(member, "name", member))
