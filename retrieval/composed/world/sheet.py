"""Show people some queries of a data set: reference with its box, text, target."""

import textwrap
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from retrieval.composed.datasets.oacirr import read_oacirr
from retrieval.images import decode_image

_SIDE, _GAP, _LINE = 160, 8, 15


def contact_sheet(directory: Path, split: str, *, queries: int = 12, columns: int = 3) -> Image.Image:
    """A picture of `queries` of a split in OACIRR's format, drawn by lot, always the same, in the split's order.

    Every so many-th would not do: each object has its queries in the same order, so that all might be of one kind.
    """
    dataset = read_oacirr(directory, split)
    shown = min(queries, len(dataset.queries))
    lots = np.random.default_rng(0).choice(len(dataset.queries), shown, replace=False)
    chosen = [dataset.queries[at] for at in sorted(lots.tolist())]
    cell = 2 * _SIDE + 3 * _GAP, _SIDE + 2 * _LINE + 2 * _GAP
    rows = -(-len(chosen) // columns)
    sheet = Image.new("RGB", (cell[0] * columns, cell[1] * rows), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for number, query in enumerate(chosen):
        x, y = number % columns * cell[0] + _GAP, number // columns * cell[1] + _GAP
        reference = decode_image(dataset.images[query.reference])
        scale = _SIDE / max(reference.size)
        sheet.paste(reference.resize((_SIDE, _SIDE)), (x, y))
        if query.box is not None:
            sides = (query.box.x1, query.box.y1, query.box.x2, query.box.y2)
            placed = [side * scale + (x, y)[at % 2] for at, side in enumerate(sides)]
            draw.rectangle(placed, outline=(255, 0, 0), width=2)
        if query.target is not None:
            sheet.paste(decode_image(dataset.images[query.target]).resize((_SIDE, _SIDE)), (x + _SIDE + _GAP, y))
        draw.multiline_text((x, y + _SIDE + 2), textwrap.fill(query.text, 48), fill="black", font=font)
    return sheet
