"""`recollect composed convert`: a released AdaFocal checkpoint becomes a model directory."""

from pathlib import Path
from typing import Annotated

import typer

from recollect.cli.console import err, explains_errors, out, show_json


@explains_errors
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="Released checkpoint, .pt or .pth.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="New directory for the model.")],
    base: Annotated[
        str, typer.Option(help="BLIP-2 checkpoint that it was trained from, by directory or hub name.")
    ] = "Salesforce/blip2-itm-vit-g",
    verbose: Annotated[bool, typer.Option("--verbose", help="Tell what became of every tensor.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON line instead of the directory.")] = False,
) -> None:
    """Convert a released AdaFocal checkpoint, which `recollect serve --composed` and every other command then takes.

    Example: `recollect composed convert adafocal_scalar.pt --output var/adafocal`
    """
    from retrieval.composed.directory import save_model
    from retrieval.composed.encoder import load_stored
    from retrieval.composed.lavis import convert as convert_checkpoint
    from retrieval.composed.lavis import read_checkpoint
    from retrieval.errors import ComposedError

    if output.exists():
        raise ComposedError(f"{output} must be new, but something is there; choose another")
    tensors = read_checkpoint(checkpoint)
    made = convert_checkpoint(tensors, load_stored(base))
    save_model(
        output, made.model, made.tokenizer, training={"converted_from": checkpoint.name, "base": base}, metrics={}
    )
    if verbose:
        lines = [f"{theirs} → {ours}" for theirs, ours in made.mapped.items()]
        lines += [f"{name} is not needed" for name in made.dropped]
        lines += [f"{name} is that of {base}" for name in made.kept_from_base]
        err.print("\n".join(lines), highlight=False, soft_wrap=True)
    modulation = made.model.config.modulator.modulation
    if as_json:
        show_json(
            [
                {
                    "directory": str(output),
                    "modulation": modulation,
                    "converted": len(made.mapped),
                    "not_needed": len(made.dropped),
                    "from_base": len(made.kept_from_base),
                }
            ]
        )
        return
    err.print(
        f"{len(made.mapped)} tensors converted, {len(made.dropped)} not needed, {len(made.kept_from_base)} taken from "
        f"{base}; modulation {modulation}",
        highlight=False,
        soft_wrap=True,
    )
    out.print(str(output), highlight=False, soft_wrap=True)
