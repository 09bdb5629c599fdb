"""`recollect composed world`: a rendered world to train and measure composed retrieval on, without a download."""

from pathlib import Path
from typing import Annotated

import typer

from recollect.cli.console import err, explains_errors, out, progress


@explains_errors
def world(
    directory: Annotated[Path, typer.Argument(help="New or empty folder, or one that a killed call left.")],
    size: Annotated[
        str, typer.Option(help="standard: 1,200 objects to train on; tiny: nine, in seconds.")
    ] = "standard",
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds give equal bytes.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes that draw.")] = 2,
) -> None:
    """Draw scenes of objects known by their marks, in OACIRR's format, and a sheet.png that shows some queries.

    Example: `recollect composed world var/data/world`
    """
    from retrieval.composed.world import contact_sheet, standard, tiny, write_world
    from retrieval.errors import ComposedError

    sizes = {"standard": standard, "tiny": tiny}
    if size not in sizes:
        raise ComposedError(f"no size {size!r}; there are {', '.join(sizes)}")
    with progress() as bar:
        task = bar.add_task("drawing", total=None)
        write_world(
            directory,
            sizes[size](seed),
            workers=workers,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    sheet = directory / "sheet.png"
    contact_sheet(directory, "test").save(sheet)
    err.print(f"{sheet} shows some queries", highlight=False, soft_wrap=True)
    out.print(str(directory), highlight=False, soft_wrap=True)
