"""`recollect recommend`: ask a running gateway what it would show a user."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from recollect.cli.connecting import asking, connects
from recollect.cli.console import explains_errors, out, show_json, show_table
from recollect.cli.score import (
    DISPLAYED,
    ids_of,
    metadata_row,
    name_of,
    show_degraded,
    show_reasons,
    shown_metadata,
    time_of,
)

if TYPE_CHECKING:
    from recollect_api import FoundBehaviour, Recommendations, RecommendedItem


@explains_errors
@connects
def recommend(
    user: Annotated[str, typer.Argument(help="The user whose history counts.", metavar="USER")],
    count: Annotated[int, typer.Option("--count", "-n", help="How many items.")] = 10,
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of", metavar="TIME", help="Only behaviours before this count: ISO 8601, UTC if it has no zone."
        ),
    ] = None,
    seen: Annotated[bool, typer.Option("--seen", help="Items of the history may be among them.")] = False,
    exclude: Annotated[str, typer.Option(metavar="ID,ID,…", help="Further items to leave out.")] = "",
    categories: Annotated[str, typer.Option(metavar="ID,ID,…", help="Only items of these categories.")] = "",
    max_per_category: Annotated[int, typer.Option(help="Most items of one category; 0 for no limit.")] = 0,
    min_price: Annotated[float | None, typer.Option(metavar="AMOUNT", help="Only at this price or more.")] = None,
    max_price: Annotated[float | None, typer.Option(metavar="AMOUNT", help="Only at this price or less.")] = None,
    currency: Annotated[
        str, typer.Option(metavar="CODE", help="Of these prices; needed where the catalogue has several.")
    ] = "",
    in_stock: Annotated[
        bool | None,
        typer.Option("--in-stock/--any-availability", help="Only what is in stock; as the catalogue says if left out."),
    ] = None,
    category: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only items of this category, by name; may be repeated.")
    ] = None,
    filter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN=VALUE",
            help="Only items of which the catalogue says so; repeated for one column, any of the values will do.",
        ),
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Also show what each score rests on.")] = False,
    target: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where the gateway listens; as configured if left out.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="How long to wait for the answer, seconds.")] = 5.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines instead of a table.")] = False,
) -> None:
    """Recommend items of the whole catalogue, best first, through a gateway that runs with an index.

    Prices, availability, categories by name and other columns are those of the catalogue that the gateway runs with.

    Examples:

    `recollect recommend user-7`

    `recollect recommend user-7 -n 20 --max-per-category 3 --explain --json`

    `recollect recommend user-7 --max-price 20 --category vase --filter material=glass --filter material=porcelain`
    """
    before, left_out, only = time_of(as_of), ids_of(exclude), ids_of(categories)
    filters = _filters(filter or [])
    with asking(target, timeout_s=timeout) as client:
        found = client.recommend(
            user,
            count,
            as_of=before,
            exclude_seen=not seen,
            exclude_item_ids=left_out,
            category_ids=only,
            max_per_category=max_per_category,
            min_price=min_price,
            max_price=max_price,
            currency=currency,
            in_stock=in_stock,
            categories=category or [],
            filters=filters,
            display=DISPLAYED,
            explain=explain,
        )
    if as_json:
        show_json([_row(item, found) for item in found.items])
    else:
        _show(user, found, explain=explain)


def _row(item: "RecommendedItem", found: "Recommendations") -> dict[str, Any]:
    return {
        "item_id": item.item_id,
        "score": item.score,
        "origin": name_of(item.origin).lower(),
        "because_item_id": item.because_item_id,
        **({"because_name": item.because_name} if item.because_name else {}),
        "similarity": item.similarity,
        "model": f"{found.model_name}/{found.model_version}",
        "index": f"{found.index_name}/{found.index_version}",
        **metadata_row(item.metadata, found),
        **({} if found.matching_items is None else {"matching_items": found.matching_items}),
        "history_length": found.history_length,
        "candidates": found.candidates,
        "degraded": [name_of(reason) for reason in found.degraded],
        **({"found": [_found(each) for each in item.found]} if item.found else {}),
    }


def _found(behaviour: "FoundBehaviour") -> dict[str, Any]:
    name = {"name": behaviour.item_name} if behaviour.item_name else {}
    return {"item_id": behaviour.item_id, **name, "weight": behaviour.weight}


def _show(user: str, found: "Recommendations", *, explain: bool) -> None:
    told, cells = shown_metadata([item.metadata for item in found.items])
    columns = ["item", *told, "score", "brought in by"]
    rows = [[item.item_id, *cells[at], f"{item.score:.4f}", _origin(item)] for at, item in enumerate(found.items)]
    title = (
        f"{user}: {found.history_length} behaviours, {found.candidates} candidates, "
        f"model {found.model_name}/{found.model_version}, index {found.index_name}/{found.index_version}"
    )
    if found.catalogue_name:
        title += f", catalogue {found.catalogue_name}/{found.catalogue_version}"
    show_table(title, columns, rows, right=["item", "price", "score"])
    if explain:
        show_reasons(found.items)
    if found.matching_items is not None:
        out.print(f"{found.matching_items:,} items of the catalogue pass the filter", highlight=False)
    show_degraded(found.degraded)


def _origin(item: "RecommendedItem") -> str:
    if item.because_item_id is None:
        return "what is popular"
    return f"{item.because_name or item.because_item_id} ({name_of(item.origin).lower()}, alike {item.similarity:.2f})"


def _filters(given: list[str]) -> dict[str, list[str]]:
    filters: dict[str, list[str]] = {}
    for text in given:
        column, _, value = text.partition("=")
        if not (column and value):
            raise typer.BadParameter(f"--filter must look like material=oak, got {text!r}")
        filters.setdefault(column, []).append(value)
    return filters
