"""`recollect composed convert`: a released AdaFocal checkpoint becomes a model directory."""

from pathlib import Path
from typing import Annotated

import typer

from recollect.cli.console import err, explains_errors, out


@explains_errors
def convert(
    checkpoint: Annotated[Path, typer.Argument(help=".pth file with LAVIS's parameter names.")],
    base: Annotated[
        str, typer.Option(help="BLIP-2 checkpoint that it was trained from, by directory or hub name.")
    ] = "Salesforce/blip2-itm-vit-g",
    output: Annotated[Path, typer.Option(help="New directory for the model.")] = Path("adafocal"),
    verbose: Annotated[bool, typer.Option("--verbose", help="Tell what became of every tensor.")] = False,
) -> None:
    """Convert a released AdaFocal checkpoint, which `recollect serve --composed` and every other command then takes.

    Example: `recollect composed convert adafocal_scalar.pth --output var/adafocal`
    """
    from retrieval.composed.directory import save_model
    from retrieval.composed.encoder import load_stored
    from retrieval.composed.lavis import convert as convert_checkpoint
    from retrieval.composed.lavis import read_checkpoint
    from retrieval.errors import ComposedError

    if output.exists():
        raise ComposedError(f"{output} must be new, but something is there; choose another")
    stored = load_stored(base)
    made = convert_checkpoint(read_checkpoint(checkpoint), stored)
    save_model(
        output, made.model, stored.tokenizer, training={"converted_from": checkpoint.name, "base": base}, metrics={}
    )
    if verbose:
        for theirs, ours in made.mapped.items():
            err.print(f"{theirs} → {ours}", highlight=False, markup=False, soft_wrap=True)
        for name in made.dropped:
            err.print(f"{name} is not needed", highlight=False, markup=False, soft_wrap=True)
    err.print(
        f"{len(made.mapped)} tensors converted, {len(made.dropped)} not needed, {len(made.kept_from_base)} taken from "
        f"{base}; modulation {made.model.config.modulator.modulation}",
        highlight=False,
    )
    out.print(str(output), highlight=False, soft_wrap=True)
