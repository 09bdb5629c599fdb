"""`recollect composed search`: a reference picture, a box around the object, what should change; its pictures."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recollect.artifacts import STABLE
from recollect.cli.connecting import COMPOSED_SERVICE, asking, connects
from recollect.cli.console import err, explains_errors, out, show_json, show_table
from recollect.errors import RecollectError
from recollect.settings import Settings

if TYPE_CHECKING:
    from recollect_api import ComposedResults
    from recollect_api.composed_wire import BoxSides


@explains_errors
@connects
def search(
    image: Annotated[
        Path | None, typer.Argument(help="Picture that shows the object; or give --id.", show_default=False)
    ] = None,
    *,
    text: Annotated[str, typer.Option(help="What should be different.")],
    gallery: Annotated[str, typer.Option(metavar="NAME", help="Gallery to search.")],
    image_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Id of a picture of the gallery as the reference.")
    ] = None,
    box: Annotated[
        str | None, typer.Option(metavar="X1,Y1,X2,Y2", help="Where the object is, in pixels of the reference.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=100, help="Pictures to find.")] = 10,
    only: Annotated[
        list[str] | None,
        typer.Option("--filter", metavar="COLUMN=A,B", help="Only pictures with one of these values; repeatable."),
    ] = None,
    beta: Annotated[
        float | None, typer.Option(help="How strongly to look at the box, instead of as the model finds right.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show where the query looked and which words mattered.")
    ] = False,
    picture: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Draw the reference, where it was looked, and the hits.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Model, without --target; the gallery's own by default.")
    ] = None,
    label: Annotated[str, typer.Option(help="Version of the gallery, without --target.")] = STABLE,
    target: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Ask the service there; otherwise this process searches.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="How long to wait for the service, seconds.")] = 30.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON line instead of tables.")] = False,
) -> None:
    """Find pictures of the object in a reference picture, changed as a text says.

    Examples:

    `recollect composed search mug.jpg --box 40,60,180,200 --text "on a table, at night" --gallery shop --explain`

    `recollect composed search --id mugs/7.png --text "with a second cup" --filter colour=red,blue --picture found.png`
    """
    if (image is None) == (image_id is None):
        raise typer.BadParameter("give either a picture or --id")
    sides = None if box is None else _sides(box)
    if image is not None and not image.is_file():
        raise RecollectError(f"{image} cannot be read: there is no such file")
    asked: dict[str, Any] = {
        "gallery": gallery,
        "image": image,
        "image_id": image_id,
        "box": sides,
        "k": k,
        "filters": _filters(only or []),
        "explain": explain or picture is not None,
        "beta": beta,
        "request_id": "",
    }
    settings = Settings.load()
    if target is None:
        found = _searched_here(settings, text, asked, model=model, label=label)
    else:
        with asking(target, serves=COMPOSED_SERVICE) as client:
            found = client.search_composed(text, **asked, timeout_s=timeout)
    if as_json:
        show_json([_plain(found)])
    else:
        _show(found, explain=explain)
    if picture is not None:
        from recollect.cli.composed_picture import draw_search

        reference: Path | str = image if image is not None else image_id or ""
        draw_search(settings, found, reference, sides, text, picture)
        err.print(f"Drew {picture}.", highlight=False)


def _searched_here(
    settings: Settings, text: str, asked: dict[str, Any], *, model: str | None, label: str
) -> "ComposedResults":
    from recollect.composed.local import search_here
    from recollect_api import composed_wire

    with err.status("loading the model"):
        return search_here(settings, composed_wire.search_request(text, **asked), model=model, label=label)


def _sides(box: str) -> "BoxSides":
    try:
        x1, y1, x2, y2 = (float(side) for side in box.split(","))
    except ValueError:
        raise typer.BadParameter(f"--box must be four numbers with commas between them, got {box!r}") from None
    return x1, y1, x2, y2


def _filters(given: Sequence[str]) -> dict[str, list[str]]:
    filters: dict[str, list[str]] = {}
    for each in given:
        column, equals, values = each.partition("=")
        if not equals or not column.strip():
            raise typer.BadParameter(f"--filter must be COLUMN=VALUE,VALUE, got {each!r}")
        filters.setdefault(column.strip(), []).extend(value.strip() for value in values.split(","))
    return filters


def _plain(found: "ComposedResults") -> dict[str, Any]:
    plain = asdict(found)
    plain["warnings"] = [{"kind": _name(each.kind), "message": each.message} for each in found.warnings]
    if found.explanation is not None:
        # Pictures are for --picture.
        del plain["explanation"]["base_attention"], plain["explanation"]["modulated_attention"]
    return plain


def _show(found: "ComposedResults", *, explain: bool) -> None:
    columns = sorted({column for hit in found.hits for column in hit.metadata})
    numbers = ["score", *(["vector"] if explain else [])]
    rows = [
        [
            hit.image_id,
            f"{hit.score:.4f}",
            *([hit.matched_vector] if explain else []),
            *(hit.metadata.get(column, "") for column in columns),
        ]
        for hit in found.hits
    ]
    title = f"{found.gallery}/{found.gallery_version}, model {found.model_name} ({found.model_fingerprint})"
    show_table(title, ["picture", *numbers, *columns], rows, right=numbers)
    mean = math.fsum(found.beta) / len(found.beta)
    spread = f", {min(found.beta):.3f} to {max(found.beta):.3f}" if len(found.beta) > 1 else ""
    out.print(f"β {mean:.3f}{spread}", highlight=False)
    if explain and found.explanation is not None:
        reasons = found.explanation
        out.print(
            f"attention on the box {reasons.modulated_box_share:.1%}, without it {reasons.base_box_share:.1%}",
            highlight=False,
        )
        words = [[each.word, f"{each.importance:+.4f}"] for each in reasons.words]
        show_table("what each word does for the first hit", ["word", "importance"], words, right=["importance"])
    for each in found.warnings:
        out.print(each.message, style="yellow", highlight=False, soft_wrap=True)


def _name(kind: Any) -> str:
    # A newer service may send a number that this client has no name for.
    return str(getattr(kind, "name", kind))
