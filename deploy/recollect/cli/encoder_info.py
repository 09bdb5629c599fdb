"""`recollect encoder info`: what an encoder is, without running it."""

from typing import Annotated, Any

import typer

from recollect.cli.console import err, explains_errors, show_json, show_table
from recollect.encoders import encoder_path
from recollect.settings import Settings


@explains_errors
def info(
    encoder: Annotated[
        str,
        typer.Argument(
            help="A shipped encoder, one that was trained here (`encoder@stable`), a directory, or the name of a "
            "CLIP or SigLIP on the Hugging Face hub."
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON line instead of a table.")] = False,
) -> None:
    """Say what an encoder is: its size, how it wants its images, and the fingerprint of all that decides an embedding.

    Examples:

    `recollect encoder info demo-shop`

    `recollect encoder info openai/clip-vit-base-patch32 --json`
    """
    with err.status("loading the encoder"):
        from retrieval.encoders.load import load_encoder

        found = load_encoder(encoder_path(Settings.load(), encoder))
        preprocessing = found.preprocessing
        row: dict[str, Any] = {
            "name": found.name,
            "dimension": found.dimension,
            "logit_scale": round(found.logit_scale, 4),
            "image_width": preprocessing.width,
            "image_height": preprocessing.height,
            "image_fit": preprocessing.fit.value,
            "mean": list(preprocessing.mean),
            "std": list(preprocessing.std),
            "fingerprint": found.fingerprint,
        }
    if as_json:
        show_json([row])
        return
    show_table(encoder, ["what", "value"], [(what.replace("_", " "), value) for what, value in row.items()])
