"""`recollect explain`: ask a running gateway why a user is shown some items."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from recollect.cli.connecting import asking, connects
from recollect.cli.console import explains_errors, out, show_json, show_table
from recollect.cli.score import (
    DISPLAYED,
    found_rows,
    ids_of,
    metadata_row,
    name_of,
    show_degraded,
    show_reasons,
    shown_metadata,
    time_of,
)

if TYPE_CHECKING:
    from recollect_api import CategoryShare, ExplainedItem, Explanations

SHOWN_CATEGORIES = 3
"""Categories that are shown of one item; --json has them all."""


@explains_errors
@connects
def explain(
    user: Annotated[str, typer.Argument(help="The user to whom the items are shown.", metavar="USER")],
    items: Annotated[str, typer.Option(help="At most 100 items: ids with commas between them.", metavar="ID,ID,…")],
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of", metavar="TIME", help="Only behaviours before this count: ISO 8601, UTC if it has no zone."
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where the gateway listens; as configured if left out.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="How long to wait for the answer, seconds.")] = 5.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines instead of a table.")] = False,
) -> None:
    """Why a user is shown some items: each score beside what it would be without the user's history, the categories
    of the behaviours that it rests on, and those behaviours.

    Examples:

    `recollect explain user-7 --items 101,102,103`

    `recollect explain user-7 --items 101 --as-of 2024-01-31T12:00 --json`
    """
    ids, before = ids_of(items), time_of(as_of)
    with asking(target, timeout_s=timeout) as client:
        explained = client.explain(user, ids, as_of=before, display=DISPLAYED)
    if as_json:
        show_json([_row(item, explained) for item in explained.items])
    else:
        _show(user, explained)


def _row(item: "ExplainedItem", explained: "Explanations") -> dict[str, Any]:
    return {
        "item_id": item.item_id,
        "score": item.score,
        "score_without_history": item.score_without_history,
        "known": item.known,
        "model": f"{explained.model_name}/{explained.model_version}",
        "history_length": explained.history_length,
        "degraded": [name_of(reason) for reason in explained.degraded],
        **metadata_row(item.metadata, explained),
        "categories": [
            {
                "category_id": each.category_id,
                **({"name": each.category_name} if each.category_name else {}),
                "share": each.share,
                "behaviours": each.behaviours,
            }
            for each in item.categories
        ],
        "found": found_rows(item.found),
    }


def _show(user: str, explained: "Explanations") -> None:
    told, cells = shown_metadata([item.metadata for item in explained.items])
    rows = [
        [
            item.item_id,
            *cells[at],
            f"{item.score:.4f}",
            f"{item.score_without_history:.4f}",
            ", ".join(map(_category, item.categories[:SHOWN_CATEGORIES])),
        ]
        for at, item in enumerate(explained.items)
    ]
    title = f"{user}: {explained.history_length} behaviours, model {explained.model_name}/{explained.model_version}"
    if explained.catalogue_name:
        title += f", catalogue {explained.catalogue_name}/{explained.catalogue_version}"
    numbers = ["score", "without history"]
    show_table(title, ["item", *told, *numbers, "rests on categories"], rows, right=["item", "price", *numbers])
    show_reasons(explained.items)
    unknown = [str(item.item_id) for item in explained.items if not item.known]
    if unknown:
        out.print(f"unknown to the model: {', '.join(unknown)}", style="yellow", highlight=False)
    show_degraded(explained.degraded)


def _category(share: "CategoryShare") -> str:
    name = share.category_name or ("unknown" if share.category_id < 0 else str(share.category_id))
    return f"{name} {share.share:.0%}"
