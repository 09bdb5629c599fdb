"""`recollect kernels`: compile and measure ahead of time what requests would otherwise wait for."""

from typing import Annotated

import typer

from recollect.cli.console import err, explains_errors, out, show_json

kernels_app = typer.Typer(
    help="Look after the compiled kernels.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


@kernels_app.command()
@explains_errors
def prepare(
    tune: Annotated[bool, typer.Option(help="On a GPU, measure how the kernels are best cut up, for minutes.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines.")] = False,
) -> None:
    """Compile the kernels for this machine, and on a GPU measure them, so that no request waits for either.

    Run it once after installing or upgrading, as the user who serves. Compiled code that is there already is kept.

    Example: `recollect kernels prepare`
    """
    from recollect_kernels import prepare as prepare_kernels

    with err.status("compiling and measuring" if tune else "compiling"):
        prepared = prepare_kernels(tune=tune)
    if as_json:
        show_json([{"prepared": line} for line in prepared])
        return
    for line in prepared:
        out.print(line, highlight=False, soft_wrap=True)
