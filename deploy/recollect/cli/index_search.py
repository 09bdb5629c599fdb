"""`recollect index search`: what an index holds that is like an id, a picture, or a text."""

from pathlib import Path
from typing import Annotated

import typer

from recollect.cli.console import err, explains_errors, out, show_json, show_table
from recollect.cli.versions import JsonOption, NameArgument
from recollect.settings import Settings


@explains_errors
def search(
    name: NameArgument,
    like: Annotated[str | None, typer.Option("--like", metavar="ID", help="Find what is like an id of it.")] = None,
    image: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Find what is like a picture, where it was made of pictures.")
    ] = None,
    text: Annotated[
        str | None, typer.Option(help="Find what a text describes, where an encoder of pictures and texts made it.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many to find.")] = 10,
    label: Annotated[str, typer.Option(metavar="LABEL", help="Which version to search.")] = "stable",
    as_json: JsonOption = False,
) -> None:
    """Find what is most like an id, a picture or a text, best first.

    Examples:

    `recollect index search photos --text "a red mug"`

    `recollect index search items --like 17 -k 5`
    """
    from recollect.artifacts import INDEXES, indexes_of
    from recollect.indexes.building import open_version
    from recollect.indexes.queries import embed_image, embed_text, like_id, like_vector

    if sum(given is not None for given in (like, image, text)) != 1:
        raise typer.BadParameter("give one of --like, --image and --text")
    settings = Settings.load()
    artifact = indexes_of(settings, INDEXES).resolve(f"{name}@{label}")
    with err.status("opening the index") as status:
        index = open_version(artifact)
        if like is not None:
            found = like_id(index, like, k)
        else:
            status.update("embedding the query")
            source = index.facts.source
            query = embed_image(settings, source, image) if image else embed_text(settings, source, str(text))
            found = like_vector(index, query, k)
    if as_json:
        show_json([{"id": each, "score": score} for each, score in found])
    else:
        rows = [(each, f"{score:.4f}") for each, score in found]
        out.print(artifact.reference, highlight=False, soft_wrap=True)
        show_table("", ["id", "score"], rows, right=["score"])
