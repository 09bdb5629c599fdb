"""`recollect encoder export`: an encoder in, the same for ONNX Runtime out, in fp32 or int8."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recollect.cli.console import err, explains_errors, out, show_json
from recollect.encoders import encoder_path
from recollect.settings import Settings

if TYPE_CHECKING:
    from PIL import Image

    from retrieval.encoders.preprocessing import Preprocessing

MOST_PICTURES = 200
"""That int8 is calibrated on; more change nothing."""
_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp"})


@explains_errors
def export(
    source: Annotated[
        str,
        typer.Argument(
            help="Encoder: a shipped one, one that was trained here (`encoder@stable`), a directory, or the name of a "
            "CLIP or SigLIP on the Hugging Face hub."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="New directory to write.")],
    int8: Annotated[
        bool, typer.Option("--int8", help="Weights of 8 bits: less than half the size, and faster on a CPU.")
    ] = False,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Pictures like those to come. Encoders of convolutions need them for --int8; the export is compared "
            "with its source on them.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON line instead of a sentence.")] = False,
) -> None:
    """Write an encoder for ONNX Runtime, which serves it without torch. Published only if it embeds as its source does.

    Examples:

    `recollect encoder export openai/clip-vit-base-patch32 --output clip-int8 --int8`

    `recollect encoder export demo-shop --output demo-int8 --int8 --calibrate photos`
    """
    with err.status("loading the encoder") as status:
        from retrieval.encoders.load import load_encoder
        from retrieval.encoders.onnx_export import export_onnx

        encoder = load_encoder(encoder_path(Settings.load(), source))
        pictures = None if calibrate is None else _pictures(calibrate, encoder.preprocessing)
        status.update("exporting, which takes about a minute for a ViT-B/32")
        made = export_onnx(encoder, output, int8=int8, calibration=pictures)
    row = {
        "directory": str(made.directory),
        "precision": made.precision,
        "megabytes": round(made.bytes / 1e6, 1),
        "image_cosine": round(made.image_cosine, 6),
        "text_cosine": round(made.text_cosine, 6),
    }
    if as_json:
        show_json([row])
        return
    out.print(
        f"{made.directory}: {made.precision}, {row['megabytes']} MB; embeds as its source does, with a cosine of at "
        f"least {made.image_cosine:.4f} for pictures and {made.text_cosine:.4f} for texts",
        highlight=False,
        soft_wrap=True,
    )


def _pictures(folder: Path, preprocessing: "Preprocessing") -> "list[Image.Image]":
    """Pictures from all over `folder`; stderr is told which cannot be used."""
    from retrieval.errors import DatasetError, ImageRefused
    from retrieval.images import decode_image

    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())
    found = []
    for path in paths[:: max(1, len(paths) // MOST_PICTURES)][:MOST_PICTURES]:
        try:
            found.append(decode_image(path, target=preprocessing.shrinks_to))
        except (ImageRefused, OSError) as error:
            err.print(f"{path}: {error}", highlight=False, soft_wrap=True)
    if not found:
        raise DatasetError(f"--calibrate must be a folder with pictures ({', '.join(sorted(_SUFFIXES))}), got {folder}")
    return found
