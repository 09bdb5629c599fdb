"""Draw one composed search: the reference with its box, where the query looked, and what it found."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
from PIL import Image, ImageDraw, ImageFont

from recollect.composed.galleries import PICTURES_FILE
from recollect.composed.local import gallery_store
from recollect.errors import RecollectError
from recollect.settings import Settings
from retrieval.errors import ImageRefused
from retrieval.images import decode_image

if TYPE_CHECKING:
    from recollect_api import ComposedHit, ComposedResults
    from recollect_api.composed_wire import BoxSides

TILE, GAP, LINE = 200, 12, 20
"""Pixels: side of a picture, space between two, height of what is written below."""
COLUMNS = 5
"""Hits in a row."""
_BOX = (230, 30, 30)
_INK, _PAPER, _EMPTY = (30, 30, 30), (255, 255, 255), (225, 225, 225)
_FONT = 13
"""Pixels. Pillow's own font, which has no Greek."""


def draw_search(
    settings: Settings,
    found: "ComposedResults",
    reference: Path | str,
    box: "BoxSides | None",
    text: str,
    to: Path,
) -> None:
    """Write a PNG; `reference` is a file or the id of a picture of the gallery.

    RecollectError where this machine does not have the gallery, which says where the pictures are.
    """
    paths = _paths(settings, found)
    file = reference if isinstance(reference, Path) else paths.get(reference)
    tiles = [(_tile(file, box), "reference")]
    if found.explanation is not None:
        looked = Image.open(io.BytesIO(found.explanation.modulated_attention)).convert("RGB")
        tiles.append((_fitted(looked), f"attention, beta {sum(found.beta) / len(found.beta):.2f}"))
    hits = [(_tile(paths.get(hit.image_id)), _caption(hit)) for hit in found.hits]
    sheet = _sheet(tiles, hits, text)
    to.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(to, "PNG")


def _paths(settings: Settings, found: "ComposedResults") -> dict[str, Path]:
    table = gallery_store(settings).root / found.gallery / found.gallery_version / PICTURES_FILE
    if not table.is_file():
        raise RecollectError(
            f"version {found.gallery_version} of gallery {found.gallery!r} is not on this machine, so its pictures "
            "cannot be drawn; leave out --picture, or set RECOLLECT_VAR to where it is"
        )
    rows = pl.read_parquet(table, columns=["image_id", "path"], glob=False).rows()
    return {image_id: Path(path) for image_id, path in rows if path is not None}


def _sheet(tiles: list[tuple[Image.Image, str]], hits: list[tuple[Image.Image, str]], text: str) -> Image.Image:
    across = max(len(tiles), min(len(hits), COLUMNS))
    rows = -(-len(hits) // COLUMNS)
    step = TILE + LINE + GAP
    size = (GAP + across * (TILE + GAP), GAP + 2 * LINE + step * (1 + rows))
    sheet = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(sheet)
    font = _font()
    pen.text((GAP, GAP), f"“{text}”", fill=_INK, font=font)
    for at, (tile, words) in enumerate([*tiles, *hits]):
        row, column = (0, at) if at < len(tiles) else (1 + (at - len(tiles)) // COLUMNS, (at - len(tiles)) % COLUMNS)
        place = (GAP + column * (TILE + GAP), GAP + 2 * LINE + row * step)
        sheet.paste(tile, (place[0] + (TILE - tile.width) // 2, place[1] + (TILE - tile.height) // 2))
        pen.text((place[0], place[1] + TILE + 2), words, fill=_INK, font=font)
    return sheet


def _tile(file: Path | None, box: "BoxSides | None" = None) -> Image.Image:
    """The picture of `file` with its box, or grey where there is none."""
    try:
        if file is None:
            return Image.new("RGB", (TILE, TILE), _EMPTY)
        image = decode_image(file)
    except (ImageRefused, OSError):
        return Image.new("RGB", (TILE, TILE), _EMPTY)
    tile = _fitted(image)
    if box is not None:
        scale = tile.width / image.width
        ImageDraw.Draw(tile).rectangle([side * scale for side in box], outline=_BOX, width=3)
    return tile


def _fitted(image: Image.Image) -> Image.Image:
    scale = TILE / max(image.size)
    return image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))


def _caption(hit: "ComposedHit") -> str:
    """Score and id, as much of its end as fits below a picture: that tells more than its folder."""
    font, shown = _font(), hit.image_id
    while font.getlength(f"{hit.score:.3f} {shown}") > TILE:
        shown = f"…{shown.lstrip('…')[1:]}"
    return f"{hit.score:.3f} {shown}"


def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(_FONT)
